"""Root filesystems of images, wherever the service dies, and after the host was started again."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from ocigrpc.engine.images.rootfs import Roots
from ocigrpc.engine.store.store import Store
from ocigrpc.errors import StoreFailed
from ocigrpc.host.archives.reading import Archive
from ocigrpc.host.files import overlay
from ocigrpc.host.files.overlay import unmount_overlay
from ocigrpc.image_errors import ImageUnusable
from ocigrpc.settings.images import ImagesSettings
from ocigrpc.v1.config_pb2 import ContainerConfig
from ocigrpc.v1.runtime_pb2 import CreateContainerRequest
from ocigrpc.waiting import Deadline
from tests.bed.bundles.archives import archive, member
from tests.bed.clients.refusal import refused
from tests.bed.faults.crashing_service import VICTIM, CrashingService
from tests.bed.faults.runtimes import Gate
from tests.bed.hosts.host import native
from tests.bed.hosts.leaks import LIMIT_S, until
from tests.bed.hosts.mounted import mounted
from tests.bed.images.containers import create_of, left_by, roots_of, stock, storage_of
from tests.bed.images.layout import Image, write_layout
from tests.bed.images.opened import opened_images
from tests.bed.images.storages import Skopeo, Storage
from tests.bed.services.service import Service
from tests.bed.services.serving import serving
from tests.real.conftest import Runtimes, StartService
from tests.real.test_identity import ANOTHER_BOOT, rewrite
from tests.real.test_recovery import restart_after_death

SMALL = "localhost/small:1"

_ROOTS = "ocigrpc.engine.images.rootfs"
_MOUNTING = "ocigrpc.engine.images.mounting"
_STORE = "ocigrpc.engine.store.store:Store"

# Each step between a create that begins and a container that is there.
CREATING = [
    ("before", f"{_ROOTS}:Roots.lend"),
    ("before", f"{_MOUNTING}:make_directory"),
    ("after", f"{_MOUNTING}:make_directory"),
    ("before", f"{_MOUNTING}:mount_overlay"),
    ("after", f"{_MOUNTING}:mount_overlay"),
    ("after", f"{_ROOTS}:Roots.complete"),
    ("before", f"{_STORE}.begin"),
    ("after", f"{_STORE}.begin"),
    ("after", "ocigrpc.conmon.launch:Launch.go"),
    ("after", "ocigrpc.conmon.launch:Launch.created_pid"),
]
REMOVING = [
    ("before", f"{_ROOTS}:Roots.release"),
    ("after", f"{_MOUNTING}:unmount_overlay"),
    ("after", "ocigrpc.host.files.tree_removals:remove_tree"),
    ("after", f"{_ROOTS}:Roots.release"),
]


@pytest.fixture(scope="module")
def _crashing(
    rootfs: Path, small_image: Image, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[CrashingService]:
    with native() as host, serving(host, rootfs) as service:
        stock(service, tmp_path_factory.mktemp("stock"), small=small_image)
        yield CrashingService(service, {place for _, place in CREATING + REMOVING})


@pytest.fixture
def crashing(_crashing: CrashingService) -> Iterator[CrashingService]:
    with _crashing.used():
        yield _crashing
    until(lambda: not roots_of(_crashing.service))
    assert storage_of(_crashing.service).leaks() == []


def create(service: Service, *, readonly: bool = False) -> str:
    config = ContainerConfig(readonly_rootfs=readonly)
    return create_of(service, SMALL, "/bin/sleep", "1000", config=config, container_id=VICTIM)


def overlays(service: Service) -> list[str]:
    """Those of the host; runtimes that are ending may have some for a moment."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return [each for each in lines if str(service.directory / "root/rootfs") in each]


@pytest.mark.parametrize(("when", "place"), CREATING, ids=lambda part: part.rpartition(":")[2])
@pytest.mark.parametrize("readonly", [False, True], ids=["writable", "readonly"])
def test_a_create_that_was_cut_off_leaves_no_root(
    crashing: CrashingService, when: str, place: str, readonly: bool
) -> None:
    crashing.die_over(when, place, lambda: create(crashing.service, readonly=readonly))
    until(lambda: VICTIM not in crashing.service.ids())
    until(lambda: not roots_of(crashing.service))
    assert overlays(crashing.service) == []
    create(crashing.service, readonly=readonly)
    assert len(roots_of(crashing.service)) == len(overlays(crashing.service)) == 1


@pytest.mark.parametrize(("when", "place"), REMOVING, ids=lambda part: part.rpartition(":")[2])
def test_a_removal_that_was_cut_off_is_finished(
    crashing: CrashingService, when: str, place: str
) -> None:
    create(crashing.service)
    crashing.service.start_container(VICTIM)
    crashing.die_over(when, place, lambda: crashing.service.remove(VICTIM, force=True))
    until(lambda: VICTIM not in crashing.service.ids())
    assert roots_of(crashing.service) == []
    assert overlays(crashing.service) == []


def test_a_container_lives_on_with_its_root(crashing: CrashingService) -> None:
    service = crashing.service
    create(service)
    service.start_container(VICTIM)
    before = overlays(service)
    service.die()
    crashing.restart()
    assert service.state(VICTIM) == "running"
    assert service.status(VICTIM).image_name == SMALL
    assert overlays(service) == before != []


def test_after_a_reboot_nothing_is_mounted_and_all_can_be_removed(
    start_service: StartService, small_image: Image, tmp_path: Path
) -> None:
    service = start_service()
    stock(service, tmp_path, small=small_image)
    container_id = create_of(service, SMALL, "/bin/sh", "-c", "echo kept > /new; exec sleep 1000")
    service.start_container(container_id)
    [root] = roots_of(service)
    until((root / "upper/new").exists)
    service.end()
    merged = service.directory / "root/rootfs" / root.name / "merged"
    subprocess.run(["umount", "--lazy", merged], check=True)
    rewrite(service, init=ANOTHER_BOOT, monitor=ANOTHER_BOOT)
    service.start()
    assert service.state(container_id) == "stopped"
    assert overlays(service) == []
    assert (merged.parent / "upper/new").exists()
    service.remove(container_id)
    assert left_by(service) == []


def test_a_root_stays_while_its_create_is_not_undone(
    start_service: StartService,
    faulty_runtimes: Runtimes,
    gate: Gate,
    small_image: Image,
    tmp_path: Path,
) -> None:
    service = start_service(runtimes=faulty_runtimes)
    stock(service, tmp_path, small=small_image)
    config = ContainerConfig(image=SMALL)
    request = CreateContainerRequest(config=config, runtime_handler="hangs", container_id=VICTIM)
    call = service.wire.CreateContainer.future(request, timeout=LIMIT_S)
    gate.wait(Deadline(LIMIT_S))
    in_the_way = service.directory / f"run/containers/{VICTIM}/mounted"
    in_the_way.mkdir()
    with mounted(in_the_way, "-t", "tmpfs", "tmpfs"):
        call.cancel()
        until(lambda: service.ids() == [])
        assert len(roots_of(service)) == len(overlays(service)) == 1
    restart_after_death(service)
    until(lambda: service.ids() == [])
    assert left_by(service) == []


@pytest.mark.parametrize("readonly", [False, True], ids=["writable", "readonly"])
def test_after_a_reboot_files_go_into_and_out_of_a_stopped_container(
    start_service: StartService, small_image: Image, tmp_path: Path, readonly: bool
) -> None:
    service = start_service()
    stock(service, tmp_path, small=small_image)
    container_id = create(service, readonly=readonly)
    service.start_container(container_id)
    service.stop(container_id, 0)
    [root] = (service.directory / "root/rootfs").iterdir()
    service.end()
    # What a restart of the host takes: the mount, and what is in the run directory.
    subprocess.run(["umount", root / "merged"], check=True)
    shutil.rmtree(service.state_dir / "run/containers" / container_id)
    service.start()
    client = service.client
    made = [archive((member("new", uid=5), b"content"))]
    if readonly:
        with refused("FAILED_PRECONDITION", "PATH_READ_ONLY"):
            client.copy_into(container_id, "/tmp", made)
    else:
        client.copy_into(container_id, "/tmp", made)
        assert (root / "upper/tmp/new").stat().st_uid == 5
        # Which user its program had was only in the spec.
        with refused("FAILED_PRECONDITION", "PATH_UNUSABLE"):
            client.copy_into(container_id, "/tmp", made, chown=True)
    names = {each.info.name for each in Archive(client.copy_out(container_id, "/tmp"))}
    assert names == {"tmp"} if readonly else {"tmp", "tmp/new"}
    assert client.path_stat(container_id, "/bin/sh").mode
    service.remove(container_id)
    assert left_by(service) == []


@pytest.fixture
def images(storage: Storage, skopeo: Skopeo, small_image: Image, tmp_path: Path) -> Iterator[Roots]:
    layout = write_layout(tmp_path / "layout", {"small": small_image})
    skopeo.copy(f"oci:{layout}:small", storage, SMALL)
    # A root filesystem is beside its images, on a disk.
    settings = ImagesSettings(root=str(storage.root), run=str(storage.run))
    with opened_images(storage.root.parent, settings) as images:
        yield images.roots
        assert images.roots.by_image() == {}


def test_a_root_is_mounted_again_where_it_is_needed(images: Roots) -> None:
    for readonly in (False, True):
        lent = images.lend(SMALL, "c", readonly=readonly)
        (Path(lent.path) / "kept").write_text("kept")
        images.complete(lent.rootfs_id, ())
        unmount_overlay(lent.path)
        assert os.listdir(lent.path) == []
        assert images.ensure_mounted(lent.rootfs_id) == lent.path
        assert images.ensure_mounted(lent.rootfs_id) == lent.path
        assert (Path(lent.path) / "kept").read_text() == "kept"
        assert os.access(lent.path, os.W_OK) is not readonly
        unmount_overlay(lent.path)
        images.release(lent.rootfs_id, Deadline(LIMIT_S))
        images.release(lent.rootfs_id, Deadline(LIMIT_S))


def test_what_a_loss_of_power_made_us_forget_is_removed_unless_it_was_written_to(
    images: Roots,
) -> None:
    used = images.lend(SMALL, "used", readonly=False)
    images.lend(SMALL, "unused", readonly=False)
    directory = Path(used.path).parents[1]
    forgotten, written, anothers, begun = (directory / (each * 32) for each in "0123")
    for each in (forgotten, written, anothers, begun, directory / "lost+found"):
        each.mkdir()
    for each in (forgotten, written, anothers):
        (each / "upper").mkdir()
        (each / "id").write_text(each.name if each != anothers else forgotten.name)
    (written / "upper/file").touch()
    left = {used.rootfs_id, anothers.name, written.name, "lost+found"}
    with capture_logs() as logs:
        images.recover({used.rootfs_id})
    assert set(os.listdir(directory)) == left
    named = {each["path"] for each in logs if each["event"] == "rootfs.unknown"}
    assert named == {str(directory / each) for each in left - {used.rootfs_id}}
    assert (Path(used.path) / "bin/sh").exists()
    images.release(used.rootfs_id, Deadline(LIMIT_S))
    assert images.users(used.image_id) == ()


def test_a_directory_of_roots_that_can_not_be_read_ends_no_start(
    images: Roots, storage: Storage
) -> None:
    (storage.root.parent / "rootfs").touch()
    images.recover(())


def test_a_store_that_is_full_keeps_no_root_from_being_released(
    images: Roots, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise StoreFailed("no space left", reason="STORE_FAILED")

    lent = images.lend(SMALL, "c", readonly=False)
    with monkeypatch.context() as failing:
        failing.setattr(Store, "delete", fail)
        images.release(lent.rootfs_id, Deadline(LIMIT_S))
    assert not Path(lent.path).parent.exists()
    assert images.users(lent.image_id) == ()


def test_of_an_image_that_others_have_removed_nothing_is_remembered(
    images: Roots, storage: Storage
) -> None:
    released = list[str]()
    images.when_released = released.append
    listed = storage.root / "overlay-images/images.json"
    before = listed.read_text()
    for text in (before, "[]", "damaged"):
        lent = images.lend(SMALL, "c", readonly=False)
        listed.write_text(text)
        images.release(lent.rootfs_id, Deadline(LIMIT_S))
        assert released == [lent.image_id]
        assert not Path(lent.path).parent.exists()
        listed.write_text(before)


def test_what_can_not_be_mounted_leaves_nothing(
    images: Roots, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(overlay, "_FSOPEN", 100_000)
    monkeypatch.setattr(overlay, "_OPTIONS_LIMIT_BYTES", 64)
    with pytest.raises(ImageUnusable) as refused:
        images.lend(SMALL, "c", readonly=False)
    assert (refused.value.reason, refused.value.metadata["layers"]) == ("IMAGE_TOO_DEEP", "1")
    monkeypatch.setattr(overlay, "_OPTIONS_LIMIT_BYTES", 4095)
    lent = images.lend(SMALL, "c", readonly=False)
    assert os.listdir(Path(lent.path).parents[1]) == [lent.rootfs_id]
    images.release(lent.rootfs_id, Deadline(LIMIT_S))
