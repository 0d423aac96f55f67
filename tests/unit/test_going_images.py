"""Images that are to go: none is forgotten, and each answer is one to its own question."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing
from pathlib import Path
from threading import Event

import pytest

from ocigrpc.engine.images.find import Finder
from ocigrpc.engine.images.pulling.background import Background
from ocigrpc.engine.images.pulling.deletions import Deletions
from ocigrpc.engine.images.pulling.going import Going, GoingImages
from ocigrpc.engine.images.pulling.tidying import Tidying
from ocigrpc.engine.images.pulling.unended import Unended
from ocigrpc.engine.images.records import ImageRecords
from ocigrpc.engine.images.rootfs import Roots
from ocigrpc.engine.images.storage import Storage
from ocigrpc.engine.model.image_records import PullRecord, RemovalRecord
from ocigrpc.engine.model.rootfs import RootfsRecord
from ocigrpc.engine.store.store import Store
from ocigrpc.errors import HostFailed, OcigrpcError, Timeout
from ocigrpc.host.files.locked_file import record_locked
from ocigrpc.oci.images import lists
from ocigrpc.oci.images.platform import Platform
from ocigrpc.oci.images.storage import IMAGES_FILE, LAYERS_FILE, LAYERS_LOCK
from ocigrpc.settings.images import ImagesSettings
from ocigrpc.settings.values import Settings
from ocigrpc.waiting import Deadline
from tests.bed.hosts.leaks import LIMIT_S, until

A, B, C = (letter * 64 for letter in "abc")
BLOB = f"sha256:{'d' * 64}"
WAKE = Background.wake
ROOTFS = "f" * 32


class Bed:
    """A storage with images A and B without names, of which A is lent; no background runs."""

    def __init__(self, directory: Path, store: Store) -> None:
        root = directory / "root"
        # It does nothing, and does it well.
        images = ImagesSettings(root=str(root), skopeo="/bin/true")
        self.settings = Settings(root_dir=str(directory), run_dir=str(directory), images=images)
        self.store = store
        self.root = root
        self.storage = Storage(str(root))
        for name, content in (
            (IMAGES_FILE, [{"id": each, "names": [], "layer": "low"} for each in (A, B)]),
            (LAYERS_FILE, [{"id": "low"}, {"id": "left", "diff-digest": BLOB}]),
        ):
            (root / name).parent.mkdir(parents=True)
            (root / name).write_text(json.dumps(content))
        store.put(RootfsRecord(ROOTFS, "container", A, readonly=True))
        records = ImageRecords(store)
        self.roots = Roots(self.settings, store, self.storage, Finder(records, ""))
        self.deletions = Deletions(self.storage, store)
        pulls = Unended(self.storage, store, self.roots, self.deletions)
        self.going = GoingImages(self.storage, self.roots, records, self.deletions, pulls)
        self.tidying = Tidying(self.settings, self.storage, store, self.roots, records)

    def add_unused(self) -> None:
        """Have an image that is released by its last container go, in no background."""

        def add(image_id: str) -> None:
            self.going.add(image_id)

        self.roots.when_unused = add

    def release_after_let_go(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Have the container removed as soon as the image is to go with it."""
        let_go = Roots.let_go

        def let_go_late(roots: Roots, image_id: str) -> tuple[str, ...]:
            users = let_go(roots, image_id)
            roots.release(ROOTFS, Deadline())
            return users

        monkeypatch.setattr(Roots, "let_go", let_go_late)

    def owed(self) -> list[str]:
        """What the next start would remove."""
        return [each.image_id for each in self.store.records(RemovalRecord)]


@pytest.fixture
def bed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bed]:
    monkeypatch.setattr(Background, "wake", lambda background: None)
    with closing(Store(tmp_path / "ocigrpc.db", 100)) as store:
        made = Bed(tmp_path, store)
        with closing(made.roots), closing(made.tidying):
            yield made


def test_an_image_whose_last_container_goes_while_it_is_removed_is_still_to_go(
    bed: Bed, monkeypatch: pytest.MonkeyPatch
) -> None:
    bed.roots.when_unused = bed.tidying.remove_later
    bed.release_after_let_go(monkeypatch)
    with bed.tidying.untagging(A):
        assert bed.tidying.goes_with_containers(A) == ("container",)
    assert bed.owed() == [A]


def test_an_image_whose_last_container_goes_before_it_is_looked_at_is_still_to_go(
    bed: Bed, monkeypatch: pytest.MonkeyPatch
) -> None:
    bed.add_unused()
    bed.release_after_let_go(monkeypatch)
    going = bed.going.add(A)
    bed.going.remove(going, bed.settings, Deadline())
    assert (bed.owed(), bed.going.all()) == ([A], [going])
    assert not going.ended.is_set()


def test_an_image_that_containers_use_goes_with_them(bed: Bed) -> None:
    going = bed.going.add(A)
    bed.going.remove(going, bed.settings, Deadline())
    assert (bed.owed(), bed.going.all(), going.users) == ([], [], ("container",))
    assert going.ended.is_set()
    bed.add_unused()
    bed.roots.release(ROOTFS, Deadline())
    assert bed.owed() == [A]


@pytest.mark.parametrize("verb", ["delete", "finish"])
def test_what_the_host_refuses_is_the_answer_to_a_removal(
    bed: Bed, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO), str(bed.storage.root))

    monkeypatch.setattr(Deletions, verb, refuse)
    going = bed.going.add(B if verb == "delete" else C, waiting=True)
    bed.going.remove(going, bed.settings, Deadline())
    assert going.ended.is_set()
    assert isinstance(going.error, HostFailed) == (verb == "delete")
    # Of one that is not listed the rest goes later.
    assert bed.owed() == ([] if verb == "delete" else [C])


def failing(
    monkeypatch: pytest.MonkeyPatch, error: OcigrpcError, first: Callable[[], None] = lambda: None
) -> None:
    """Have deletions fail so."""

    def delete(*_: object) -> None:
        first()
        raise error

    monkeypatch.setattr(Deletions, "delete", delete)


def test_an_image_that_is_to_go_still_gets_an_answer_to_each_removal(
    bed: Bed, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        failing(patched, Timeout("its limit has passed"))
        first = bed.going.add(B, waiting=True)
        bed.going.remove(first, bed.settings, Deadline())
        bed.going.leave(first)
    assert isinstance(first.error, Timeout)
    second = bed.going.add(B, waiting=True)
    assert (second.ended.is_set(), second.error) == (False, None)
    [left] = bed.going.all()
    bed.going.remove(left, bed.settings, Deadline())
    assert (second.ended.is_set(), second.error, bed.owed()) == (True, None, [])


def test_a_removal_that_is_asked_for_during_another_try_is_not_answered_by_it(
    bed: Bed, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing(monkeypatch, Timeout("its limit has passed"))
    first = bed.going.add(B, waiting=True)
    bed.going.remove(first, bed.settings, Deadline())
    others = list[Going]()
    late = HostFailed("refused")
    failing(monkeypatch, late, lambda: others.append(bed.going.add(B, waiting=True)))
    bed.going.remove(first, bed.settings, Deadline())
    [second] = others
    assert (second.ended.is_set(), second.error) == (False, None)
    assert (bed.going.all(), bed.owed()) == ([second], [B])


def test_a_pull_that_is_given_up_cuts_off_no_removal(
    bed: Bed, monkeypatch: pytest.MonkeyPatch
) -> None:
    finished, given_up = list[str](), Deadline()
    given_up.cancel()

    def finish(_: object, image_id: str, __: object, deadline: Deadline) -> bool:
        deadline.check()
        finished.append(image_id)
        (bed.root / LAYERS_FILE).write_text(json.dumps([{"id": "low"}]))
        return True

    monkeypatch.setattr(Deletions, "finish", finish)
    bed.store.put(RemovalRecord(C, ("left@",)))
    record = PullRecord("pull", "", "", Platform("linux", "amd64"), (BLOB,), 1)
    records = ImageRecords(bed.store)
    tidying = Tidying(bed.settings, bed.storage, bed.store, bed.roots, records)
    with closing(tidying):
        tidying.remove_later(B)
        with tidying.changing(record, given_up):
            assert (finished, bed.owed()) == ([C], [B])


def test_a_removal_that_waits_for_another_program_holds_up_no_name(
    bed: Bed, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits, locked = Event(), record_locked

    def lock(path: Path, deadline: Deadline) -> AbstractContextManager[int]:
        waits.set()
        return locked(path, deadline)

    monkeypatch.setattr(Background, "wake", WAKE)
    bed.store.put(RemovalRecord(C, ("left@",)))
    tidying = Tidying(bed.settings, bed.storage, bed.store, bed.roots, ImageRecords(bed.store))
    with closing(tidying):
        with locked(bed.root / LAYERS_LOCK, Deadline()):
            monkeypatch.setattr(lists, "record_locked", lock)
            tidying.recover()
            assert waits.wait(LIMIT_S)
            with tidying.naming(A, Deadline(5)):
                pass
            assert bed.owed() == [C]
            (bed.root / LAYERS_FILE).write_text(json.dumps([{"id": "low"}]))
        until(lambda: not bed.owed())
