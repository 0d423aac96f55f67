"""Removals come to their end, whatever cuts them off, and take nothing that is another's."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from ocigrpc.engine.images.pulling.undo import Failed, undo
from ocigrpc.engine.images.records import ImageRecords
from ocigrpc.engine.images.storage import Storage as ImageStorage
from ocigrpc.engine.model.events import EventKind
from ocigrpc.engine.model.image_records import PullRecord, RemovalRecord
from ocigrpc.engine.model.pulls import PullRequest
from ocigrpc.engine.model.rootfs import RootfsRecord
from ocigrpc.engine.model.values import StoredRecord
from ocigrpc.errors import HostFailed
from ocigrpc.host.files.tree import remove_tree
from ocigrpc.image_errors import ImagesFailed
from ocigrpc.oci.images.empty_image import layout
from ocigrpc.oci.images.platform import Platform
from ocigrpc.oci.images.skopeo import pulled_name, waking_name
from ocigrpc.waiting import Deadline
from tests.bed.hosts.leaks import LIMIT_S, until
from tests.bed.images.storages import Skopeo
from tests.real.images.test_undo import NAME, PULL, Bed, bed, ids

__all__ = ["bed"]

# A removal that is killed when the image is off the list, and nothing that would mend that.
_DIES = """#!/bin/sh
case " $* " in
    *" delete "*) echo '[]' > {images}.new; mv {images}.new {images}; kill -9 $$ ;;
    *" copy "*) exit 1 ;;
esac
exec skopeo "$@"
"""


@pytest.fixture
def dies(bed: Bed, tmp_path: Path) -> Callable[[], None]:
    """Have skopeo die in the middle of each removal."""
    path = tmp_path / "skopeo-that-dies"
    path.write_text(_DIES.format(images=bed.storage.root / "overlay-images/images.json"))
    path.chmod(0o755)
    return lambda: bed.set(skopeo=str(path))


def remembered(bed: Bed) -> list[StoredRecord]:
    with bed.store() as store:
        return [
            *store.records(RemovalRecord),
            *store.records(PullRecord),
            *store.records(RootfsRecord),
        ]


def test_a_removal_that_was_cut_off_is_finished_by_the_next_start(
    bed: Bed, dies: Callable[[], None]
) -> None:
    dies()
    with bed.images() as images:
        assert images.remove(NAME, False, Deadline(LIMIT_S)).image_id == bed.image_id
        assert (bed.names(), len(bed.storage.layers())) == ([], 1)
        # Files of its layer may be gone.
        with pytest.raises(ImagesFailed):
            list(images.pull(PullRequest(bed.pulled), Deadline(LIMIT_S)))
    bed.set(skopeo="skopeo")
    with bed.images():
        until(lambda: not bed.storage.layers())
        until(lambda: not list((bed.storage.root / "overlay-images").glob("[0-9a-f]*")))
    assert remembered(bed) == []


def test_what_a_removal_has_left_is_gone_before_the_image_is_pulled_again(
    bed: Bed, dies: Callable[[], None]
) -> None:
    dies()
    with bed.images() as images:
        images.remove(NAME, False, Deadline(LIMIT_S))
    bed.set(skopeo="skopeo")
    [layer] = bed.storage.layers()
    file = bed.storage.root / "overlay" / layer["id"] / "diff/it"
    file.write_text("")
    with bed.images() as images:
        list(images.pull(PullRequest(bed.pulled), Deadline(LIMIT_S)))
        assert file.read_bytes() == b"it" * 1000
        images.remove(bed.image_id, True, Deadline(LIMIT_S))
    assert remembered(bed) == []


@pytest.mark.parametrize("names", [(), (NAME,)])
def test_an_image_that_was_to_go_goes_unless_it_has_a_name(
    bed: Bed, names: tuple[str, ...]
) -> None:
    bed.rename(*names)
    with bed.store() as store:
        store.put(RemovalRecord(bed.image_id, ()))
    with bed.images() as images:
        until(lambda: bed.names() == ([list(names)] if names else []))
        images.close()
    assert remembered(bed) == []


def test_an_image_that_is_to_go_and_is_lent_again_goes_with_the_last_container(bed: Bed) -> None:
    with bed.images() as images:
        first = images.roots.lend(NAME, "first", readonly=False)
        assert images.remove(NAME, False, Deadline(LIMIT_S)).container_ids == ("first",)
        second = images.roots.lend(bed.image_id, "second", readonly=False)
        images.roots.release(first.rootfs_id, Deadline(LIMIT_S))
        assert (Path(second.path) / "it").exists()
        assert ids(images) == [bed.image_id]
    # The service may be another one by then.
    with bed.images() as images:
        images.roots.release(second.rootfs_id, Deadline(LIMIT_S))
        assert ids(images) == []
        until(lambda: bed.names() == [])
    assert remembered(bed) == []


def test_an_image_that_was_to_go_and_is_tagged_stays_after_its_containers(bed: Bed) -> None:
    with bed.images() as images:
        lent = images.roots.lend(NAME, "container", readonly=False)
        images.remove(NAME, False, Deadline(LIMIT_S))
        images.tag(bed.image_id, "localhost/again:1", Deadline(LIMIT_S))
        # As another program takes a name.
        bed.rename()
        images.roots.release(lent.rootfs_id, Deadline(LIMIT_S))
        assert ids(images) == [bed.image_id]
    assert (bed.names(), remembered(bed)) == ([[]], [])


def test_nobody_waits_for_the_end_of_a_large_root(
    bed: Bed, monkeypatch: pytest.MonkeyPatch
) -> None:
    goes_on = Event()

    def remove(top: str, path: str, *, check: Callable[[], None]) -> None:
        while not goes_on.wait(0.01):
            check()
        remove_tree(top, path, check=check)

    monkeypatch.setattr("ocigrpc.host.files.tree_removals.remove_tree", remove)
    with bed.images() as images:
        lent = [images.roots.lend(NAME, each, readonly=False) for each in "abc"]
        root = Path(lent[0].path).parent
        for each in lent:
            (Path(each.path) / "written").touch()
        images.remove(NAME, False, Deadline(LIMIT_S))
        for each in lent:
            images.roots.release(each.rootfs_id, Deadline(0.1))
        assert images.roots.users(bed.image_id) == ()
        until(lambda: bed.names() == [])
        # A service that ends does not wait either.
    assert (root / "upper/written").exists()
    with bed.images() as images:
        images.roots.recover(())
        assert len(list(root.parent.iterdir())) == 3
        goes_on.set()
        until(lambda: not list(root.parent.iterdir()))
    assert remembered(bed) == []


def test_a_pull_that_went_well_waits_for_no_other_to_be_undone(
    bed: Bed, monkeypatch: pytest.MonkeyPatch
) -> None:
    goes_on = Event()

    def wait(failed: Failed, *arguments: Any) -> bool:
        assert goes_on.wait(LIMIT_S)
        return undo(failed, *arguments)

    monkeypatch.setattr("ocigrpc.engine.images.pulling.unended.undo", wait)
    platform = Platform("linux", "amd64")
    one, other = (PullRecord(each, "", "", platform, ("sha256:x",), 1) for each in "ab")
    storage = ImageStorage(str(bed.storage.root))
    with bed.store() as store, bed.tidying(store, storage) as (tidying, _):
        with tidying.changing(one, Deadline(LIMIT_S)):
            # It can't be undone while this one may use its layers.
            with pytest.raises(HostFailed), tidying.changing(other, Deadline(LIMIT_S)):
                raise HostFailed("the disk fails")
            assert len(list(store.records(PullRecord))) == 2
        assert [each.pull_id for each in store.records(PullRecord)] == ["b"]
        goes_on.set()
        until(lambda: not list(store.records(PullRecord)))


def test_layers_that_were_there_before_a_pull_are_not_taken_back(
    bed: Bed, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = bed.storage.root / "overlay-images/images.json"
    before = listed.read_text()

    def fail(*_: object) -> None:
        raise HostFailed("the disk fails")

    # As while another program pulls it, and has not come to its end.
    listed.write_text("[]")
    layers = [each["id"] for each in bed.storage.layers()]
    with bed.images() as images, monkeypatch.context() as failing:
        failing.setattr("ocigrpc.engine.images.pulling.pulls.Copy.run", fail)
        with pytest.raises(HostFailed):
            list(images.pull(PullRequest(bed.pulled), Deadline(LIMIT_S)))
        until(bed.is_undone)
    assert [each["id"] for each in bed.storage.layers()] == layers
    listed.write_text(before)


def test_layers_that_a_pull_has_made_anew_are_taken_back(
    bed: Bed, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = bed.storage.root / "overlay-images/images.json"
    layers = bed.storage.root / "overlay-layers/layers.json"
    before = layers.read_text()
    anew = json.dumps([{**each, "created": "2024-02-29T12:00:00Z"} for each in json.loads(before)])

    def fail(*_: object) -> None:
        layers.write_text(anew)
        raise HostFailed("the disk fails")

    listed.write_text("[]")
    with bed.images() as images, monkeypatch.context() as failing:
        failing.setattr("ocigrpc.engine.images.pulling.pulls.Copy.run", fail)
        with pytest.raises(HostFailed):
            list(images.pull(PullRequest(bed.pulled), Deadline(LIMIT_S)))
        until(bed.is_undone)
    assert bed.storage.layers() == []
    shutil.rmtree(listed.with_name(bed.image_id))


def test_layers_that_came_after_a_pull_had_failed_are_not_taken_back(bed: Bed) -> None:
    layers = bed.storage.root / "overlay-layers/layers.json"
    listed = bed.storage.root / "overlay-images/images.json"
    [layer] = bed.storage.layers()
    blobs = (layer["compressed-diff-digest"],)
    whole, image = layers.read_text(), listed.read_text()
    platform = Platform("linux", "amd64")
    one, other = (PullRecord(each, "", "", platform, blobs, 1) for each in "ab")
    storage = ImageStorage(str(bed.storage.root))
    layers.write_text("[]")
    listed.write_text("[]")
    with bed.store() as store, bed.tidying(store, storage) as (tidying, _):
        with tidying.changing(one, Deadline(LIMIT_S)):
            with pytest.raises(HostFailed), tidying.changing(other, Deadline(LIMIT_S)):
                raise HostFailed("the disk fails")
            # As another program makes them now.
            layers.write_text(whole)
        until(lambda: not list(store.records(PullRecord)))
    assert [each["id"] for each in bed.storage.layers()] == [layer["id"]]
    listed.write_text(image)


@pytest.mark.parametrize("record", ["pull", "removal"])
def test_layers_go_when_what_another_program_has_made_of_them_is_gone(
    bed: Bed, record: str
) -> None:
    layers = bed.storage.root / "overlay-layers/layers.json"
    [layer] = bed.storage.layers()
    another = {"id": "f" * 64, "parent": layer["id"], "created": layer["created"]}
    (bed.storage.root / "overlay-images/images.json").write_text("[]")
    shutil.rmtree(bed.storage.root / "overlay-images" / bed.image_id)
    layers.write_text(json.dumps([layer, another]))
    with bed.store() as store:
        if record == "removal":
            store.put(RemovalRecord(bed.image_id, (f"{layer['id']}@{layer['created']}",)))
        else:
            blobs = (layer["compressed-diff-digest"],)
            store.put(PullRecord("1", "", "", Platform("linux", "amd64"), blobs, 1))
    with bed.images() as images:
        with pytest.raises(ImagesFailed):
            list(images.pull(PullRequest(bed.pulled), Deadline(LIMIT_S)))
        assert bed.storage.layers() == [layer, another]
        layers.write_text(json.dumps([layer]))
        until(lambda: not bed.storage.layers())
        images.close()
    assert remembered(bed) == []


def test_an_image_is_said_to_be_removed_when_the_service_ends_before_it_is(
    bed: Bed, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise HostFailed("the service ends")

    with bed.images() as images:
        list(images.pull(PullRequest(bed.pulled), Deadline(LIMIT_S)))
        with monkeypatch.context() as ending:
            ending.setattr(ImageRecords, "removed", fail)
            images.remove(bed.image_id, True, Deadline(LIMIT_S))
    assert bed.names() == []
    with bed.images() as images:
        until(
            lambda: (
                EventKind.REMOVED in [each.kind for each in images._records._store._events(0, 100)]
            )
        )
    assert remembered(bed) == []


@pytest.mark.parametrize("names", [[], [waking_name(PULL)]], ids=["unnamed", "named"])
def test_an_image_that_has_removed_layers_goes_itself(
    bed: Bed, skopeo: Skopeo, tmp_path: Path, names: list[str]
) -> None:
    for name, content in layout(PULL).items():
        path = tmp_path / "empty" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    skopeo.copy(f"oci:{tmp_path}/empty", bed.storage, waking_name(PULL))
    listed = bed.storage.root / "overlay-images/images.json"
    kept, empty = bed.storage.images()
    # It gets its name last.
    listed.write_text(json.dumps([kept, {**empty, "names": names}]))
    with bed.store() as store:
        store.put(PullRecord(PULL, "", "", Platform("linux", "amd64"), (), 1))
    with bed.images():
        until(bed.is_undone)
    assert [each["id"] for each in bed.storage.images()] == [bed.image_id]


def test_a_removal_that_is_cut_off_while_a_pull_is_undone_is_finished(
    bed: Bed, dies: Callable[[], None], tmp_path: Path
) -> None:
    dies()
    bed.rename(pulled_name(PULL))
    bed.owe(was_there=False)
    with bed.images():
        until(lambda: bed.names() == [])
        # From now on it is a good one.
        program = tmp_path / "skopeo-that-dies"
        program.with_name("good").symlink_to(shutil.which("skopeo") or "")
        program.with_name("good").rename(program)
        until(bed.is_undone)
        until(lambda: not bed.storage.layers())
    assert remembered(bed) == []
