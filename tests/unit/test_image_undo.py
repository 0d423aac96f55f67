"""What the undoing of pulls, and the end of removals, take of a store that others use as well."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from msgspec.structs import replace

from ocigrpc.engine.images.find import Finder
from ocigrpc.engine.images.program import bench
from ocigrpc.engine.images.pulling.deletions import Deletions
from ocigrpc.engine.images.pulling.tidying import Tidying
from ocigrpc.engine.images.records import ImageRecords
from ocigrpc.engine.images.rootfs import Roots
from ocigrpc.engine.images.storage import Storage
from ocigrpc.engine.model.image_records import PullRecord, RemovalRecord
from ocigrpc.engine.store.store import Store
from ocigrpc.errors import HostFailed
from ocigrpc.host.files.locked_file import record_locked
from ocigrpc.oci.images.platform import Platform
from ocigrpc.oci.images.storage import IMAGES_FILE, LAYERS_FILE, LAYERS_LOCK
from ocigrpc.settings.images import ImagesSettings
from ocigrpc.settings.values import Settings, TimeoutSettings
from ocigrpc.waiting import Deadline
from tests.bed.hosts.leaks import LIMIT_S, until

IMAGE = "a" * 64
PLATFORM = Platform("linux", "amd64")
CREATED = "2024-02-29T12:00:00Z"
BLOB = f"sha256:{'b' * 64}"


class Bed:
    """A store without images, and what undoes and removes in it. No layer of it has files."""

    def __init__(self, directory: Path, undo: ExitStack) -> None:
        self.root = directory / "root"
        for each in ("overlay-images", "overlay-layers", "overlay-containers"):
            (self.root / each).mkdir(parents=True)
        self.put()
        images = ImagesSettings(root=str(self.root), run=f"{self.root}-run", skopeo="false")
        # Others have the store locked for longer than that.
        timeouts = TimeoutSettings(undo_s=0.1)
        self.settings = Settings(root_dir=str(directory), images=images, timeouts=timeouts)
        self.storage = Storage(str(self.root))
        self.store = undo.enter_context(closing(Store(directory / "ocigrpc.db", 100)))
        records = ImageRecords(self.store)
        roots = Roots(self.settings, self.store, self.storage, Finder(records, ""))
        undo.enter_context(closing(roots))
        self.tidying = Tidying(self.settings, self.storage, self.store, roots, records)
        undo.enter_context(closing(self.tidying))

    def set(self, **changed: object) -> None:
        """Change settings of images, for benches."""
        images = replace(self.settings.images, **changed)
        self.settings = replace(self.settings, images=images)

    def put(self, *layers: dict[str, object], images: Sequence[object] = ()) -> None:
        for name, content in ((LAYERS_FILE, list(layers)), (IMAGES_FILE, list(images))):
            beside = self.root / "beside"
            beside.write_text(json.dumps(content))
            beside.replace(self.root / name)

    def layers(self) -> list[dict[str, object]]:
        found: list[dict[str, object]] = json.loads((self.root / LAYERS_FILE).read_text())
        return found

    def fail(self, pull_id: str, *brought: dict[str, object]) -> None:
        """Have a pull of the blob fail that has brought these layers."""
        with pytest.raises(HostFailed):
            self._pull(pull_id, *brought)

    def _pull(self, pull_id: str, *brought: dict[str, object]) -> None:
        record = PullRecord(pull_id, "", "", PLATFORM, (BLOB,), 1, IMAGE)
        with self.tidying.changing(record, Deadline(LIMIT_S)):
            self.put(*brought)
            raise HostFailed("the disk fails")

    def is_undone(self) -> bool:
        return not list(self.store.records(PullRecord))


def layer(layer_id: str, **more: object) -> dict[str, object]:
    return {"id": layer_id, "created": CREATED, "diff-digest": BLOB, **more}


@pytest.fixture
def bed(tmp_path: Path) -> Iterator[Bed]:
    with ExitStack() as undo:
        yield Bed(tmp_path, undo)


def test_layers_that_others_make_while_they_keep_a_failed_pull_from_being_undone_stay(
    bed: Bed,
) -> None:
    with record_locked(bed.root / LAYERS_LOCK, Deadline(LIMIT_S)):
        bed.fail("1")
        assert not bed.is_undone()
        bed.put(layer("others"))
    until(bed.is_undone)
    assert bed.layers() == [layer("others")]


def test_layers_that_others_make_after_the_start_are_not_of_a_pull_that_was_cut_off_before(
    bed: Bed,
) -> None:
    bed.store.put(PullRecord("1", "", "", PLATFORM, (BLOB,), 1, IMAGE))
    with record_locked(bed.root / LAYERS_LOCK, Deadline(LIMIT_S)):
        bed.tidying.recover()
        bed.put(layer("others"))
    until(bed.is_undone)
    assert bed.layers() == [layer("others")]


def test_layers_of_a_failed_pull_stay_while_another_program_brings_an_image_of_them(
    bed: Bed,
) -> None:
    brought = [layer("low"), layer("top", parent="low", **{"diff-digest": "another"})]
    bed.fail("1", *brought)
    assert (bed.layers(), bed.is_undone()) == (brought, False)
    bed.put(*brought, images=[{"id": "of-others", "layer": "top"}])
    until(bed.is_undone)
    assert bed.layers() == brought


def test_layers_of_a_removal_stay_while_another_program_brings_an_image_of_them(bed: Bed) -> None:
    listed = [layer("low"), layer("top", parent="low")]
    bed.put(*listed)
    bed.store.put(RemovalRecord(IMAGE, (f"low@{CREATED}",)))
    deletions = Deletions(bed.storage, bed.store)
    with bench(bed.settings) as tools:
        assert not deletions.finish(IMAGE, tools, Deadline(LIMIT_S))
        assert bed.layers() == listed
        # Its files may be gone.
        assert deletions.cut_off([BLOB]) == IMAGE
        bed.put(*listed, images=[{"id": "of-others", "layer": "top"}])
        assert deletions.finish(IMAGE, tools, Deadline(LIMIT_S))
    assert bed.layers() == listed


def test_a_removal_is_remembered_until_it_is_noted(bed: Bed) -> None:
    bed.set(skopeo="true")
    deletions = Deletions(bed.storage, bed.store)
    with bench(bed.settings) as tools:
        assert deletions.delete(IMAGE, tools, Deadline(LIMIT_S))
        assert deletions.finish(IMAGE, tools, Deadline(LIMIT_S))
    assert [each.image_id for each in bed.store.records(RemovalRecord)] == [IMAGE]
