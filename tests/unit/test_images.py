"""What a store of images shows, and how names are found, given and taken."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import struct
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing
from pathlib import Path
from types import SimpleNamespace

import pytest

from ocigrpc.engine.images import storage
from ocigrpc.engine.images.images import Images
from ocigrpc.engine.images.pulling.tidying import Tidying
from ocigrpc.engine.images.removal import Removal
from ocigrpc.engine.images.storage import Storage
from ocigrpc.engine.model.image_records import ImageRecord
from ocigrpc.engine.model.images import ImageFilter, PruneRequest, RemovedImage
from ocigrpc.engine.store.store import Store as ServiceStore
from ocigrpc.errors import InvalidArgument, OcigrpcError, Timeout
from ocigrpc.image_errors import ImageNotFound, ImagesFailed, ImageUnusable
from ocigrpc.oci.images.storage import (
    IMAGES_FILE,
    IMAGES_LOCK,
    LAYERS_FILE,
    big_data_path,
    config_path,
)
from ocigrpc.settings.images import ImagesSettings
from ocigrpc.waiting import Deadline
from tests.bed.images.opened import opened_images

A, B, C = (letter * 64 for letter in "abc")
DIGEST = f"sha256:{'d' * 64}"
DAY_S = 86400
ALPINE = "docker.io/library/alpine:3"


class Store:
    """A store with images A and B, which share the lower of two layers, and none else."""

    def __init__(self, root: Path, images: Images) -> None:
        self.root = root
        self.images = images
        for directory in ("overlay-images", "overlay-layers", "overlay-containers"):
            (root / directory).mkdir(parents=True)
        self.put(
            image(A, "top", [ALPINE, "localhost/mine:1"]),
            image(B, "low", ["r.io/b:1"], unknown={"kept": 1}),
        )
        self.write(LAYERS_FILE, [layer("low", 5), layer("top", 7, parent="low")])

    def put(self, *images: Mapping[str, object]) -> None:
        self.write(IMAGES_FILE, list(images))
        for each in images:
            path = self.root / config_path(str(each["id"]))
            path.parent.mkdir(exist_ok=True)
            config = {"config": {"Labels": {"of": str(each["id"])[0]}}, "architecture": "amd64"}
            path.write_text(json.dumps(config))
            # Their letters are those of days, long ago.
            os.utime(path, (0, (ord(str(each["id"])[0]) - ord("a") + 1) * DAY_S))

    def write(self, name: str, content: Sequence[object]) -> None:
        beside = self.root / "beside"
        beside.write_text(json.dumps(content))
        beside.replace(self.root / name)

    def names(self) -> dict[str, list[str] | None]:
        found = json.loads((self.root / IMAGES_FILE).read_text())
        return {each["id"]: each["names"] for each in found}

    def pruned(self, **wanted: object) -> tuple[list[str], int]:
        """What a prune would remove, and the bytes of it."""
        request = PruneRequest(dry_run=True, **wanted)  # type: ignore[arg-type]
        pruned = self.images.prune(request, Deadline())
        return [each.image_id for each in pruned.images], pruned.reclaimed_bytes

    def ids(self, **wanted: object) -> list[str]:
        image_filter = ImageFilter(**wanted)  # type: ignore[arg-type]
        return [each.image_id for each in self.images.list_images(image_filter)]


def image(image_id: str, top: str, names: list[str] | None, **more: object) -> dict[str, object]:
    return {"id": image_id, "digest": DIGEST, "names": names, "layer": top, **more}


def layer(layer_id: str, size: int, **more: object) -> dict[str, object]:
    return {"id": layer_id, "diff-size": size, **more}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    root = tmp_path / "root"
    settings = ImagesSettings(root=str(root), run=f"{root}-run", pinned=("r.io/p*",))
    with opened_images(tmp_path, settings) as images:
        yield Store(root, images)


def test_what_is_there_is_shown_with_each_layer_counted_once(store: Store) -> None:
    b, a = store.images.list_images(ImageFilter())
    assert (a.names, a.digests) == (
        (ALPINE, "localhost/mine:1"),
        (f"docker.io/library/alpine@{DIGEST}", f"localhost/mine@{DIGEST}"),
    )
    assert [(each.size_bytes, each.unique_bytes) for each in (a, b)] == [(12, 7), (5, 0)]
    assert a.labels == {"of": "a"}
    low, top = store.images.status(A).layers
    assert (low.images, top.images) == (2, 1)
    assert top.path == str(store.root / "overlay/top/diff")


def test_a_store_that_is_not_there_is_empty(tmp_path: Path) -> None:
    with opened_images(tmp_path, ImagesSettings(root=str(tmp_path / "no"))) as images:
        assert list(images.list_images(ImageFilter())) == []
        with pytest.raises(ImageNotFound):
            images.status(A)


def test_a_store_whose_path_can_not_be_looked_at_keeps_nothing_from_starting(
    tmp_path: Path,
) -> None:
    # No name may be so long, which is neither "missing" nor "no directory".
    root = tmp_path / ("x" * 300)
    assert not Storage(str(root)).is_there()
    with opened_images(tmp_path, ImagesSettings(root=str(root))) as images:
        images.recover()


def test_leftovers_that_can_not_be_listed_keep_nothing_from_starting(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    benches, found = tmp_path / "benches", os.listdir
    (benches / "one").mkdir(parents=True)

    def listdir(path: str) -> list[str]:
        if path == str(benches):
            raise OSError(errno.EIO, os.strerror(errno.EIO), path)
        return found(path)

    monkeypatch.setattr(os, "listdir", listdir)
    store.images.end_leftovers()
    assert not benches.exists()


@pytest.mark.parametrize("what", ["layer missing", "layer cut off", "config missing", "temporary"])
def test_what_is_not_whole_is_not_there(store: Store, what: str) -> None:
    if what == "layer missing":
        store.write(LAYERS_FILE, [layer("low", 5)])
    elif what == "layer cut off":
        cut_off = layer("top", 7, parent="low", flags={"incomplete": True})
        store.write(LAYERS_FILE, [layer("low", 5), cut_off])
    elif what == "config missing":
        (store.root / config_path(A)).unlink()
    else:
        store.put(image(A, "top", ["ocigrpc.invalid/pull:1"]), image(B, "low", ["r.io/b:1"]))
    assert store.ids() == [B]
    with pytest.raises(ImageNotFound):
        store.images.status(A)


def test_an_image_of_which_something_is_missing_is_said_once_and_hides_no_other(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    lines = SimpleNamespace(warning=lambda event, **fields: said.append(fields["image_id"]))
    monkeypatch.setattr(storage, "log", lines)
    store.write(LAYERS_FILE, [layer("low", 5)])
    assert (store.ids(), said) == ([B], [A])
    store.write(LAYERS_FILE, [layer("low", 6)])
    assert (store.ids(), said) == ([B], [A])
    store.put(image(A, "top", None), image(B, "low", ["r.io/b:1"]), image(C, "none", ["r.io/c:1"]))
    # The one without a name may be about to get it.
    assert (store.ids(), said) == ([B], [A, C])


def test_an_image_with_another_id_than_its_configs_is_there(store: Store) -> None:
    config = (store.root / config_path(A)).read_bytes()
    (store.root / config_path(A)).unlink()
    descriptor = {"digest": f"sha256:{C}", "size": len(config)}
    manifest = {"schemaVersion": 2, "config": descriptor, "layers": []}
    (store.root / big_data_path(A, "manifest")).write_text(json.dumps(manifest))
    assert store.ids() == [B]
    (store.root / big_data_path(A, f"sha256:{C}")).write_bytes(config)
    store.write(IMAGES_FILE, [image(A, "top", [ALPINE])])
    (shown,) = store.images.list_images(ImageFilter())
    assert (shown.image_id, shown.labels) == (A, {"of": "a"})


def test_an_image_that_can_not_be_read_hides_no_other(store: Store) -> None:
    nested = b'{"x": ' + b"[" * 5000 + b"]" * 5000 + b"}"
    (store.root / config_path(A)).write_bytes(nested)
    assert store.ids() == [B]
    store.images.roots.release("no-such", Deadline())


def test_what_others_change_is_seen(store: Store) -> None:
    assert store.ids() == [B, A]
    store.put(image(C, "low", None))
    assert store.ids() == [C]


def test_a_list_that_can_not_be_read_changes_nothing(store: Store) -> None:
    (store.root / IMAGES_FILE).write_text("[{")
    for call in (
        lambda: store.ids(),
        lambda: store.images.tag(A, "new", Deadline()),
        lambda: store.images.remove(A, True, Deadline()),
    ):
        with pytest.raises(ImagesFailed) as caught:
            call()
        assert caught.value.reason == "STORAGE_DAMAGED"
    assert (store.root / IMAGES_FILE).read_text() == "[{"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        *((A, A), (f"sha256:{A}", A), (ALPINE, A), ("alpine:3", A), ("library/alpine:3", A)),
        *(("mine:1", A), ("localhost/mine:1", A), ("r.io/b:1", B), ("docker.io/alpine:3", A)),
        *((f"r.io/b@{DIGEST}", B), (f"r.io/b:9@{DIGEST}", B), (f"alpine@{DIGEST}", A)),
        *(("alpine", ""), ("b:1", ""), (C, ""), (f"r.io/b@sha256:{'e' * 64}", "")),
    ],
)
def test_an_image_is_found_by_all_that_it_is_called(store: Store, text: str, found: str) -> None:
    if found:
        assert store.images.status(text).view.image_id == found
    else:
        with pytest.raises(ImageNotFound):
            store.images.status(text)


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        *(("", [B, A]), ("aa", [A]), ("sha256:bb", [B]), ("*", [B, A]), ("docker.io/*", [A])),
        *(("alpine:3", [A]), ("r.io/b:1", [B]), ("no such name!", []), ("zz", [])),
        *(("docker.io/alpine:3", [A]), ("sha256:", []), ("sha256", [])),
    ],
)
def test_references_select(store: Store, wanted: str, found: list[str]) -> None:
    assert store.ids(reference=wanted) == found


def test_labels_and_lost_names_select(store: Store) -> None:
    assert store.ids(label_selector={"of": "b"}) == [B]
    assert store.ids(dangling=True) == []
    store.put(image(A, "top", None), image(B, "low", ["r.io/b:1"]))
    assert store.ids(dangling=True) == [A]


@pytest.mark.parametrize("algorithm", [f"sha256:{'e' * 64}", f"sha512:{'e' * 128}"])
def test_a_name_that_is_a_digest_is_a_name(store: Store, algorithm: str) -> None:
    store.put(image(A, "top", [f"r.io/a@{algorithm}"]), image(B, "low", ["r.io/b:1"]))
    assert store.images.status(A).view.names == ()
    assert store.ids(dangling=True) == []
    assert store.pruned() == ([], 0)
    assert store.images.status(f"r.io/b@{DIGEST}").view.image_id == B


def test_an_image_is_found_by_each_digest_that_it_was_pulled_by(store: Store) -> None:
    listed, other = (f"sha256:{letter * 64}" for letter in "ef")
    a = image(A, "top", [f"r.io/a@{other}"])
    b = image(B, "low", ["r.io/b:1"], **{"big-data-names": [f"manifest-{listed}", "manifest"]})
    store.put(a, b)
    assert store.images.status(f"r.io/a@{other}").view.image_id == A
    assert store.images.status(f"r.io/b@{listed}").view.image_id == B
    with pytest.raises(ImageNotFound):
        store.images.status(f"r.io/a@{listed}")


def test_an_image_is_found_by_the_digest_that_its_name_stood_for_when_it_was_pulled(
    tmp_path: Path,
) -> None:
    pulled_by = f"sha256:{'e' * 64}"
    with closing(ServiceStore(tmp_path / "ocigrpc.db", 100)) as records:
        records.put(ImageRecord(A, digests={ALPINE: pulled_by}))
    with opened_images(tmp_path, ImagesSettings(root=str(tmp_path / "root"))) as images:
        Store(tmp_path / "root", images)
        shown = f"docker.io/library/alpine@{pulled_by}"
        assert shown in images.status(A).view.digests
        assert images.status(shown).view.image_id == A
        for other in (f"localhost/mine@{pulled_by}", f"r.io/b@{pulled_by}"):
            with pytest.raises(ImageNotFound):
                images.status(other)


def test_an_image_is_withheld_until_the_last_is_done(store: Store) -> None:
    with store.images.roots.withheld(A):
        with store.images.roots.withheld(A):
            pass
        with pytest.raises(ImageNotFound):
            store.images.roots.lend(A, "c", readonly=False)


def test_an_image_that_is_to_be_pruned_is_lent_to_nobody(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = list[OcigrpcError]()
    found = Removal.remove

    def remove(removal: Removal, text: str, all_names: bool, deadline: Deadline) -> RemovedImage:
        with pytest.raises(ImageNotFound) as caught:
            store.images.roots.lend(text, "c", readonly=False)
        refused.append(caught.value)
        store.put(image(B, "low", ["r.io/b:1"]))
        return found(removal, text, all_names, deadline)

    monkeypatch.setattr(Removal, "remove", remove)
    request = PruneRequest(all=True, label_selector={"of": "a"})
    assert [each.image_id for each in store.images.prune(request, Deadline()).images] == [A]
    assert len(refused) == 1


@pytest.mark.parametrize("what", ["damaged", "missing"])
def test_a_list_that_can_not_be_read_keeps_nothing_from_starting(store: Store, what: str) -> None:
    store.images.roots.when_released(A)
    whole, beside = store.root / IMAGES_FILE, store.root.with_name("beside")
    content = whole.read_text()
    if what == "damaged":
        whole.write_text("[{")
    else:
        store.root.rename(beside)
    with closing(store.images):
        store.images.end_leftovers()
        store.images.recover()
    if what == "damaged":
        whole.write_text(content)
    else:
        beside.rename(store.root)
    assert store.images.status(A).view.used_ns > 0


def test_what_has_begun_since_the_start_is_no_leftover(store: Store, tmp_path: Path) -> None:
    bench = tmp_path / "benches/one"
    bench.mkdir(parents=True)
    with closing(store.images):
        store.images.end_leftovers()
        assert not bench.exists()
        bench.mkdir(parents=True)
        store.images.recover()
        assert bench.exists()


def test_those_that_no_container_uses_are_selected(store: Store) -> None:
    assert store.ids(unused=True) == [B, A]
    store.write("overlay-containers/containers.json", [{"id": "c", "image": A, "layer": "x"}])
    assert store.ids(unused=True) == [B]
    # Those of other programs are none of the service.
    assert store.images.status(A).view.container_ids == ()


def test_a_name_is_given_and_lost_by_whoever_had_it(store: Store) -> None:
    assert store.images.tag(A, "mine:2", Deadline()) == ("localhost/mine:2", "")
    assert store.images.tag("alpine:3", "r.io/b:1", Deadline()) == ("r.io/b:1", B)
    assert store.names() == {
        A: [ALPINE, "localhost/mine:1", "localhost/mine:2", "r.io/b:1"],
        B: None,
    }
    before = (store.root / IMAGES_FILE).stat().st_ino
    assert store.images.tag(A, "mine:1", Deadline()) == ("localhost/mine:1", "")
    assert (store.root / IMAGES_FILE).stat().st_ino == before
    assert json.loads((store.root / IMAGES_FILE).read_text())[1]["unknown"] == {"kept": 1}


def test_a_name_at_docker_hub_is_given_as_it_is_there(store: Store) -> None:
    whole = "docker.io/library/mine:latest"
    assert store.images.tag(A, "docker.io/mine", Deadline()) == (whole, "")
    assert store.images.status("docker.io/mine").view.image_id == A
    assert store.images.remove("docker.io/mine", False, Deadline()) == ((whole,), "", ())


def test_a_name_that_is_given_twice_at_once_is_one_name(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    naming = Tidying.naming

    def named_meanwhile(
        tidying: Tidying, image_id: str, deadline: Deadline
    ) -> AbstractContextManager[None]:
        monkeypatch.setattr(Tidying, "naming", naming)
        store.images.tag(B, "r.io/new:1", Deadline())
        return naming(tidying, image_id, deadline)

    monkeypatch.setattr(Tidying, "naming", named_meanwhile)
    store.images.tag(B, "r.io/new:1", Deadline())
    assert store.names()[B] == ["r.io/b:1", "r.io/new:1"]


@pytest.mark.parametrize(
    "name",
    ["UPPER", "a b", f"a@{DIGEST}", "r.io/", "-", "ocigrpc.invalid/x:1", "a" * 250],
)
def test_what_is_no_name_is_not_given(store: Store, name: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        store.images.tag(A, name, Deadline())
    assert (caught.value.reason, caught.value.metadata["field"]) == ("INVALID_IMAGE_NAME", "name")


def test_an_image_that_is_removed_meanwhile_gets_no_name(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    edit = Storage.edit_images

    def edit_later(storage: Storage, change: Callable[[bytes], bytes], deadline: Deadline) -> None:
        store.put(image(B, "low", ["r.io/b:1"]))
        edit(storage, change, deadline)

    monkeypatch.setattr(Storage, "edit_images", edit_later)
    with pytest.raises(ImageNotFound):
        store.images.tag(A, "r.io/b:1", Deadline())
    assert store.names() == {B: ["r.io/b:1"]}


def test_one_of_several_names_is_taken(store: Store) -> None:
    assert store.images.remove("alpine:3", False, Deadline()) == ((ALPINE,), "", ())
    assert store.names()[A] == ["localhost/mine:1"]
    assert store.images.remove("no-such", False, Deadline()) == ((), "", ())


@pytest.mark.parametrize("kind", ["containers", "volatile-containers"])
def test_what_must_stay_is_refused_and_stays(store: Store, kind: str) -> None:
    store.images.tag(B, "r.io/pinned:1", Deadline())
    used = {"id": "c", "image": B, "layer": "x"}
    store.write(f"overlay-containers/{kind}.json", [used])
    before = store.names()
    for text, all_names, reason in [
        (A, False, "IMAGE_HAS_NAMES"),
        ("r.io/pinned:1", False, "IMAGE_PINNED"),
        (B, True, "IMAGE_PINNED"),
    ]:
        with pytest.raises(ImageUnusable) as caught:
            store.images.remove(text, all_names, Deadline())
        assert caught.value.reason == reason
    store.put(image(B, "low", ["r.io/b:1"]))
    with pytest.raises(ImageUnusable) as caught:
        store.images.remove("r.io/b:1", False, Deadline())
    assert caught.value.reason == "IMAGE_IN_USE"
    store.put(image(A, "top", before[A]), image(B, "low", before[B]))
    assert store.names() == before


def test_those_that_came_first_are_pruned_first_with_each_layer_counted_once(store: Store) -> None:
    assert store.pruned(all=True) == ([A, B], 12)
    store.put(image(A, "top", None), image(B, "low", ["r.io/b:1"]), image(C, "low", None))
    assert store.pruned() == ([A, C], 7)


def test_those_whose_last_container_is_gone_for_the_longest_time_are_pruned_first(
    store: Store,
) -> None:
    before_ns = time.time_ns()
    store.images.roots.when_released(A)
    used = store.images.status(A).view
    assert before_ns <= used.used_ns <= time.time_ns()
    # That it was used says nothing of when it came.
    assert used.pulled_ns == DAY_S * 1_000_000_000
    assert store.pruned(all=True) == ([B, A], 12)
    assert store.pruned(all=True, older_than_s=DAY_S) == ([B], 0)


def test_a_prune_removes_only_what_it_is_for(store: Store) -> None:
    assert store.pruned(all=True, label_selector={"of": "b"}) == ([B], 0)
    age_s = time.time() - 1.5 * DAY_S
    assert store.pruned(all=True, older_than_s=age_s) == ([A], 7)
    assert store.pruned(all=True, older_than_s=age_s + DAY_S) == ([], 0)


def test_a_prune_ends_when_enough_is_free(store: Store) -> None:
    huge = 1 << 60
    store.write(LAYERS_FILE, [layer("low", 5), layer("top", huge, parent="low")])
    assert store.pruned(all=True, until_free_bytes=1) == ([], 0)
    assert store.pruned(all=True, until_free_bytes=huge) == ([A], huge)
    assert store.pruned(all=True, until_free_bytes=huge << 1) == ([A, B], huge + 5)


def test_a_prune_leaves_what_is_pinned_and_what_other_programs_use(store: Store) -> None:
    store.images.tag(B, "r.io/pinned:1", Deadline())
    assert store.pruned(all=True) == ([A], 7)
    store.write("overlay-containers/containers.json", [{"id": "c", "image": A, "layer": "x"}])
    assert store.pruned(all=True) == ([], 0)


def test_a_store_that_is_not_there_is_pruned(tmp_path: Path) -> None:
    with opened_images(tmp_path, ImagesSettings(root=str(tmp_path / "no"))) as images:
        assert images.prune(PruneRequest(all=True, until_free_bytes=1), Deadline()) == ((), 0)


def test_what_images_take_has_each_layer_once(store: Store) -> None:
    info = store.images.fs_info()
    assert (info.path, info.image_count) == (str(store.root), 2)
    assert (info.images_bytes, info.reclaimable_bytes) == (12, 12)
    disk = os.statvfs(store.root)
    assert info.total == (disk.f_blocks * disk.f_frsize, disk.f_files)
    assert 0 < info.available.bytes < info.total.bytes
    assert 0 < info.available.inodes < info.total.inodes
    # It keeps the layer that the other one has as well.
    store.write("overlay-containers/containers.json", [{"id": "c", "image": B, "layer": "x"}])
    assert store.images.fs_info().reclaimable_bytes == 7


def test_a_store_that_is_not_there_takes_nothing_of_the_disk_above(tmp_path: Path) -> None:
    with opened_images(tmp_path, ImagesSettings(root=str(tmp_path / "no/no"))) as images:
        info = images.fs_info()
    assert (info.images_bytes, info.reclaimable_bytes, info.image_count) == (0, 0, 0)
    assert info.total.inodes == os.statvfs(tmp_path).f_files


def test_changes_wait_for_other_programs_up_to_the_deadline(store: Store) -> None:
    with open(store.root / IMAGES_LOCK, "wb") as lock:
        whole = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
        fcntl.fcntl(lock, fcntl.F_OFD_SETLK, whole)
        with pytest.raises(Timeout):
            store.images.tag(A, "late", Deadline(0.1))
        failures = list[OcigrpcError]()

        def tag() -> None:
            try:
                store.images.tag(A, "soon", Deadline(20))
            except OcigrpcError as error:
                failures.append(error)

        thread = threading.Thread(target=tag)
        thread.start()
    thread.join()
    assert failures == []
    names = store.names()[A]
    assert names is not None
    assert names[-1] == "localhost/soon:latest"
    # By which other programs see that the list is another one.
    assert len((store.root / IMAGES_LOCK).read_bytes()) == 64
