"""How a store of images is changed beside other programs that do."""

from __future__ import annotations

import os
import resource
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ocigrpc.engine.images import archives
from ocigrpc.engine.images.find import Finder
from ocigrpc.engine.images.pulling import pulls
from ocigrpc.engine.images.pulling.job import Job
from ocigrpc.engine.images.pulling.wanted import Wanted
from ocigrpc.engine.images.removal import Removal
from ocigrpc.engine.images.storage import Image, Snapshot, Storage
from ocigrpc.engine.model.events import EventKind
from ocigrpc.engine.model.image_records import PullRecord
from ocigrpc.engine.model.images import PruneRequest, RemovedImage
from ocigrpc.errors import HostFailed, StoreFailed
from ocigrpc.image_errors import ImageNotFound, ImageUnusable
from ocigrpc.oci.images.archive import ArchiveForm
from ocigrpc.oci.images.platform import Platform
from ocigrpc.oci.images.storage import CONTAINER_FILES, IMAGES_FILE, IMAGES_LOCK
from ocigrpc.settings.images import ImagesSettings
from ocigrpc.settings.values import Settings
from ocigrpc.waiting import Deadline
from tests.bed.hosts.leaks import until
from tests.bed.images.opened import opened_images
from tests.unit.test_images import DIGEST, A, B, C, Store, image
from tests.unit.test_pulls import FOUND, MANIFEST


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


def events(store: Store) -> list[tuple[str, str, str]]:
    """What is said of images, by their ids and names."""
    found = store.images._records._store._events(0, 100)
    return [(str(each.kind), each.object_id, each.name) for each in found]


def test_each_name_that_goes_over_is_said_of_the_image_that_loses_it(store: Store) -> None:
    store.put(
        image(A, "top", ["r.io/a:1"]), image(B, "low", ["r.io/b:1"]), image(C, "low", ["r.io/c:1"])
    )
    names = dict.fromkeys(("r.io/b:1", "r.io/a:1"), f"sha256:{'e' * 64}")
    store.images._pulls._name(C, "", names, Deadline(20))
    lost = [each for each in events(store) if each[0] == EventKind.UNTAGGED]
    assert sorted(lost) == [
        (EventKind.UNTAGGED, A, "r.io/a:1"),
        (EventKind.UNTAGGED, B, "r.io/b:1"),
    ]


def before_edit(do: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> None:
    """Have something done just before the next change of the list of images."""
    edit = Storage.edit_images

    def edit_later(storage: Storage, change: Callable[[bytes], bytes], deadline: Deadline) -> None:
        monkeypatch.setattr(Storage, "edit_images", edit)
        do()
        edit(storage, change, deadline)

    monkeypatch.setattr(Storage, "edit_images", edit_later)


def test_a_name_is_lost_by_the_image_that_has_it_when_it_goes_over(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.put(image(A, "top", None), image(B, "low", ["r.io/x:1"]), image(C, "low", None))

    def move() -> None:
        store.put(image(A, "top", None), image(B, "low", None), image(C, "low", ["r.io/x:1"]))

    before_edit(move, monkeypatch)
    assert store.images.tag(A, "r.io/x:1", Deadline(20)) == ("r.io/x:1", C)
    assert events(store)[0] == (EventKind.UNTAGGED, C, "r.io/x:1")


@pytest.mark.parametrize("until_free_bytes", [0, 1 << 60])
def test_an_image_that_goes_later_is_not_pruned_now_and_has_no_other_go_instead(
    store: Store, monkeypatch: pytest.MonkeyPatch, until_free_bytes: int
) -> None:
    asked = list[str]()

    def remove(removal: Removal, text: str, all_names: bool, deadline: Deadline) -> RemovedImage:
        asked.append(text)
        if text == B:
            store.put(image(A, "top", None))
        return RemovedImage()

    monkeypatch.setattr(Removal, "remove", remove)
    request = PruneRequest(all=True, until_free_bytes=until_free_bytes)
    pruned = store.images.prune(request, Deadline(20))
    if until_free_bytes:
        # Its room is yet to come.
        assert (asked, pruned.images) == ([A], ())
    else:
        assert (asked, [each.image_id for each in pruned.images]) == ([A, B], [B])


def test_pulls_that_do_not_end_hold_up_no_close(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pulls, "_CLOSE_S", 0.1)
    wanted = Wanted("a", FOUND, MANIFEST, Platform("linux", "amd64"), None, FOUND.source)
    job = store.images._pulls._jobs[wanted.key] = Job(wanted)
    closing = threading.Thread(target=store.images._pulls.close)
    closing.start()
    closing.join(20)
    hangs = closing.is_alive()
    job.end(None)
    closing.join()
    assert (hangs, job.deadline.cancelled) == (False, True)


def test_of_what_is_received_all_is_written_or_it_fails(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    # The kernel writes as much as this allows.
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, hard))
    try:
        with pytest.raises(HostFailed):
            archives._write(str(tmp_path / "packed"), [b"x" * (1 << 16) + b"y"])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_one_name_of_several_is_taken_and_the_image_is_lent_by_the_others_meanwhile(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.put(image(A, "top", ["r.io/a:1", "r.io/a:2"]))
    withheld = list[bool]()
    before_edit(lambda: withheld.append(bool(store.images.roots._withheld[A])), monkeypatch)
    assert store.images.remove("r.io/a:1", False, Deadline(20)) == (("r.io/a:1",), "", ())
    assert withheld == [False]


def test_an_image_is_lent_until_its_last_name_is_taken(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    withheld = list[bool]()
    before_edit(lambda: withheld.append(bool(store.images.roots._withheld[A])), monkeypatch)
    monkeypatch.setattr(store.images._tidying, "remove", lambda image_id, deadline: ())
    assert store.images.remove(A, True, Deadline(20)).image_id == A
    assert withheld == [False]


def test_a_name_that_turns_out_to_be_the_last_one_is_not_taken_from_others_containers(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.put(image(A, "top", ["r.io/a:1", "r.io/a:2"]))
    store.write(CONTAINER_FILES[0], [{"id": "c", "image": A, "layer": "x"}])
    before_edit(lambda: store.put(image(A, "top", ["r.io/a:1"])), monkeypatch)
    with pytest.raises(ImageUnusable) as caught:
        store.images.remove("r.io/a:1", False, Deadline(20))
    assert caught.value.reason == "IMAGE_IN_USE"
    assert store.names() == {A: ["r.io/a:1"]}


def test_an_image_that_others_begin_to_use_while_it_is_removed_keeps_its_names(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    delete = store.images._tidying.remove

    def used_and_deleted(image_id: str, deadline: Deadline) -> tuple[str, ...]:
        store.write(CONTAINER_FILES[0], [{"id": "c", "image": A, "layer": "x"}])
        # Others may get one of them meanwhile.
        store.put(image(A, "top", None), image(B, "low", ["r.io/a:2"]))
        return delete(image_id, deadline)

    monkeypatch.setattr(store.images._tidying, "remove", used_and_deleted)
    store.put(image(A, "top", ["r.io/a:1", "r.io/a:2"]), image(B, "low", None))
    with pytest.raises(ImageUnusable) as caught:
        store.images.remove(A, True, Deadline(20))
    assert caught.value.reason == "IMAGE_IN_USE"
    assert caught.value.metadata == {"image": A, "containers": "1"}
    assert store.names() == {A: ["r.io/a:1"], B: ["r.io/a:2"]}
    assert events(store)[-1] == (EventKind.TAGGED, A, "r.io/a:1")
    assert store.ids() == [B, A]


def test_a_name_that_another_image_has_got_is_not_taken_from_it(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.put(image(A, "top", ["r.io/a:1", "r.io/a:2"]), image(B, "low", None))

    def move() -> None:
        store.put(image(A, "top", ["r.io/a:2"]), image(B, "low", ["r.io/a:1"]))

    before_edit(move, monkeypatch)
    assert store.images.remove("r.io/a:1", False, Deadline(20)) == ((), "", ())
    assert store.names() == {A: ["r.io/a:2"], B: ["r.io/a:1"]}
    assert events(store) == []


def test_an_image_that_is_removed_before_it_is_noted_as_lent_is_not_lent(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    get = Finder.get

    def get_and_remove(finder: Finder, snapshot: Snapshot, text: str) -> Image:
        found = get(finder, snapshot, text)
        store.put(image(B, "low", ["r.io/b:1"]))
        return found

    monkeypatch.setattr(Finder, "get", get_and_remove)
    with pytest.raises(ImageNotFound):
        store.images.roots.lend(A, "c", readonly=False)
    assert store.images.roots.users(A) == ()


def test_an_image_that_is_removed_while_it_is_saved_is_not_found(
    store: Store, tmp_path: Path
) -> None:
    skopeo = tmp_path / "skopeo"
    skopeo.write_text(f"#!/bin/sh\necho '[]' >{store.root / IMAGES_FILE}\nexit 1\n")
    skopeo.chmod(0o755)
    settings = ImagesSettings(root=str(store.root), skopeo=str(skopeo))
    store.images.reload(Settings(root_dir=str(tmp_path), images=settings))
    for form in ArchiveForm:
        store.put(image(A, "top", ["r.io/a:1"]))
        with pytest.raises(ImageNotFound):
            list(store.images.save(A, form, Deadline(20)))


def test_a_pull_whose_record_may_not_survive_is_undone(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    records, tidying = store.images._records._store, store.images._pulls._tidying

    def changed(pull_id: str) -> None:
        record = PullRecord(pull_id, "docker://r.io/a", DIGEST, Platform(), (), 1, C)
        with tidying.changing(record, Deadline(20)):
            pass

    with monkeypatch.context() as failing:
        failing.setattr(records, "sync", raising(StoreFailed("no sync")))
        with pytest.raises(StoreFailed):
            changed("1")
    changed("2")
    assert records.records(PullRecord) == []


def raising(error: Exception) -> Callable[[], None]:
    def fail() -> None:
        raise error

    return fail
