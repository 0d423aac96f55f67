"""What containers write, counted and limited by quotas of projects; not limited without these.

A kernel with these quotas is the node's; see scripts/node.
"""

from __future__ import annotations

import errno
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from ocigrpc.host import quota
from ocigrpc.v1.config_pb2 import ContainerConfig
from ocigrpc.v1.image_pb2 import WritableLayer
from ocigrpc.v1.runtime_pb2 import CreateContainerRequest
from tests.bed.clients.refusal import refused
from tests.bed.documents import OPERATING, fences
from tests.bed.hosts.disks import device, disk
from tests.bed.hosts.host import booted_by_systemd, native
from tests.bed.hosts.leaks import until
from tests.bed.images.containers import create_of
from tests.bed.images.layout import Image, write_layout
from tests.bed.images.storages import Skopeo, Storage
from tests.bed.services.service import Service
from tests.bed.services.serving import serving
from tests.real.conftest import StartService

SMALL = "localhost/small:1"
MIB = 1 << 20
LIMIT_BYTES = 4 * MIB
FILL = "dd if=/dev/zero of=/fill bs=64k count=160"
"""10 MiB."""
MAKE_DISK = [
    text for language, text in fences(OPERATING) if language == "sh" and "prjquota" in text
]
NOTHING = quota.ProjectUsage(0, 0, 0)

with_quotas = pytest.mark.skipif(
    not booted_by_systemd(), reason="a kernel that was made for one purpose may lack quotas"
)


class Limiting:
    """A service whose root directory is on a disk with project quotas."""

    def __init__(self, service: Service, disk: Path) -> None:
        self.service = service
        self.disk = disk

    def create(self, *command: str, **config: object) -> str:
        wanted = ContainerConfig(**config)  # type: ignore[arg-type]
        return create_of(self.service, SMALL, *command, config=wanted)

    def run(self, container_id: str) -> int:
        self.service.start_container(container_id)
        return self.service.wait(container_id).exit_code

    def layers(self) -> Sequence[WritableLayer]:
        return self.service.client.image_fs_info().writable_layers

    def uppers(self) -> list[Path]:
        return list((self.disk / "root/rootfs").glob("*/upper"))

    def projects(self) -> list[int]:
        return [quota.project_of(str(each)) for each in self.uppers()]

    def usage(self, project_id: int) -> quota.ProjectUsage:
        return quota.usage(str(self.disk), project_id)

    def wait_for_end_of(self, project_id: int) -> None:
        """xfs frees inodes in the background."""
        until(lambda: self.usage(project_id) == NOTHING)


@contextmanager
def documented_disk(commands: str, directory: Path) -> Iterator[Path]:
    """A disk that the commands of a document have made and mounted."""
    path = directory / "disk"
    path.mkdir()
    with device(directory / "image") as name:
        text = commands.replace("/dev/sdb", name).replace("/var/lib/ocigrpc", str(path))
        subprocess.run(["bash", "-euc", text], check=True)
        try:
            yield path
        finally:
            subprocess.run(["umount", str(path)], check=True)


@pytest.fixture(scope="module")
def _limiting(
    request: pytest.FixtureRequest, rootfs: Path, small_image: Image
) -> Iterator[Limiting]:
    with ExitStack() as stack:
        named = tempfile.TemporaryDirectory(prefix="ocigrpc-quota-", dir="/var/tmp")
        directory = Path(stack.enter_context(named))
        on = stack.enter_context(documented_disk(request.param, directory))
        host = stack.enter_context(native())
        service = stack.enter_context(serving(host, rootfs, root_dir=on / "root"))
        (directory / "skopeo").mkdir()
        source = write_layout(directory / "layout", {"it": small_image})
        storage = Storage(on / "root/images", service.directory / "run/images")
        Skopeo(directory / "skopeo").copy(f"oci:{source}:it", storage, SMALL)
        yield Limiting(service, on)


@pytest.fixture
def limiting(_limiting: Limiting) -> Iterator[Limiting]:
    """A service on such a disk, on which nothing is left of any container in the end."""
    yield _limiting
    projects = _limiting.projects()
    _limiting.service.remove_all()
    assert _limiting.uppers() == []
    for each in projects:
        _limiting.wait_for_end_of(each)


@pytest.mark.node
@with_quotas
@pytest.mark.parametrize("_limiting", MAKE_DISK[:1], ids=["ext4"], indirect=True)
def test_what_a_container_writes_is_known_at_once_and_exactly(limiting: Limiting) -> None:
    other, container_id = limiting.create("/bin/true"), limiting.create("/bin/sh", "-c", FILL)
    assert limiting.run(container_id) == 0
    asked_ns = time.time_ns()
    used = {each.container_id: each for each in limiting.layers()}
    layer = used[container_id]
    assert layer.measured_at.ToNanoseconds() >= asked_ns
    (upper,) = (each for each in limiting.uppers() if (each / "fill").exists())
    work = upper.parent / "work"
    files = [path.lstat() for top in (upper, work) for path in (top, *top.rglob("*"))]
    assert layer.used.inodes == len(files)
    assert layer.used.bytes == sum(each.st_blocks * 512 for each in files) >= 10 * MIB
    assert layer.limit_bytes == 0
    # Each has a project of its own.
    assert used[other].used.bytes < MIB
    assert len({*limiting.projects(), 0}) == 3


@pytest.mark.node
@with_quotas
@pytest.mark.parametrize("_limiting", MAKE_DISK, ids=["ext4", "xfs"], indirect=True)
def test_a_limit_holds_also_after_a_restart_and_ends_with_the_container(
    limiting: Limiting,
) -> None:
    limited = limiting.create("/bin/sh", "-c", FILL, rootfs_limit_bytes=LIMIT_BYTES)
    (project_id,) = limiting.projects()
    limiting.service.die()
    limiting.service.start()
    assert limiting.run(limited) == 1
    messages = limiting.service.output(limited, "stderr")
    full = os.strerror(errno.EDQUOT), os.strerror(errno.ENOSPC)
    assert any(each.endswith(full) for each in messages), messages
    (layer,) = limiting.layers()
    assert (layer.container_id, layer.limit_bytes) == (limited, LIMIT_BYTES)
    assert LIMIT_BYTES - MIB < layer.used.bytes <= LIMIT_BYTES
    assert limiting.service.status(limited).rootfs_limit_bytes == LIMIT_BYTES
    limiting.service.remove(limited)
    limiting.wait_for_end_of(project_id)


@pytest.mark.node
@with_quotas
@pytest.mark.parametrize("_limiting", MAKE_DISK[:1], ids=["ext4"], indirect=True)
def test_a_project_of_somebody_else_is_neither_used_nor_changed(limiting: Limiting) -> None:
    first = limiting.create("/bin/true", rootfs_limit_bytes=LIMIT_BYTES)
    (project_id,) = limiting.projects()
    limiting.service.remove(first)
    limiting.wait_for_end_of(project_id)
    # It would be given to the next one.
    place = str(limiting.disk)
    theirs = limiting.disk / "theirs"
    theirs.mkdir()
    quota.set_project(str(theirs), project_id)
    quota.set_limit(place, project_id, 7 * MIB)
    before = limiting.usage(project_id)
    second = limiting.create("/bin/true", rootfs_limit_bytes=LIMIT_BYTES)
    assert limiting.projects() != [project_id]
    limiting.service.remove(second)
    assert limiting.usage(project_id) == before
    quota.set_limit(place, project_id, 0)
    theirs.rmdir()


def test_a_limit_is_refused_where_nothing_could_hold_to_it_and_nothing_is_left(
    start_service: StartService, small_image: Image, tmp_path: Path
) -> None:
    with disk(tmp_path / "disk") as without:
        service = start_service(root_dir=without.path / "root")
        storage = Storage(without.path / "root/images", service.directory / "run/images")
        (tmp_path / "skopeo").mkdir()
        source = write_layout(tmp_path / "layout", {"it": small_image})
        Skopeo(tmp_path / "skopeo").copy(f"oci:{source}:it", storage, SMALL)
        config = ContainerConfig(rootfs_limit_bytes=LIMIT_BYTES)
        with refused("FAILED_PRECONDITION", "ROOTFS_QUOTA_UNSUPPORTED") as refusal:
            create_of(service, SMALL, "/bin/true", config=config)
        assert refusal.metadata["field"] == "config.rootfs_limit_bytes"
        assert service.ids() == []
        rootfs = without.path / "root/rootfs"
        assert list(rootfs.iterdir()) == []
        for wrong in (1, 1 << 61):
            config = ContainerConfig(rootfs_limit_bytes=wrong)
            with refused("INVALID_ARGUMENT", "OUT_OF_RANGE"):
                create_of(service, SMALL, "/bin/true", config=config)
        config = ContainerConfig(rootfs_path="/", command=["true"], rootfs_limit_bytes=LIMIT_BYTES)
        with refused("INVALID_ARGUMENT", "NOT_APPLICABLE"):
            service.client.create_container(CreateContainerRequest(config=config))
        assert list(rootfs.iterdir()) == []
        service.end()
