"""Disks that are full at a step of a pull: it says so, and the next one works with room."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing
from pathlib import Path

import pytest

from ocigrpc.engine.images.images import Images
from ocigrpc.engine.images.storage import Storage as ImageStorage
from ocigrpc.engine.model.images import ImageFilter
from ocigrpc.engine.model.pulls import PullRequest
from ocigrpc.engine.store.store import Store
from ocigrpc.image_errors import StorageFull
from ocigrpc.settings.images import ImagesSettings
from ocigrpc.settings.values import Settings
from ocigrpc.waiting import Deadline
from tests.bed.clients.refusal import refused
from tests.bed.hosts.disks import Disk, read_only
from tests.bed.hosts.leaks import LIMIT_S, until
from tests.bed.hosts.mounted import mounted
from tests.bed.images.faulty_registry import FaultyRegistry, Stall
from tests.bed.images.layers import file
from tests.bed.images.layout import Image, image, write_layout
from tests.bed.images.pulling import Puller
from tests.bed.images.storages import Storage

StartPulling = Callable[..., Puller]
Fill = Callable[[Disk], AbstractContextManager[None]]

_DISK_BYTES = 32 << 20
_INODES = 400

FILLED: list[Fill] = [Disk.full, Disk.without_inodes]


@pytest.fixture
def disk() -> Iterator[Disk]:
    """A disk of ext4 in a file, on which overlays can be."""
    with tempfile.TemporaryDirectory(prefix="ocigrpc-full-", dir="/var/tmp") as directory:
        content, path = Path(directory, "content"), Path(directory, "disk")
        content.touch()
        os.truncate(content, _DISK_BYTES)
        subprocess.run(["mkfs.ext4", "-q", "-N", str(_INODES), str(content)], check=True)
        path.mkdir()
        with mounted(path, "-o", "loop", str(content)):
            yield Disk(path)


@pytest.fixture
def made() -> Image:
    return image(*([file(f"f{number}", os.urandom(200_000))] for number in range(3)))


@pytest.mark.parametrize("fill", FILLED)
def test_a_pull_does_not_begin_on_a_disk_that_is_full(
    start_pulling: StartPulling,
    faulty_registry: FaultyRegistry,
    made: Image,
    disk: Disk,
    fill: Fill,
) -> None:
    puller = start_pulling(images_root=disk.path / "images", images_run=disk.path / "run")
    small = puller.pull(faulty_registry.push(image([file("small")]), "small"))
    name = faulty_registry.push(made, "made")
    with fill(disk):
        with refused("RESOURCE_EXHAUSTED", "STORAGE_FULL"):
            puller.pull(name)
        assert faulty_registry.count("/made/blobs/") == 0
        assert list(puller.client.list_images()) == [small]
    assert puller.pull(name).image_id == made.image_id
    puller.service.end()


@pytest.mark.parametrize("fill", FILLED)
def test_a_disk_that_becomes_full_while_a_layer_is_received_ends_the_pull(
    start_pulling: StartPulling,
    faulty_registry: FaultyRegistry,
    made: Image,
    disk: Disk,
    fill: Fill,
) -> None:
    puller = start_pulling(images_root=disk.path / "images", images_run=disk.path / "run")
    storage = Storage(disk.path / "images", disk.path / "run")
    small = puller.pull(faulty_registry.push(image([file("small")]), "small"))
    stall = Stall(after_bytes=1000)
    faulty_registry.goes_wrong(stall, made.layers[2].digest)
    name = faulty_registry.push(made, "made")
    with puller.client.pull_image(name) as answers:
        stall.wait()
        # A layer is whole by then, and has to be taken back.
        until(lambda: len(storage.layers()) > 1)
        with fill(disk):
            faulty_registry.goes_well()
            with refused("RESOURCE_EXHAUSTED", "STORAGE_FULL"):
                list(answers)
            assert list(puller.client.list_images()) == [small]
    assert puller.pull(name).image_id == made.image_id
    puller.client.remove_image(name)
    until(lambda: len(storage.layers()) == 1)
    assert storage.leaks() == []
    puller.service.end()


def test_a_disk_that_becomes_full_before_the_image_has_its_name_ends_the_pull(
    made: Image, disk: Disk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layout = write_layout(tmp_path / "layout", {"made": made})
    request = PullRequest(f"oci:{layout}:made", name="localhost/made:1")
    images = ImagesSettings(root=str(disk.path / "images"), run=str(disk.path / "run"))
    settings = Settings(root_dir=str(tmp_path), run_dir=str(tmp_path), images=images)
    edit = ImageStorage.edit_images
    with (
        closing(Store(tmp_path / "ocigrpc.db", 100)) as store,
        closing(Images(settings, store)) as opened,
        ExitStack() as filled,
    ):

        def edit_full(
            storage: ImageStorage, change: Callable[[bytes], bytes], deadline: Deadline
        ) -> None:
            filled.enter_context(disk.full())
            edit(storage, change, deadline)

        monkeypatch.setattr(ImageStorage, "edit_images", edit_full)
        with pytest.raises(StorageFull):
            list(opened.pull(request, Deadline(LIMIT_S)))
        assert list(opened.list_images(ImageFilter())) == []
        filled.close()
        monkeypatch.undo()
        list(opened.pull(request, Deadline(LIMIT_S)))
        assert [each.names for each in opened.list_images(ImageFilter())] == [("localhost/made:1",)]
    assert Storage(disk.path / "images", disk.path / "run").leaks() == []


def test_a_store_that_can_not_be_written_is_shown_and_changed_by_nobody(
    start_pulling: StartPulling, faulty_registry: FaultyRegistry, made: Image, disk: Disk
) -> None:
    puller = start_pulling(images_root=disk.path / "images", images_run=disk.path / "run")
    client = puller.client
    small = puller.pull(faulty_registry.push(image([file("small")]), "small"))
    name = faulty_registry.push(made, "made")
    with read_only(disk.path):
        for change in (
            lambda: puller.pull(name),
            lambda: client.tag_image(small.image_id, "localhost/x:1"),
            lambda: client.remove_image(small.image_id),
        ):
            with refused("INTERNAL", "HOST_FAILED"):
                change()
        assert list(client.list_images()) == [small]
    assert list(client.list_images()) == [small]
    assert puller.pull(name).image_id == made.image_id
    puller.service.end()
