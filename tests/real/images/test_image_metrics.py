"""What metrics show of images and their pulls."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from ocigrpc.image_errors import ImageNotFound
from tests.bed.clients.metrics import Metrics
from tests.bed.hosts.leaks import until
from tests.bed.images.faulty_registry import FaultyRegistry, Stall
from tests.bed.images.layers import file
from tests.bed.images.layout import image
from tests.bed.images.pulling import Puller

StartPulling = Callable[..., Puller]

BYTES = os.urandom(1 << 20)


@pytest.fixture
def puller(start_pulling: StartPulling) -> Puller:
    return start_pulling(metrics_address="127.0.0.1:0")


def pulls(metrics: Metrics, result: str) -> float:
    return metrics.value("ocigrpc_pull_duration_seconds_count", result=result)


def test_images_are_counted_and_layers_that_they_share_once(
    puller: Puller, faulty_registry: FaultyRegistry
) -> None:
    metrics = Metrics(puller.service)
    assert metrics.value("ocigrpc_images") == 0
    shared = [file("shared", BYTES)]
    for number in range(2):
        made = image(shared, [file(f"own-{number}")])
        puller.pull(faulty_registry.push(made, f"image-{number}"))
    usage = puller.client.image_fs_info()
    assert metrics.value("ocigrpc_images") == 2
    assert len(BYTES) < metrics.value("ocigrpc_image_bytes") < 2 * len(BYTES)
    assert metrics.value("ocigrpc_image_bytes") == usage.image_bytes


def test_a_pull_is_counted_by_its_result_and_bytes_once(
    puller: Puller, faulty_registry: FaultyRegistry
) -> None:
    metrics = Metrics(puller.service)
    made = image([file("whole", BYTES)], [file("b")])
    name = faulty_registry.push(made, "a")
    for _ in range(3):
        puller.pull(name)
    assert (pulls(metrics, "pulled"), pulls(metrics, "present")) == (1, 2)
    received = sum(len(each.data) for each in made.layers)
    assert metrics.value("ocigrpc_pulled_bytes_total") == received
    with pytest.raises(ImageNotFound):
        puller.pull(f"{faulty_registry.host}/none:1")
    assert pulls(metrics, "IMAGE_NOT_FOUND") == 1
    assert metrics.value("ocigrpc_pulled_bytes_total") == received


def test_pulls_that_run_are_counted_and_given_up_ones_are_cancelled(
    puller: Puller, faulty_registry: FaultyRegistry
) -> None:
    metrics = Metrics(puller.service)
    made = image([file("a", BYTES)])
    name = faulty_registry.push(made, "a")
    stall = Stall(after_bytes=len(BYTES) // 2)
    faulty_registry.goes_wrong(stall, made.layers[0].digest)
    with puller.client.pull_image(name) as answers:
        stall.wait()
        next(answers)
        assert metrics.value("ocigrpc_pulls_running") == 1
        until(lambda: metrics.value("ocigrpc_pulled_bytes_total") > 0)
    until(lambda: metrics.value("ocigrpc_pulls_running") == 0)
    until(lambda: pulls(metrics, "CANCELLED") == 1)
    assert metrics.value("ocigrpc_pulled_bytes_total") < len(BYTES)
