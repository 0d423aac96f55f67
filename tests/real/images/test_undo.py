"""What the failure of a pull, or of a removal, leaves of images that it has not brought."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from threading import Event, Thread, current_thread

import pytest
from msgspec.structs import replace

from ocigrpc.engine.images.find import Finder
from ocigrpc.engine.images.images import Images
from ocigrpc.engine.images.pulling import copying
from ocigrpc.engine.images.pulling.tidying import Tidying
from ocigrpc.engine.images.records import ImageRecords
from ocigrpc.engine.images.rootfs import Roots
from ocigrpc.engine.images.storage import Storage as ImageStorage
from ocigrpc.engine.model.image_records import PullRecord
from ocigrpc.engine.model.images import ImageFilter, ImageView
from ocigrpc.engine.model.pulls import PullRequest
from ocigrpc.engine.model.rootfs import RootfsRecord
from ocigrpc.engine.store.store import Store
from ocigrpc.errors import HostFailed, Timeout
from ocigrpc.host.files.overlay import unmount_overlay
from ocigrpc.host.files.sync import sync_file_system
from ocigrpc.host.processes.provenance import marked
from ocigrpc.oci.images.platform import Platform
from ocigrpc.oci.images.skopeo import Skopeo as Command
from ocigrpc.oci.images.skopeo import pulled_name
from ocigrpc.settings.images import ImagesSettings
from ocigrpc.settings.values import Settings
from ocigrpc.waiting import Deadline
from tests.bed.hosts.leaks import LIMIT_S, until
from tests.bed.images.layers import file
from tests.bed.images.layout import image, write_layout
from tests.bed.images.registry import Registry
from tests.bed.images.storages import Skopeo, Storage, registries_conf

NAME = "localhost/it:1"
PULL = "cut-off"


class Bed:
    """A storage with one image, and the service's store, whose images can be opened."""

    def __init__(self, storage: Storage, pulled: str, image_id: str, conf: Path) -> None:
        self.storage = storage
        self.pulled = pulled
        self.image_id = image_id
        self._is_undone: Callable[[], bool] = lambda: False
        directory = storage.root.parent
        images = ImagesSettings(
            root=str(storage.root), run=str(storage.run), registries_conf=str(conf)
        )
        self.settings = Settings(root_dir=str(directory), run_dir=str(directory), images=images)

    def set(self, **changed: object) -> None:
        """Change settings of images."""
        images = replace(self.settings.images, **changed)
        self.settings = replace(self.settings, images=images)

    def store(self) -> closing[Store]:
        return closing(Store(Path(self.settings.root_dir) / "ocigrpc.db", 100))

    @contextmanager
    def images(self) -> Iterator[Images]:
        with self.store() as store, closing(Images(self.settings, store)) as images:
            images.end_leftovers()
            images.recover()
            self._is_undone = lambda: not list(store.records(PullRecord))
            yield images

    @contextmanager
    def tidying(self, store: Store, storage: ImageStorage) -> Iterator[tuple[Tidying, Roots]]:
        """What removes and undoes in the storage, alone, and what it is lent by."""
        records = ImageRecords(store)
        with (
            closing(Roots(self.settings, store, storage, Finder(records, ""))) as roots,
            closing(Tidying(self.settings, storage, store, roots, records)) as tidying,
        ):
            yield tidying, roots

    def rename(self, *names: str) -> None:
        """Give the image these names, as another program may."""
        path = self.storage.root / "overlay-images/images.json"
        [found] = json.loads(path.read_text())
        path.write_text(json.dumps([{**found, "names": list(names)}]))

    def names(self) -> list[list[str]]:
        return [each.get("names") or [] for each in self.storage.images()]

    def owe(self, *, was_there: bool) -> None:
        """Remember a pull of the image that was cut off."""
        with self.store() as store:
            platform = Platform("linux", "amd64")
            store.put(PullRecord(PULL, "", "", platform, (), 1, self.image_id, was_there))

    def is_undone(self) -> bool:
        """Whether no pull was remembered any more while the images were open last."""
        return self._is_undone()


@pytest.fixture
def bed(storage: Storage, skopeo: Skopeo, registry: Registry, tmp_path: Path) -> Bed:
    made = image([file("it", b"it" * 1000)])
    layout = write_layout(tmp_path / "layout", {"it": made})
    skopeo.copy(f"oci:{layout}:it", storage, NAME)
    conf = tmp_path / "registries.conf"
    conf.write_text(registries_conf(registry.host))
    return Bed(storage, registry.push(made, "it"), made.image_id, conf)


def ids(images: Images) -> list[str]:
    return [each.image_id for each in images.list_images(ImageFilter())]


def test_a_pull_that_fails_leaves_an_image_that_had_no_name(
    bed: Bed, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = list[list[str]]()

    with bed.images() as images:

        def fail(*_: object) -> None:
            shown.append(ids(images))
            raise HostFailed("the disk fails")

        bed.rename()
        monkeypatch.setattr("ocigrpc.engine.images.pulling.copying.sync_file_system", fail)
        with pytest.raises(HostFailed):
            list(images.pull(PullRequest(bed.pulled), Deadline(60)))
        assert shown[-1] == ids(images) == [bed.image_id]
    assert bed.names() == [[]]


@pytest.mark.parametrize("names", [(), (pulled_name(PULL),)], ids=["unnamed", "temporary"])
@pytest.mark.parametrize("kept_by", ["record", "container", "another program", ""])
def test_a_pull_that_was_cut_off_takes_back_only_what_it_has_brought(
    bed: Bed, kept_by: str, names: tuple[str, ...]
) -> None:
    bed.rename(*names)
    bed.owe(was_there=kept_by == "record")
    with bed.store() as store:
        if kept_by == "container":
            store.put(RootfsRecord("root", "container", bed.image_id))
    if kept_by == "another program":
        containers = bed.storage.root / "overlay-containers/containers.json"
        containers.write_text(json.dumps([{"id": "c", "image": bed.image_id, "layer": ""}]))
    with bed.images() as images:
        if kept_by == "record":
            assert ids(images) == [bed.image_id]
        until(bed.is_undone)
    assert bed.names() == ([[]] if kept_by else [])
    if not kept_by:
        assert bed.storage.layers() == []


def test_what_was_cut_off_is_undone_once_the_disk_is_there(bed: Bed) -> None:
    bed.rename(pulled_name(PULL))
    bed.owe(was_there=False)
    away = bed.storage.root.rename(bed.storage.root.with_name("away"))
    for _ in range(2):
        with bed.images():
            pass
        with bed.store() as store:
            assert list(store.records(PullRecord))
    away.rename(bed.storage.root)
    with bed.images():
        until(bed.is_undone)
    assert bed.names() == []


def test_an_image_that_is_used_at_last_goes_with_its_container(bed: Bed) -> None:
    gone = list[str]()
    storage = ImageStorage(str(bed.storage.root))
    with bed.store() as store, bed.tidying(store, storage) as (tidying, roots):
        roots.when_unused = gone.append
        lent = roots.lend(NAME, "container", readonly=False)
        bed.rename()
        # Whoever has asked for this has seen no container yet.
        assert tidying.remove(bed.image_id, Deadline(60)) == ("container",)
        assert (bed.names(), gone) == ([[]], [])
        roots.complete(lent.rootfs_id, ())
        roots.release(lent.rootfs_id, Deadline(LIMIT_S))
    assert gone == [bed.image_id]


@pytest.mark.parametrize("readonly", [False, True])
def test_a_root_is_mounted_while_its_image_has_none_but_a_temporary_name(
    bed: Bed, readonly: bool
) -> None:
    with bed.images() as images:
        lent = images.roots.lend(NAME, "container", readonly=readonly)
        bed.rename(pulled_name("another"))
        assert ids(images) == []
        images.roots.complete(lent.rootfs_id, ())
        assert (Path(lent.path) / "it").exists()
        images.roots.release(lent.rootfs_id, Deadline(LIMIT_S))
    bed.rename(NAME)


def test_a_pull_may_end_while_an_image_is_removed(bed: Bed) -> None:
    begun, looked_at, ended = Event(), Event(), Event()

    class Blobs(tuple[str, ...]):
        """Those of a pull that ends while they are looked at."""

        def __iter__(self) -> Iterator[str]:
            if begun.is_set():
                looked_at.set()
                assert ended.wait(LIMIT_S)
            return super().__iter__()

    class Watched(ImageStorage):
        """Knows when the pull is no longer among those that change it."""

        def keep(self, image_ids: Collection[str]) -> None:
            super().keep(image_ids)
            if looked_at.is_set():
                ended.set()

    storage = Watched(str(bed.storage.root))
    with bed.store() as store, bed.tidying(store, storage) as (tidying, _):

        def pull() -> None:
            record = PullRecord(PULL, "", "", Platform("linux", "amd64"), Blobs(), 1)
            with tidying.changing(record, Deadline(LIMIT_S)):
                begun.set()
                assert looked_at.wait(LIMIT_S)

        thread = Thread(target=pull)
        thread.start()
        assert begun.wait(LIMIT_S)
        bed.rename()
        tidying.remove(bed.image_id, Deadline(LIMIT_S))
        thread.join(LIMIT_S)
    assert bed.names() == []


def test_an_image_goes_while_a_pull_runs_that_has_none_of_its_layers(bed: Bed) -> None:
    layers = bed.storage.root / "overlay-layers/layers.json"
    [layer] = bed.storage.layers()
    fresh = {"id": "f" * 64, "created": layer["created"], "diff-digest": "sha256:fresh"}
    storage = ImageStorage(str(bed.storage.root))
    with bed.store() as store, bed.tidying(store, storage) as (tidying, _):
        record = PullRecord(PULL, "", "", Platform("linux", "amd64"), ("sha256:fresh",), 1)
        with tidying.changing(record, Deadline(LIMIT_S)):
            layers.write_text(json.dumps([layer, fresh]))
            bed.rename()
            tidying.remove(bed.image_id, Deadline(LIMIT_S))
            assert bed.names() == []
            layers.write_text("[]")


def test_a_removal_comes_to_its_end_whatever_its_caller_waits_for(bed: Bed, tmp_path: Path) -> None:
    slow = tmp_path / "slow-skopeo"
    slow.write_text('#!/bin/sh\ncase " $* " in *" delete "*) sleep 2 ;; esac\nexec skopeo "$@"\n')
    slow.chmod(0o755)
    bed.set(skopeo=str(slow), stall_timeout_s=1.0)
    with bed.images() as images:
        with pytest.raises(Timeout):
            images.remove(NAME, False, Deadline(1))
        assert ids(images) == []
        until(lambda: not bed.storage.images())
    assert (bed.names(), bed.storage.layers()) == ([], [])


def test_what_an_earlier_service_has_begun_goes_on_no_more(bed: Bed) -> None:
    directory = Path(bed.settings.root_dir) / "benches/one"
    directory.mkdir(parents=True)
    with ExitStack() as stack:
        copy, delete = (
            stack.enter_context(
                subprocess.Popen(
                    ["sh", "-c", "read line", "skopeo", verb, f"{directory}/x"],
                    env=marked(bed.settings.run_dir),
                    stdin=subprocess.PIPE,
                )
            )
            for verb in ("copy", "delete")
        )
        with bed.images():
            assert copy.wait(LIMIT_S) == -signal.SIGKILL
            # It would remove an image that was pulled again.
            assert delete.wait(LIMIT_S) == -signal.SIGKILL


def test_an_image_that_another_program_has_removed_is_gone(
    bed: Bed, monkeypatch: pytest.MonkeyPatch
) -> None:
    def delete_twice(skopeo: Command, image_id: str, staging: str) -> Sequence[str]:
        argv = delete(skopeo, image_id, staging)
        subprocess.run(argv, check=True)
        return argv

    delete = Command.delete
    monkeypatch.setattr(Command, "delete", delete_twice)
    with bed.images() as images:
        assert images.remove(NAME, False, Deadline(60)).image_id == bed.image_id


def test_an_image_goes_when_its_other_name_is_taken_meanwhile(
    bed: Bed, monkeypatch: pytest.MonkeyPatch
) -> None:
    bed.rename(NAME, "localhost/other:1")
    before_edits(monkeypatch, lambda: bed.rename(NAME))
    with bed.images() as images:
        removed = images.remove(NAME, False, Deadline(60))
    assert (removed.untagged, removed.image_id) == ((NAME,), bed.image_id)
    assert bed.names() == []


def test_an_image_stays_that_is_given_a_name_meanwhile(
    bed: Bed, monkeypatch: pytest.MonkeyPatch
) -> None:
    before_edits(monkeypatch, lambda: bed.rename(NAME, "localhost/other:1"))
    with bed.images() as images:
        assert images.remove(NAME, False, Deadline(60)) == ((NAME,), "", ())
        assert ids(images) == [bed.image_id]


def before_edits(monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]) -> None:
    """Do something just before the service changes the list of images."""
    edit = ImageStorage.edit_images

    def edit_later(
        storage: ImageStorage, change: Callable[[bytes], bytes], deadline: Deadline
    ) -> None:
        act()
        edit(storage, change, deadline)

    monkeypatch.setattr(ImageStorage, "edit_images", edit_later)


def test_a_pull_that_is_given_up_during_its_last_sync_leaves_nothing(
    bed: Bed, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = registry.push(image([file("other")]), "other")
    syncing, left = Event(), Event()

    def sync(path: str) -> None:
        if current_thread().name == "pull":
            syncing.set()
            assert left.wait(LIMIT_S)
        sync_file_system(path)

    monkeypatch.setattr(copying, "sync_file_system", sync)
    with bed.images() as images:
        pull = images.pull(PullRequest(name), Deadline(LIMIT_S))
        next(pull)
        assert syncing.wait(LIMIT_S)
        pull.close()
        left.set()
        until(bed.is_undone)
        assert ids(images) == [bed.image_id]
    assert bed.names() == [[NAME]]


def test_an_image_that_is_there_waits_for_no_removal(
    bed: Bed, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, done = Event(), Event()
    with bed.images() as images:
        list(images.pull(PullRequest(bed.pulled), Deadline(60)))

        def wait() -> None:
            begun.set()
            done.wait(LIMIT_S)

        before_edits(monkeypatch, wait)
        tag = Thread(target=images.tag, args=(bed.image_id, "localhost/other:1", Deadline(60)))
        tag.start()
        try:
            assert begun.wait(LIMIT_S)
            *_, pulled = images.pull(PullRequest(bed.pulled), Deadline(10))
        finally:
            done.set()
            tag.join(LIMIT_S)
        assert isinstance(pulled, ImageView)
        assert pulled.image_id == bed.image_id


def test_an_image_that_is_there_is_asked_nobody_for(bed: Bed) -> None:
    bed.set(skopeo="/nonexistent/skopeo")
    with bed.images() as images:
        request = PullRequest(NAME, only_if_missing=True)
        assert [each.image_id for each in images.pull(request, Deadline(10))] == [bed.image_id]  # type: ignore[union-attr]


def test_a_root_is_mounted_when_another_program_has_made_its_layer_anew(bed: Bed) -> None:
    with bed.images() as images:
        lent = images.roots.lend(NAME, "container", readonly=False)
        unmount_overlay(lent.path)
        [link] = (bed.storage.root / "overlay").glob("*/link")
        links = bed.storage.root / "overlay/l"
        (links / link.read_text()).rename(links / "ANEW")
        link.write_text("ANEW")
        images.roots.ensure_mounted(lent.rootfs_id)
        assert (Path(lent.path) / "it").exists()
        images.roots.release(lent.rootfs_id, Deadline(LIMIT_S))
