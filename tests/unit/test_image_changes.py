"""How a store of images is changed beside other programs that do."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ocigrpc.image_errors import ImageUnusable
from ocigrpc.oci.images.storage import CONTAINER_FILES, IMAGES_FILE, IMAGES_LOCK
from ocigrpc.settings.images import ImagesSettings
from ocigrpc.settings.values import Settings
from ocigrpc.waiting import Deadline
from tests.bed.hosts.leaks import until
from tests.bed.images.opened import opened_images
from tests.unit.test_images import A, B, Store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    root = tmp_path / "root"
    settings = ImagesSettings(root=str(root), run=f"{root}-run", parallel_pulls=1)
    with opened_images(tmp_path, settings) as images:
        yield Store(root, images)


def killed_in(step: str, change: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a change in a process that is killed when it comes to a call of ``os``."""
    child = os.fork()
    if not child:
        monkeypatch.setattr(os, step, lambda *args, **named: os.kill(os.getpid(), signal.SIGKILL))
        change()
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WTERMSIG(status) == signal.SIGKILL


def test_others_know_of_a_change_before_it_is_made(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    (store.root / IMAGES_LOCK).write_bytes(b"before")
    before = store.names()
    killed_in("rename", lambda: store.images.tag(A, "new", Deadline(20)), monkeypatch)
    assert store.names() == before
    assert len((store.root / IMAGES_LOCK).read_bytes()) == 64


def test_a_change_that_is_cut_off_leaves_nothing_after_the_next(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = set(os.listdir((store.root / IMAGES_FILE).parent)) | {Path(IMAGES_LOCK).name}
    for _ in range(2):
        killed_in("rename", lambda: store.images.tag(A, "new", Deadline(20)), monkeypatch)
    assert store.images.tag(A, "new", Deadline(20)).name == "localhost/new:latest"
    assert set(os.listdir((store.root / IMAGES_FILE).parent)) == files


@pytest.mark.parametrize("file", CONTAINER_FILES)
def test_containers_of_other_programs_use_images_wherever_they_are_listed(
    store: Store, file: str
) -> None:
    store.write(file, [{"id": "c", "image": A, "layer": "x"}])
    before = store.names()
    with pytest.raises(ImageUnusable) as caught:
        store.images.remove(A, True, Deadline(20))
    assert caught.value.reason == "IMAGE_IN_USE"
    assert store.names() == before
    assert store.ids(unused=True) == [B]
    assert store.pruned(all=True) == ([B], 0)


def test_more_parallel_pulls_wake_who_waits_for_a_place(store: Store, tmp_path: Path) -> None:
    got, places = threading.Event(), store.images._pulls._copying

    def take() -> None:
        with places.taken(Deadline(20)):
            got.set()

    thread = threading.Thread(target=take)
    with places.taken(Deadline()):
        thread.start()
        until(lambda: len(places._wakers) == 1)
        more = ImagesSettings(root=str(store.root), parallel_pulls=2)
        store.images.reload(Settings(root_dir=str(tmp_path), images=more))
        assert got.wait(10)
    thread.join()
