"""Images that nobody uses are removed, with all that is theirs and nothing else."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from ocigrpc.engine.images.images import Images
from ocigrpc.engine.model.images import ImageFilter, PruneRequest
from ocigrpc.settings.images import ImagesSettings
from ocigrpc.waiting import Deadline
from tests.bed.images.layers import file
from tests.bed.images.layout import image, layer, write_layout
from tests.bed.images.opened import opened_images
from tests.bed.images.storages import Skopeo, Storage

_BASE = layer([file("base", b"b" * 100_000)])


@dataclass(frozen=True)
class Stored:
    """Images ``first`` and ``second``, which share a layer and were stored in this order."""

    storage: Storage
    images: Images
    first: str
    second: str

    def ids(self) -> set[str]:
        return {each.image_id for each in self.images.list_images(ImageFilter())}

    def pruned(self, **wanted: object) -> tuple[Sequence[str], int]:
        request = PruneRequest(**wanted)  # type: ignore[arg-type]
        pruned = self.images.prune(request, Deadline(60))
        return [each.image_id for each in pruned.images], pruned.reclaimed_bytes


@pytest.fixture
def stored(storage: Storage, skopeo: Skopeo, tmp_path: Path) -> Iterator[Stored]:
    made = {
        name: image(_BASE, [file(name, name.encode() * 10_000)], config={"Labels": {"is": name}})
        for name in ("first", "second")
    }
    layout = write_layout(tmp_path / "layout", made)
    for name in made:
        skopeo.copy(f"oci:{layout}:{name}", storage, f"localhost/{name}:1")
    settings = ImagesSettings(root=str(storage.root), run=str(storage.run))
    with opened_images(tmp_path, settings) as images:
        yield Stored(storage, images, made["first"].image_id, made["second"].image_id)


def test_images_go_with_the_layers_that_no_other_one_has(stored: Stored) -> None:
    assert stored.pruned() == ([], 0)
    first, second = stored.images.status("first:1").view, stored.images.status("second:1").view
    assert first.unique_bytes < first.size_bytes
    assert stored.pruned(all=True, label_selector={"is": "first"}) == (
        [stored.first],
        first.unique_bytes,
    )
    assert stored.ids() == {stored.second}
    assert stored.storage.leaks() == []
    assert stored.pruned(all=True) == ([stored.second], second.size_bytes)
    assert (stored.storage.images(), stored.storage.layers()) == ([], [])


def test_a_dry_run_says_what_a_prune_does_next(stored: Stored) -> None:
    asked = stored.pruned(all=True, dry_run=True)
    assert asked[0] == [stored.first, stored.second]
    assert stored.ids() == {stored.first, stored.second}
    assert stored.pruned(all=True) == asked
    assert stored.ids() == set()


def test_an_image_that_has_lost_its_name_is_pruned_without_being_named(stored: Stored) -> None:
    stored.images.tag("second:1", "localhost/first:1", Deadline(10))
    removed, _ = stored.pruned()
    assert removed == [stored.first]
    assert set(stored.storage.names()) == {"localhost/first:1", "localhost/second:1"}


def test_enough_is_free_before_all_is_gone(stored: Stored) -> None:
    found = os.statvfs(stored.storage.root)
    free_bytes = found.f_bavail * found.f_frsize
    assert stored.pruned(all=True, until_free_bytes=free_bytes // 2) == ([], 0)
    removed, _ = stored.pruned(all=True, until_free_bytes=1 << 60)
    assert removed == [stored.first, stored.second]
