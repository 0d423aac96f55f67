"""What the undoing of pulls, and the end of removals, take of a store that others use as well."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from ocigrpc.engine.images.find import Finder
from ocigrpc.engine.images.pulling.tidying import Tidying
from ocigrpc.engine.images.records import ImageRecords
from ocigrpc.engine.images.rootfs import Roots
from ocigrpc.engine.images.storage import Storage
from ocigrpc.engine.model.image_records import PullRecord
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
        settings = Settings(root_dir=str(directory), images=images, timeouts=timeouts)
        self.storage = Storage(str(self.root))
        self.store = undo.enter_context(closing(Store(directory / "ocigrpc.db", 100)))
        records = ImageRecords(self.store)
        roots = Roots(settings, self.store, self.storage, Finder(records, ""))
        undo.enter_context(closing(roots))
        self.tidying = Tidying(settings, self.storage, self.store, roots, records)
        undo.enter_context(closing(self.tidying))

    def put(self, *layers: dict[str, object], images: Sequence[object] = ()) -> None:
        for name, content in ((LAYERS_FILE, list(layers)), (IMAGES_FILE, list(images))):
            beside = self.root / "beside"
            beside.write_text(json.dumps(content))
            beside.replace(self.root / name)

    def layers(self) -> list[str]:
        return [each["id"] for each in json.loads((self.root / LAYERS_FILE).read_text())]

    def fail(self, pull_id: str) -> None:
        """Have a pull of the blob fail."""
        record = PullRecord(pull_id, "", "", PLATFORM, (BLOB,), 1, IMAGE)
        with pytest.raises(HostFailed), self.tidying.changing(record, Deadline(LIMIT_S)):
            raise HostFailed("the disk fails")

    def is_undone(self) -> bool:
        return not list(self.store.records(PullRecord))


def layer(layer_id: str, **more: object) -> dict[str, object]:
    return {"id": layer_id, "created": "2024-02-29T12:00:00Z", "diff-digest": BLOB, **more}


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
    assert bed.layers() == ["others"]


def test_layers_that_others_make_after_the_start_are_not_of_a_pull_that_was_cut_off_before(
    bed: Bed,
) -> None:
    bed.store.put(PullRecord("1", "", "", PLATFORM, (BLOB,), 1, IMAGE))
    with record_locked(bed.root / LAYERS_LOCK, Deadline(LIMIT_S)):
        bed.tidying.recover()
        bed.put(layer("others"))
    until(bed.is_undone)
    assert bed.layers() == ["others"]
