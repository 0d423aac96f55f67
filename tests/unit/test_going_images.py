"""Images that are to go: none is forgotten, and each answer is one to its own question."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from ocigrpc.engine.images.find import Finder
from ocigrpc.engine.images.pulling.deletions import Deletions
from ocigrpc.engine.images.pulling.going import GoingImages
from ocigrpc.engine.images.pulling.tidying import Tidying
from ocigrpc.engine.images.pulling.unended import Unended
from ocigrpc.engine.images.records import ImageRecords
from ocigrpc.engine.images.rootfs import Roots
from ocigrpc.engine.images.storage import Storage
from ocigrpc.engine.model.image_records import RemovalRecord
from ocigrpc.engine.model.rootfs import RootfsRecord
from ocigrpc.engine.store.store import Store
from ocigrpc.errors import HostFailed
from ocigrpc.oci.images.storage import IMAGES_FILE, LAYERS_FILE
from ocigrpc.settings.images import ImagesSettings
from ocigrpc.settings.values import Settings
from ocigrpc.waiting import Deadline

A, B, C = (letter * 64 for letter in "abc")
ROOTFS = "f" * 32


class Bed:
    """A storage with images A and B without names, of which A is lent; no background runs."""

    def __init__(self, directory: Path, store: Store) -> None:
        root = directory / "root"
        # It does nothing, and does it well.
        images = ImagesSettings(root=str(root), skopeo="/bin/true")
        self.settings = Settings(root_dir=str(directory), run_dir=str(directory), images=images)
        self.store = store
        self.storage = Storage(str(root))
        for name, content in (
            (IMAGES_FILE, [{"id": each, "names": [], "layer": "low"} for each in (A, B)]),
            (LAYERS_FILE, [{"id": "low"}]),
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
        self.tidying.close()

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
def bed(tmp_path: Path) -> Iterator[Bed]:
    with closing(Store(tmp_path / "ocigrpc.db", 100)) as store:
        made = Bed(tmp_path, store)
        with closing(made.roots):
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
