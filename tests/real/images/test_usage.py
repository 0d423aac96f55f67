"""What images take, and what containers write beside them."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ocigrpc.engine.images.layers import usage
from ocigrpc.engine.images.layers.quotas import Layer
from ocigrpc.engine.images.layers.usage import WritableLayers
from ocigrpc.host.files.usage import usage_of
from ocigrpc.v1.config_pb2 import ContainerConfig
from ocigrpc.v1.image_pb2 import (
    ImageFilter,
    PruneImagesRequest,
    PruneImagesResponse,
    WritableLayer,
)
from tests.bed.clients.command import Command
from tests.bed.hosts.leaks import LIMIT_S, until
from tests.bed.hosts.mounted import mounted
from tests.bed.images.containers import create_of
from tests.bed.images.layout import Image, write_layout
from tests.bed.images.pulling import Puller

NAME = "localhost/small:1"
MIB = 1 << 20

# Two names of one file, another one, and a directory.
WRITES = "dd if=/dev/zero of=/a bs=1M count=3; ln /a /b; mkdir /d; dd if=/dev/zero of=/d/c count=8"


def layers(puller: Puller) -> list[WritableLayer]:
    return list(puller.client.image_fs_info().writable_layers)


def test_what_a_container_writes_is_measured_with_its_time(
    start_pulling: Callable[..., Puller], small_image: Image, tmp_path: Path
) -> None:
    puller = start_pulling(images_usage_interval_s=1)
    source = write_layout(tmp_path / "layout", {"it": small_image})
    puller.pull(f"oci:{source}:it", name=NAME)
    service = puller.service
    read_only = create_of(service, NAME, "/bin/true", config=ContainerConfig(readonly_rootfs=True))
    container_id = create_of(service, NAME, "/bin/sh", "-c", WRITES)
    assert [each.container_id for each in layers(puller)] == [container_id]
    service.start_container(container_id)
    assert service.wait(container_id).exit_code == 0
    # As it was when the container had ended: a round that began before that may show less.
    ended_s = time.time()
    until(lambda: layers(puller)[0].measured_at.ToNanoseconds() > (ended_s + 1) * 1e9)
    (layer,) = layers(puller)
    uppers = (service.directory / "root/rootfs").glob("*/upper")
    (upper,) = (each for each in uppers if (each / "a").exists())
    assert layer.used.bytes == sum(
        path.lstat().st_blocks * 512 for path in (upper, *upper.rglob("*")) if path.name != "b"
    )
    assert layer.used.inodes == len([*upper.rglob("*")])
    assert layer.used.bytes > 3 * MIB
    assert layer.measured_at.ToNanoseconds() < time.time_ns()
    info = puller.client.image_fs_info()
    assert (info.image_count, info.reclaimable_bytes) == (1, 0)
    df = Command(service).lines("system", "df", "--format", "{{.Type}} {{.Total}} {{.Reclaimable}}")
    assert df == ["Images 1 0 B (0%)", "Containers 1 3.0 MiB (100%)"]
    for each in (read_only, container_id):
        service.remove(each)
    assert layers(puller) == []
    info = puller.client.image_fs_info()
    assert info.reclaimable_bytes == info.image_bytes > 0


def test_an_image_names_its_containers_and_is_not_pruned_while_it_has_one(
    puller: Puller, small_image: Image, tmp_path: Path
) -> None:
    source = write_layout(tmp_path / "layout", {"it": small_image})
    puller.pull(f"oci:{source}:it", name=NAME)
    client, unused = puller.client, ImageFilter(unused=True)
    prune = PruneImagesRequest(all=True)
    assert not client.image_status(NAME).HasField("last_used_at")
    ids = sorted(create_of(puller.service, NAME, "/bin/true") for _ in range(2))
    status = client.image_status(NAME)
    assert (list(status.container_ids), status.image.containers) == (ids, 2)
    assert list(client.list_images(unused)) == []
    assert client.prune_images(prune) == PruneImagesResponse()
    for each in ids:
        puller.service.remove(each)
    status = client.image_status(NAME)
    used_ns = status.last_used_at.ToNanoseconds()
    assert (status.image.containers, used_ns > status.image.pulled_at.ToNanoseconds()) == (0, True)
    (shown,) = client.list_images(unused)
    assert list(client.prune_images(prune).images) == [shown]
    assert puller.storage.layers() == []


def test_a_defect_does_not_end_the_measuring(tmp_path: Path) -> None:
    rounds = list[int]()

    def layers() -> dict[str, Layer]:
        rounds.append(1)
        if len(rounds) == 1:
            raise RuntimeError("a defect")
        return {"c": Layer(str(tmp_path))}

    measured = WritableLayers(layers, 0.01)
    measured.start()
    until(lambda: len(rounds) > 1)
    until(lambda: measured.figures()[0].measured_ns > 0)
    measured.close()


def test_a_disk_that_does_not_answer_holds_up_no_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(usage, "_CLOSE_S", 0.01)
    reached, answers = threading.Event(), threading.Event()

    def layers() -> dict[str, Layer]:
        reached.set()
        answers.wait(LIMIT_S)
        return {}

    measured = WritableLayers(layers, 0.01)
    measured.start()
    assert reached.wait(LIMIT_S)
    measured.close()
    answers.set()


def test_what_is_mounted_there_is_not_counted(tmp_path: Path) -> None:
    (tmp_path / "top/mounted").mkdir(parents=True)
    before = usage_of(str(tmp_path / "top"), lambda: None)
    with mounted(tmp_path / "top/mounted", "-t", "tmpfs", "tmpfs"):
        (tmp_path / "top/mounted/file").write_bytes(os.urandom(MIB))
        found = usage_of(str(tmp_path / "top"), lambda: None)
    # Not even the mount point, which is a directory of the other file system.
    assert (before.inodes - found.inodes, found.bytes <= before.bytes) == (1, True)
