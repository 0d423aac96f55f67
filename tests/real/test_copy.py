"""Files go into and out of containers, and never out of their roots."""

from __future__ import annotations

import errno
import json
import os
import resource
import stat
import tarfile
import threading
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from ocigrpc.errors import OcigrpcError
from ocigrpc.host.archives.reading import Archive
from ocigrpc.v1 import copy_pb2
from ocigrpc.v1 import runtime_pb2 as pb
from tests.bed.bundles.archives import (
    archive,
    fill,
    member,
    packed_by_tar,
    tree,
    unpack_by_tar,
)
from tests.bed.bundles.bundle import make_rootfs, spec_json
from tests.bed.clients.refusal import refused
from tests.bed.hosts.leaks import until
from tests.bed.services.service import Service

SLEEP = ("/bin/sleep", "1000")
SECRET = b"of the host"
# A directory is nothing, a link out of the root, and a directory again.
SWAP = """
mkdir /work/safe
while :; do
    ln -s {outside} /work/d
    rm /work/d
    mv /work/safe /work/d
    mv /work/d /work/safe
done
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A root filesystem of this test's own."""
    root = make_rootfs(tmp_path)
    (root / "work").mkdir()
    return root


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A directory of the host."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/secret").write_bytes(SECRET)
    return tmp_path / "outside"


def created(
    service: Service,
    root: Path,
    *command: str,
    mounts: Iterable[dict[str, object]] = (),
    linux: dict[str, object] | None = None,
    user: dict[str, object] | None = None,
    readonly: bool = False,
) -> str:
    """A container whose files are at ``root``."""
    spec = json.loads(spec_json(root, command or SLEEP))
    spec["root"]["readonly"] = readonly
    spec["mounts"] += mounts
    spec["linux"] |= linux or {}
    spec["process"] |= {"user": user} if user else {}
    if linux:
        spec["linux"]["namespaces"].append({"type": "user"})
    request = pb.CreateContainerRequest(spec_json=json.dumps(spec))
    return service.client.create_container(request).container_id


def started(service: Service, root: Path, *command: str, **fields: object) -> str:
    container_id = created(service, root, *command, **fields)  # type: ignore[arg-type]
    service.start_container(container_id)
    return container_id


def tmpfs(at: str, *options: str) -> dict[str, object]:
    return {"destination": at, "type": "tmpfs", "source": "tmpfs", "options": list(options)}


def names_in(pieces: Iterable[bytes]) -> set[str]:
    return {each.info.name for each in Archive(pieces)}


def content_of(pieces: Iterable[bytes]) -> bytes:
    """The content of the file that an archive begins with."""
    read = Archive(pieces)
    for _ in read:
        return b"".join(read.content())
    raise AssertionError("it has none")


def held(service: Service) -> list[str]:
    """What the service has open of files of containers, and of their mount namespaces."""
    found = []
    for fd in Path(f"/proc/{service.pid}/fd").iterdir():
        with suppress(FileNotFoundError):
            found.append(os.readlink(fd))
    return [link for link in found if link.startswith(("mnt:", "/work")) or "/rootfs" in link]


def test_files_of_every_kind_go_in_and_out_as_they_are(
    any_service: Service, root: Path, tmp_path: Path
) -> None:
    source, back = tmp_path / "source", tmp_path / "back"
    for each in (source, back):
        each.mkdir()
    fill(source)
    container_id = started(any_service, root)
    client = any_service.client
    written = client.copy_into(container_id, "/work", [packed_by_tar(source)])
    assert written.entries == len(tree(source))
    assert written.bytes == (3 << 20) + 7000 + len("program")
    assert tree(root / "work") == tree(source)
    unpack_by_tar(client.copy_out(container_id, "/work", name="."), back)
    assert tree(back) == tree(source)


def test_running_and_paused_containers_have_their_mounts_and_stopped_ones_not(
    any_service: Service, root: Path
) -> None:
    client = any_service.client
    (root / "data").mkdir()
    (root / "data/below").write_bytes(b"below the mount")
    container_id = created(any_service, root, mounts=[tmpfs("/data")])
    client.copy_into(container_id, "/data", [archive((member("new"), b"in the mount"))])

    def names() -> set[str]:
        return names_in(client.copy_out(container_id, "/data"))

    assert names() == {"data", "data/new"}
    any_service.start_container(container_id)
    assert names() == {"data", "data/new"}
    any_service.pause(container_id)
    client.copy_into(container_id, "/data", [archive((member("paused"), b"x"))])
    assert names() == {"data", "data/new", "data/paused"}
    any_service.resume(container_id)
    any_service.stop(container_id, 0)
    assert names() == {"data", "data/below"}
    client.copy_into(container_id, "/", [archive((member("data/later"), b"x"))])
    assert (root / "data/later").read_bytes() == b"x"


def test_a_stat_says_what_is_at_a_path(service: Service, root: Path) -> None:
    client = service.client
    (root / "work/file").write_bytes(b"12345")
    os.utime(root / "work/file", ns=(1, 5_000_000_007))
    (root / "work/link").symlink_to("../work/file")
    container_id = started(service, root)
    found = client.path_stat(container_id, "/work/file")
    assert (found.name, found.size_bytes, found.link_target) == ("file", 5, "")
    assert (found.modified_at.seconds, found.modified_at.nanos) == (5, 7)
    assert found.mode == (root / "work/file").stat().st_mode
    link = client.path_stat(container_id, "/work/link")
    assert stat.S_ISLNK(link.mode)
    assert link.link_target == "../work/file"
    assert client.path_stat(container_id, "/work/link", follow_link=True).size_bytes == 5
    for path, name in (("/", "."), ("/work/", "work"), ("/work/.", "."), ("/work//", "work")):
        directory = client.path_stat(container_id, path)
        assert stat.S_ISDIR(directory.mode)
        assert directory.name == name


def test_links_lead_to_files_of_the_container(service: Service, root: Path, outside: Path) -> None:
    client = service.client
    (root / "etc/secret").write_bytes(b"of the container")
    (root / "work/absolute").symlink_to("/etc/secret")
    (root / "work/above").symlink_to("../../../../../../etc/secret")
    (root / "work/out").symlink_to(outside)
    for running in (True, False):
        container_id = started(service, root)
        if not running:
            service.stop(container_id, 0)
        for name in ("absolute", "above"):
            pieces = client.copy_out(container_id, f"/work/{name}", follow_link=True)
            assert content_of(pieces) == b"of the container"
        assert content_of(client.copy_out(container_id, "/../../etc/secret")) == b"of the container"
        for path in (f"/work/out/{'secret'}", str(outside / "secret"), "/work/out/."):
            with refused("NOT_FOUND", "PATH_NOT_FOUND") as refusal:
                list(client.copy_out(container_id, path))
            assert refusal.metadata == {"container_id": container_id, "path": path}
        with refused("NOT_FOUND", "PATH_NOT_FOUND"):
            client.copy_into(container_id, "/work/out", [archive(member("x"))])
    assert set(outside.iterdir()) == {outside / "secret"}


def test_a_program_that_swaps_directories_leads_nothing_out_of_the_root(
    service: Service, root: Path, outside: Path
) -> None:
    client = service.client
    container_id = started(service, root, "/bin/sh", "-c", SWAP.format(outside=outside))
    made = archive(member("d", type=tarfile.DIRTYPE), (member("d/secret"), b"copied in"))
    deep = archive((member("d/e/secret"), b"copied in"))
    outcomes = set()
    for turn in range(120):
        with suppress(OcigrpcError):
            client.copy_into(container_id, "/work", [(made, deep)[turn % 2]])
            outcomes.add("into")
        with suppress(OcigrpcError):
            pieces = client.copy_out(container_id, "/work/d/secret", follow_link=True)
            assert content_of(pieces) == b"copied in"
            outcomes.add("out")
        with suppress(OcigrpcError):
            read = Archive(client.copy_out(container_id, "/work"))
            assert SECRET not in {b"".join(read.content()) for _ in read}
            outcomes.add("all")
    assert outcomes >= {"into", "all"}
    assert tree(outside).keys() == {"secret"}
    assert (outside / "secret").read_bytes() == SECRET


def test_names_and_hard_links_of_an_archive_stay_in_the_directory(
    service: Service, root: Path, outside: Path
) -> None:
    client = service.client
    container_id = started(service, root)
    client.copy_into(
        container_id, "/work", [archive(member("../../etc/evil"), member(f"{outside}/evil"))]
    )
    assert (root / "work/etc/evil").exists()
    assert (root / f"work/{outside}/evil").exists()
    assert not (root / "etc/evil").exists()
    for target in ("../etc/passwd", str(outside / "secret"), "../../../../etc/passwd"):
        link = member("link", type=tarfile.LNKTYPE, linkname=target)
        with refused("INVALID_ARGUMENT", "ARCHIVE_MALFORMED") as refusal:
            client.copy_into(container_id, "/work", [archive(link)])
        assert refusal.fields == ["chunk"]
    assert not (root / "work/link").exists()
    assert set(outside.iterdir()) == {outside / "secret"}


def test_devices_are_made_and_never_opened(service: Service, root: Path) -> None:
    client = service.client
    container_id = started(service, root)
    device = member("null", type=tarfile.CHRTYPE, devmajor=1, devminor=3, mode=0o666)
    client.copy_into(container_id, "/work", [archive(device, member("p", type=tarfile.FIFOTYPE))])
    found = (root / "work/null").stat()
    assert (stat.S_ISCHR(found.st_mode), found.st_rdev) == (True, os.makedev(1, 3))
    # Nothing writes to the FIFO, and nothing is read of the device.
    read = [each.info for each in Archive(client.copy_out(container_id, "/work"))]
    assert {(each.name, each.ischr(), each.isfifo()) for each in read} == {
        ("work", False, False),
        ("work/null", True, False),
        ("work/p", False, True),
    }
    assert names_in(client.copy_out(container_id, "/work/p")) == {"p"}
    client.copy_into(container_id, "/work", [archive((member("p"), b"a file"))])
    assert (root / "work/p").read_bytes() == b"a file"


def test_what_the_kernel_generates_is_left_out(service: Service, root: Path) -> None:
    client = service.client
    container_id = started(service, root)
    found = {each.info.name: each.info for each in Archive(client.copy_out(container_id, "/"))}
    assert found["./proc"].isdir()
    assert found["./bin/busybox"].size
    for generated in ("./proc/", "./sys/", "./dev/pts/"):
        assert not [name for name in found if name.startswith(generated)]
    assert "1/status" in names_in(client.copy_out(container_id, "/proc/1"))
    # Its content has another size than it says.
    assert content_of(client.copy_out(container_id, "/sys/kernel/uevent_seqnum")) == b""


def test_owners_are_those_that_the_container_sees(service: Service, root: Path) -> None:
    mappings = [
        {"containerID": 0, "hostID": 0, "size": 1000},
        {"containerID": 1000, "hostID": 70_000, "size": 1000},
    ]
    linux: dict[str, object] = {"uidMappings": mappings, "gidMappings": mappings}
    user: dict[str, object] = {"uid": 1001, "gid": 1002}
    client = service.client
    container_id = started(service, root, linux=linux, user=user)
    for state in ("running", "stopped"):
        assert service.state(container_id) == state
        name = f"of-{state}"
        client.copy_into(container_id, "/work", [archive(member(name, uid=1234, gid=5))])
        found = (root / "work" / name).stat()
        assert (found.st_uid, found.st_gid) == (70_234, 5)
        (read,) = Archive(client.copy_out(container_id, f"/work/{name}"))
        assert (read.info.uid, read.info.gid) == (1234, 5)
        client.copy_into(container_id, "/work", [archive(member(name, uid=9))], chown=True)
        found = (root / "work" / name).stat()
        assert (found.st_uid, found.st_gid) == (70_001, 70_002)
        with refused("FAILED_PRECONDITION", "PATH_UNUSABLE") as refusal:
            client.copy_into(container_id, "/work", [archive(member("x", uid=3000))])
        assert refusal.metadata["path"] == "/work/x"
        service.stop(container_id, 0)


def test_a_read_only_root_stays_as_it_is(service: Service, root: Path) -> None:
    client = service.client
    container_id = started(service, root, readonly=True, mounts=[tmpfs("/data")])
    client.copy_into(container_id, "/data", [archive(member("x"))])
    for path in ("/work", "/work/../work"):
        with refused("FAILED_PRECONDITION", "PATH_READ_ONLY"):
            client.copy_into(container_id, path, [archive(member("x"))])
    service.stop(container_id, 0)
    with refused("FAILED_PRECONDITION", "PATH_READ_ONLY") as refusal:
        client.copy_into(container_id, "/work", [archive(member("x"))])
    assert refusal.metadata == {"container_id": container_id, "path": "/work"}
    assert list((root / "work").iterdir()) == []


def test_a_full_disk_has_nothing_of_the_file_that_found_it_full(
    service: Service, root: Path
) -> None:
    client = service.client
    container_id = started(service, root, mounts=[tmpfs("/data", "size=1m")])
    made = archive((member("first"), b"1" * 1000), (member("second"), b"2" * (2 << 20)))
    with refused("RESOURCE_EXHAUSTED", "DISK_FULL") as refusal:
        client.copy_into(container_id, "/data", [made])
    assert refusal.metadata == {"container_id": container_id, "path": "/data/second"}
    assert names_in(client.copy_out(container_id, "/data")) == {"data", "data/first"}


@pytest.mark.parametrize(
    ("path", "code", "reason"),
    [
        ("/none", "NOT_FOUND", "PATH_NOT_FOUND"),
        ("/none/", "NOT_FOUND", "PATH_NOT_FOUND"),
        ("/etc/passwd/", "FAILED_PRECONDITION", "NOT_A_DIRECTORY"),
        ("/etc/passwd/x", "FAILED_PRECONDITION", "NOT_A_DIRECTORY"),
        ("/work/loop", "FAILED_PRECONDITION", "PATH_UNUSABLE"),
        ("/" + "x" * 256, "INVALID_ARGUMENT", "TOO_LONG"),
        ("etc", "INVALID_ARGUMENT", "PATH_NOT_ABSOLUTE"),
        ("", "INVALID_ARGUMENT", "REQUIRED"),
    ],
)
def test_a_wrong_path_is_refused_both_ways(
    service: Service, root: Path, path: str, code: str, reason: str
) -> None:
    (root / "work/loop").symlink_to("loop")
    container_id = started(service, root)
    with refused(code, reason):
        list(service.client.copy_out(container_id, path, follow_link=True))
    with refused(code, reason):
        service.client.copy_into(container_id, path, [archive(member("x"))])


def test_a_root_filesystem_that_is_gone_is_said_to_be(service: Service, root: Path) -> None:
    container_id = started(service, root)
    service.stop(container_id, 0)
    root.rename(root.with_name("elsewhere"))
    with refused("FAILED_PRECONDITION", "PATH_UNUSABLE") as refusal:
        service.client.path_stat(container_id, "/etc")
    assert refusal.metadata["error"] == os.strerror(errno.ENOENT)


def test_of_a_container_whose_spec_went_with_a_reboot_no_root_is_known(
    service: Service, root: Path
) -> None:
    container_id = started(service, root)
    service.stop(container_id, 0)
    (service.state_dir / "run/containers" / container_id / "config.json").unlink()
    with refused("FAILED_PRECONDITION", "PATH_UNUSABLE") as refusal:
        service.client.path_stat(container_id, "/etc")
    assert refusal.metadata["path"] == "/"


def test_a_client_that_goes_leaves_nothing_open(service: Service, root: Path) -> None:
    client = service.client
    (root / "work/large").write_bytes(b"")
    os.truncate(root / "work/large", 1 << 30)
    container_id = started(service, root)
    with client.copy_out(container_id, "/work") as pieces:
        next(pieces)
        assert held(service)
    until(lambda: not held(service))
    begun, gone = threading.Event(), threading.Event()

    def requests() -> Iterator[copy_pb2.CopyIntoRequest]:
        start = copy_pb2.CopyIntoStart(container_id=container_id, path="/work")
        yield copy_pb2.CopyIntoRequest(start=start)
        yield copy_pb2.CopyIntoRequest(chunk=archive((member("half"), b"x" * 9000))[:5000])
        begun.set()
        gone.wait()

    call = service.wire.CopyInto.future(requests())
    assert begun.wait(20)
    until(lambda: (root / "work/half").exists())
    call.cancel()
    until(lambda: not held(service))
    gone.set()
    assert not (root / "work/half").exists()


def test_a_copy_that_could_run_out_of_descriptors_does_not_begin(
    service: Service, root: Path
) -> None:
    client = service.client
    container_id = started(service, root)
    before = resource.prlimit(service.pid, resource.RLIMIT_NOFILE)
    open_now = len(os.listdir(f"/proc/{service.pid}/fd"))
    resource.prlimit(service.pid, resource.RLIMIT_NOFILE, (open_now + 100, before[1]))
    try:
        assert client.path_stat(container_id, "/work").mode
        for copy in (
            lambda: list(client.copy_out(container_id, "/work")),
            lambda: client.copy_into(container_id, "/work", [archive(member("x"))]),
        ):
            with refused("RESOURCE_EXHAUSTED", "TOO_MANY_OPEN_FILES"):
                copy()
    finally:
        resource.prlimit(service.pid, resource.RLIMIT_NOFILE, before)
    assert list((root / "work").iterdir()) == []


def test_a_copy_ends_when_its_container_is_removed(service: Service, root: Path) -> None:
    client = service.client
    (root / "work/large").write_bytes(b"")
    os.truncate(root / "work/large", 1 << 30)
    container_id = started(service, root)
    gone = threading.Event()

    def endless() -> Iterator[bytes]:
        yield archive((member("half"), b"x" * 9000))[:5000]
        until(lambda: (root / "work/half").exists())
        service.remove(container_id, force=True)
        gone.wait()

    pieces = client.copy_out(container_id, "/work")
    next(pieces)
    with refused("NOT_FOUND", "CONTAINER_NOT_FOUND"):
        client.copy_into(container_id, "/work", endless())
    gone.set()
    with refused("NOT_FOUND", "CONTAINER_NOT_FOUND"):
        list(pieces)
    until(lambda: not held(service))


def test_a_copy_goes_on_when_its_container_ends(service: Service, root: Path) -> None:
    client = service.client
    script = "dd if=/dev/zero of=/data/large bs=1M count=16; echo x >/data/z; exec sleep 1000"
    container_id = started(service, root, "/bin/sh", "-c", script, mounts=[tmpfs("/data")])

    def is_written() -> bool:
        with suppress(OcigrpcError):
            return client.path_stat(container_id, "/data/z").size_bytes == 2
        return False

    until(is_written)
    with client.copy_out(container_id, "/data") as pieces:
        first = next(pieces)
        service.stop(container_id, 0)
        assert names_in([first, *pieces]) == {"data", "data/large", "data/z"}


def test_a_deadline_ends_a_copy(service: Service, root: Path) -> None:
    container_id = started(service, root)
    gone = threading.Event()

    def endless() -> Iterator[bytes]:
        yield b""
        gone.wait()

    with refused("DEADLINE_EXCEEDED", "TIMEOUT"):
        service.client.copy_into(container_id, "/work", endless(), timeout_s=0.5)
    gone.set()
    until(lambda: not held(service))


def test_what_pieces_raise_is_raised_to_the_caller(service: Service, root: Path) -> None:
    container_id = started(service, root)

    def broken() -> Iterator[bytes]:
        yield archive((member("x"), b"x" * 1000))[:600]
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        service.client.copy_into(container_id, "/work", broken())
    assert list((root / "work").iterdir()) == []


def test_a_message_that_should_not_come_is_refused(service: Service, root: Path) -> None:
    container_id = started(service, root)
    start = copy_pb2.CopyIntoRequest(
        start=copy_pb2.CopyIntoStart(container_id=container_id, path="/work")
    )
    large = copy_pb2.CopyIntoRequest(chunk=bytes((1 << 20) + 1))
    for messages, reason, field in (
        ([], "START_MISSING", "start"),
        ([copy_pb2.CopyIntoRequest(chunk=b"x")], "START_MISSING", "start"),
        ([start, start], "START_AGAIN", "start"),
        ([start, large], "TOO_LARGE", "chunk"),
        ([start, copy_pb2.CopyIntoRequest()], "REQUIRED", "content"),
        ([start], "ARCHIVE_MALFORMED", "chunk"),
    ):
        with refused("INVALID_ARGUMENT", reason) as refusal:
            service.wire.CopyInto(iter(messages), timeout=20)
        assert refusal.fields == [field]
    for name in ("a/b", "..", "x\0"):
        with refused("INVALID_ARGUMENT"):
            list(service.client.copy_out(container_id, "/work", name=name))
