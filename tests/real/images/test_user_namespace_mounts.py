"""Id-mapped layers: how they are mounted, what can't be, and what is left of that."""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from ocigrpc.engine.images import mounting
from ocigrpc.engine.images.rootfs import Roots
from ocigrpc.errors import HostFailed, PreconditionFailed, Timeout
from ocigrpc.host.files.overlay import is_mount_point, unmount_overlay
from ocigrpc.host.libc import libc
from ocigrpc.host.mappings import layers, namespace
from ocigrpc.host.mappings.layers import NotIdMapped, mount_idmapped_overlay
from ocigrpc.host.mappings.namespace import user_namespace
from ocigrpc.host.mappings.owners import Owners
from ocigrpc.oci.spec.root_files import MissingPlace
from ocigrpc.settings.images import ImagesSettings
from ocigrpc.waiting import Deadline
from tests.bed.faults.crashing_service import VICTIM, CrashingService
from tests.bed.hosts.host import native
from tests.bed.hosts.leaks import children, until
from tests.bed.hosts.mounted import mounted
from tests.bed.images.containers import create_of, roots_of, stock, storage_of
from tests.bed.images.layout import Image, write_layout
from tests.bed.images.mapped import GID, MAPPED, UID, mapped
from tests.bed.images.opened import opened_images
from tests.bed.images.storages import Skopeo, Storage
from tests.bed.services.serving import serving

SMALL = "localhost/small:1"
OWNERS = Owners(((0, UID, 1000),), ((0, GID, 1000),))


@pytest.fixture
def images(storage: Storage, skopeo: Skopeo, small_image: Image, tmp_path: Path) -> Iterator[Roots]:
    layout = write_layout(tmp_path / "layout", {"small": small_image})
    skopeo.copy(f"oci:{layout}:small", storage, SMALL)
    settings = ImagesSettings(root=str(storage.root), run=str(storage.run))
    storage.root.parent.chmod(0o711)
    with opened_images(storage.root.parent, settings) as images:
        yield images.roots
        assert images.roots.by_image() == {}
        left = storage.root.parent / "rootfs"
        assert not left.exists() or os.listdir(left) == []


def owner(path: Path | str) -> tuple[int, int]:
    found = os.lstat(path)
    return found.st_uid, found.st_gid


@pytest.fixture
def target(tmp_path: Path) -> Iterator[Path]:
    """Where an overlay is mounted, and unmounted at the end."""
    for name in ("merged", "upper", "work"):
        (tmp_path / "root" / name).mkdir(parents=True)
    yield tmp_path / "root/merged"
    unmount_overlay(str(tmp_path / "root/merged"))


def mount(store: Path, names: list[str], target: Path, *options: str) -> None:
    upper, work = (str(target.parent / name) for name in ("upper", "work"))
    with user_namespace(OWNERS) as held:
        mount_idmapped_overlay(
            names,
            str(target),
            namespace=held,
            store_dir=str(store),
            upper=upper,
            work=work,
            options=options,
        )


def mounts() -> list[str]:
    return Path("/proc/self/mountinfo").read_text().splitlines()


def test_layers_are_mounted_for_this_process_in_one_place(tmp_path: Path, target: Path) -> None:
    for number in range(127):
        (tmp_path / f"store/{number}").mkdir(parents=True)
        (tmp_path / f"store/{number}/{number}").touch()
    before, directory = mounts(), os.getcwd()
    mount(tmp_path / "store", [str(number) for number in range(127)], target)
    [line] = [each for each in mounts() if each not in before]
    assert str(target) in line
    assert len(os.listdir(target)) == 127
    assert owner(target / "126") == (UID, GID)
    assert owner(tmp_path / "store/126/126") == (0, 0)
    assert os.getcwd() == directory
    unmount_overlay(str(target))
    assert mounts() == before


def test_nobody_stays_in_a_namespace_that_is_held() -> None:
    before = set(children(os.getpid()))
    with user_namespace(OWNERS) as held:
        assert os.readlink(f"/proc/self/fd/{held}") != os.readlink("/proc/self/ns/user")
        assert set(children(os.getpid())) == before


def test_a_file_system_without_id_mapped_mounts_is_named(tmp_path: Path, target: Path) -> None:
    (tmp_path / "store").mkdir()
    with mounted(tmp_path / "store", "-t", "ramfs", "ramfs"):
        (tmp_path / "store/layer").mkdir()
        with pytest.raises(NotIdMapped) as refused:
            mount(tmp_path / "store", ["layer"], target)
        assert refused.value.filename == str(tmp_path / "store/layer")
    assert not is_mount_point(str(target))


def test_a_kernel_without_them_is_named_and_nothing_is_left(
    images: Roots, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The number of no call: ENOSYS, as an old kernel has it.
    monkeypatch.setattr(layers, "_MOUNT_SETATTR", 100_000)
    with pytest.raises(PreconditionFailed) as refused:
        images.lend(SMALL, "c", readonly=False, user_namespace=MAPPED)
    assert refused.value.reason == "ID_MAPPING_UNSUPPORTED"
    assert "/overlay/" in refused.value.metadata["path"]
    lent = images.lend(SMALL, "c", readonly=False)
    images.release(lent.rootfs_id, Deadline(20))


class OldKernel:
    """The calls of a kernel before 5.19, whose overlays take no id-mapped layers."""

    def __getattr__(self, name: str) -> object:
        return getattr(libc, name)

    def mount(self, source: bytes, place: bytes, kind: bytes, flags: object, data: bytes) -> int:
        """Mount, or refuse to; the system call of this name."""
        directories = (data or b"").partition(b",")[0].removeprefix(b"lowerdir=").split(b":")
        if kind == b"overlay" and any(each.isdigit() for each in directories):
            ctypes.set_errno(errno.EINVAL)
            return -1
        done: int = libc.mount(source, place, kind, flags, data)
        return done


def test_a_kernel_without_overlays_of_them_is_named_with_a_layer(
    images: Roots, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layers, "libc", OldKernel())
    with pytest.raises(PreconditionFailed) as refused:
        images.lend(SMALL, "c", readonly=False, user_namespace=MAPPED)
    assert refused.value.reason == "ID_MAPPING_UNSUPPORTED"
    assert "/overlay/" in refused.value.metadata["path"]


def test_what_else_an_overlay_is_refused_for_is_not_blamed_on_the_kernel(
    tmp_path: Path, target: Path
) -> None:
    (tmp_path / "store/layer").mkdir(parents=True)
    before = mounts()
    with pytest.raises(OSError, match=os.strerror(errno.EINVAL)) as refused:
        mount(tmp_path / "store", ["layer"], target, "nonsense=on")
    assert not isinstance(refused.value, NotIdMapped)
    assert mounts() == before
    mount(tmp_path / "store", ["layer"], target)


# What stands for unshare(1), and what comes of it.
FAULTS = [
    (("sh", "-c", "echo 'No space left on device' >&2; exit 1"), PreconditionFailed),
    (("sh", "-c", "exec sleep 100"), Timeout),
    # It is in the namespace of the host, whose maps nobody writes again.
    (("cat",), HostFailed),
    (("/nonexistent/unshare",), HostFailed),
]


@pytest.mark.parametrize(("argv", "error"), FAULTS, ids=["fails", "hangs", "lies", "is missing"])
def test_a_namespace_that_can_not_be_made_leaves_nothing(
    images: Roots, monkeypatch: pytest.MonkeyPatch, argv: tuple[str, ...], error: type[Exception]
) -> None:
    monkeypatch.setattr(namespace, "_ARGV", argv)
    monkeypatch.setattr(namespace, "_TIMEOUT_S", 0.5)
    before = set(children(os.getpid()))
    with pytest.raises(error) as refused:
        images.lend(SMALL, "c", readonly=False, user_namespace=MAPPED)
    if error is PreconditionFailed:
        assert isinstance(refused.value, PreconditionFailed)
        assert refused.value.reason == "ID_MAPPING_UNSUPPORTED"
        assert refused.value.metadata["error"] == "No space left on device"
    assert set(children(os.getpid())) == before


@pytest.mark.parametrize("readonly", [False, True])
def test_a_root_is_mounted_again_with_its_mappings(images: Roots, readonly: bool) -> None:
    lent = images.lend(SMALL, "c", readonly=readonly, user_namespace=MAPPED)
    images.complete(lent.rootfs_id, [MissingPlace("/srv/made", is_directory=True)])
    for _ in range(2):
        assert owner(f"{lent.path}/etc/passwd") == owner(f"{lent.path}/srv/made") == (UID, GID)
        assert owner(lent.path) == (UID, GID)
        unmount_overlay(lent.path)
        assert images.ensure_mounted(lent.rootfs_id) == lent.path
    assert images.owners(lent.rootfs_id).here(7, 8) == (UID + 7, GID + 8)
    assert bool(os.statvfs(lent.path).f_flag & os.ST_RDONLY) is readonly
    images.release(lent.rootfs_id, Deadline(20))


def test_roots_of_both_kinds_are_beside_each_other(images: Roots) -> None:
    plain = images.lend(SMALL, "a", readonly=False)
    lent = images.lend(SMALL, "b", readonly=False, user_namespace=MAPPED)
    assert owner(f"{plain.path}/etc/passwd") == (0, 0)
    assert owner(f"{lent.path}/etc/passwd") == (UID, GID)
    assert os.stat(os.path.dirname(plain.path)).st_mode & 0o777 == 0o700
    for each in (plain, lent):
        images.release(each.rootfs_id, Deadline(20))


_MOUNTING = mounting.__name__
CREATING = [
    ("before", f"{_MOUNTING}:mount_idmapped_overlay"),
    ("after", f"{_MOUNTING}:mount_idmapped_overlay"),
    ("after", "ocigrpc.engine.images.rootfs:Roots.complete"),
]


@pytest.fixture(scope="module")
def crashing(
    rootfs: Path, small_image: Image, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[CrashingService]:
    with native() as host, serving(host, rootfs) as service:
        service.directory.chmod(0o711)
        stock(service, tmp_path_factory.mktemp("stock"), small=small_image)
        yield CrashingService(service, {place for _, place in CREATING})


@pytest.mark.parametrize(("when", "place"), CREATING)
def test_a_create_that_was_cut_off_leaves_nothing(
    crashing: CrashingService, when: str, place: str
) -> None:
    service = crashing.service

    def create() -> str:
        return create_of(service, SMALL, "/bin/true", config=mapped(), container_id=VICTIM)

    with crashing.used():
        crashing.die_over(when, place, create)
        until(lambda: VICTIM not in service.ids())
        until(lambda: not roots_of(service))
        # In particular, whoever was in the namespace has ended.
        assert [each for each in service.leaks() if VICTIM in each] == []
        create()
    until(lambda: not roots_of(service))
    assert storage_of(service).leaks() == []
