"""The largest of everything: it is taken, answers fit every client, events stay small."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from google.protobuf.duration_pb2 import Duration

from ocigrpc.service.from_proto import LABELS_LIMIT_BYTES
from ocigrpc.v1 import event_pb2
from ocigrpc.v1 import runtime_pb2 as pb
from tests.bed.clients.exec import exec_sync, shell
from tests.bed.clients.limits import update
from tests.bed.hosts.leaks import LIMIT_S
from tests.bed.services.service import Service
from tests.real.conftest import crun_host, serving, used

# JSON of Go makes six bytes of each of them.
ANNOTATIONS = {"checkpoint": "<" * (LABELS_LIMIT_BYTES - 10)}
LABELS = {"big": "v" * (LABELS_LIMIT_BYTES - 3)}
NAME = f"{'n' * 250}-0"
MANY = 24
"""Containers whose labels and annotations no message holds."""


@pytest.fixture(scope="module", params=["runc", "crun"])
def _service(request: pytest.FixtureRequest, rootfs: Path) -> Iterator[Service]:
    with crun_host() as host, serving(host, rootfs, default_runtime=request.param) as service:
        yield service


@pytest.fixture
def service(_service: Service) -> Iterator[Service]:
    with used(_service):
        yield _service


def test_a_container_with_the_largest_annotations_and_labels_lives_as_any_other(
    service: Service,
) -> None:
    container_id = service.create(
        "exec sleep 1000", name=NAME, labels=LABELS, annotations=ANNOTATIONS
    ).container_id
    service.start_container(container_id)
    status = service.status(container_id)
    assert (status.name, dict(status.labels), dict(status.annotations)) == (
        NAME,
        LABELS,
        ANNOTATIONS,
    )
    assert exec_sync(service, container_id, shell("exit 3")).exit.exit_code == 3
    service.pause(container_id)
    service.resume(container_id)
    update(service, container_id, pids_limit=50)
    info = service.info(container_id)
    assert ("state" in info) != ("state_error" in info)
    service.stop(container_id, 0)
    service.remove(container_id)


def test_one_that_was_paused_by_hand_is_seen_whatever_its_annotations(service: Service) -> None:
    container_id = service.run(annotations=ANNOTATIONS)
    runtime = service.status(container_id).runtime_handler
    root = service.directory / runtime
    argv = [runtime, "--root", str(root), "pause", container_id]
    subprocess.run(service.host.command(argv), check=True, timeout=LIMIT_S)
    assert service.state(container_id) == "paused"


def test_annotations_of_a_spec_may_be_as_long(service: Service) -> None:
    request = pb.CreateContainerRequest(config=service.config("exec sleep 1000"))
    made = service.client.create_container(request)
    text = (service.directory / "run/containers" / made.container_id / "config.json").read_text()
    spec = json.loads(text)
    spec["annotations"] = {"own": "v" * 200_000}
    again = pb.CreateContainerRequest(spec_json=json.dumps(spec), annotations=ANNOTATIONS)
    container_id = service.client.create_container(again).container_id
    service.start_container(container_id)
    assert service.state(container_id) == "running"


def test_lists_of_the_largest_containers_fit_every_client(service: Service) -> None:
    made = [
        service.create(labels=LABELS, annotations={"a": "v" * 200_000}).container_id
        for _ in range(MANY)
    ]
    # Which do take no more than 4 MiB, as the stub does.
    assert list_ids(service) == made
    assert stats_ids(service) == made
    request = pb.WatchStatsRequest(interval=Duration(seconds=60))
    watch = service.wire.WatchStats(request, timeout=LIMIT_S)
    seen: list[str] = []
    for message in watch:
        seen += [each.container_id for each in message.stats]
        if not message.more:
            break
    watch.cancel()
    assert seen == made


def list_ids(service: Service) -> list[str]:
    """The containers on all pages of ListContainers."""
    request, found = pb.ListContainersRequest(), list[str]()
    while True:
        answer = service.wire.ListContainers(request, timeout=LIMIT_S)
        found += [each.container_id for each in answer.containers]
        if not answer.next_page_token:
            return found
        request.page_token = answer.next_page_token


def stats_ids(service: Service) -> list[str]:
    """The containers on all pages of ListContainerStats."""
    request, found = pb.ListContainerStatsRequest(page_size=7), list[str]()
    while True:
        answer = service.wire.ListContainerStats(request, timeout=LIMIT_S)
        assert len(answer.stats) <= 7
        found += [each.container_id for each in answer.stats]
        if not answer.next_page_token:
            return found
        request.page_token = answer.next_page_token


def test_events_are_small_whatever_the_labels_and_can_be_filtered_by_them(
    service: Service,
) -> None:
    labelled = service.run(labels={**LABELS, "a": ""} | {"big": "v" * 200_000})
    other = service.run(labels={"a": ""})
    for container_id in (labelled, other):
        service.pause(container_id)
        service.resume(container_id)
        service.remove(container_id, force=True)
    wanted = event_pb2.EventFilter(label_selector={"big": "v" * 200_000})
    kinds = []
    with service.client.watch_events(0, wanted, timeout_s=LIMIT_S) as watch:
        for message in watch:
            for event in message.events:
                assert event.container_id == labelled
                assert event.ByteSize() < 1024
                kinds.append(event.kind)
            if event_pb2.EVENT_KIND_REMOVED in kinds:
                break
    assert kinds[0] == event_pb2.EVENT_KIND_CREATED
    assert len(kinds) == 6
