"""Containers of images with user namespaces of their own: whose files they see and write."""

from __future__ import annotations

import os
import shutil
import stat
import struct
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from ocigrpc.host.archives.reading import Archive
from ocigrpc.v1 import config_pb2
from ocigrpc.v1.config_pb2 import ContainerConfig, LinuxContainerResources
from ocigrpc.v1.runtime_pb2 import CreateContainerRequest
from tests.bed.bundles.archives import archive, member
from tests.bed.clients.command import Command
from tests.bed.clients.exec import Talk, exec_sync, process
from tests.bed.clients.refusal import refused
from tests.bed.images.containers import create_of, left_by, output_of, roots_of, stock, storage_of
from tests.bed.images.layers import (
    directory,
    file,
    file_capabilities,
    hard_link,
    opaque,
    tree,
    whiteout,
)
from tests.bed.images.layout import Image, image
from tests.bed.images.mapped import GID, SIZE, UID, mapped, mapping
from tests.bed.services.service import Service

# Both runtimes where every controller is: the mechanism is the kernel's, and knows no managers.
pytestmark = pytest.mark.parametrize(
    "_service_of_kind", ["native-runc", "native-crun"], indirect=True, scope="module"
)

OWNED = "localhost/owned:1"
_CAP_NET_BIND_SERVICE = 10
# A program that keeps what set-user-ID gives it, unlike busybox, and needs no library.
_STATIC = Path("/sbin/ldconfig")
# From linux/capability.h: version 3 of the attribute, which says whose root it is for.
_CAPABILITIES_V3_EFFECTIVE = 0x03000001


@pytest.fixture(scope="module")
def owned_image(rootfs: Path) -> Image:
    """A busybox with files of several owners, in layers over each other."""
    busybox = (rootfs / "bin/busybox").read_bytes()
    lower = [
        file("root"),
        file("theirs", b"theirs", 0o640, owner=(7, 8)),
        file("one", b"same", owner=(7, 8)),
        replace(hard_link("two", "one"), uid=7, gid=8),
        file("unmapped", owner=(SIZE, 5)),
        file("removed"),
        directory("opaque"),
        file("opaque/below"),
        directory("caps"),
        file("caps/grep", busybox, 0o755, xattrs=file_capabilities(_CAP_NET_BIND_SERVICE)),
        directory("suid"),
        file("suid/ldconfig", _STATIC.read_bytes(), 0o4755, owner=(7, 8)),
        directory("open", 0o1777),
    ]
    return image(
        tree(rootfs), lower, [whiteout("removed"), *opaque("opaque"), file("opaque/above")]
    )


@pytest.fixture
def images(any_service: Service, owned_image: Image, tmp_path: Path) -> Iterator[Service]:
    """A service that has the image, and in the end no root filesystem."""
    any_service.directory.chmod(0o711)
    if not storage_of(any_service).images():
        stock(any_service, tmp_path, owned=owned_image)
    yield any_service
    any_service.remove_all()
    assert left_by(any_service) == []


def started(service: Service, config: ContainerConfig | None = None) -> str:
    container_id = create_of(service, OWNED, "/bin/sleep", "1000", config=mapped(config))
    service.start_container(container_id)
    return container_id


def owner(path: Path) -> tuple[int, int]:
    found = path.lstat()
    return found.st_uid, found.st_gid


def test_files_have_the_owners_of_the_image(images: Service) -> None:
    script = (
        "stat -c '%n %u:%g %a %h' /root /theirs /one /two /unmapped; ls -d /removed; ls /opaque"
    )
    lines = output_of(images, OWNED, "/bin/sh", "-c", script, config=mapped())
    assert lines == [
        "/root 0:0 644 1",
        "/theirs 7:8 640 1",
        "/one 7:8 644 2",
        "/two 7:8 644 2",
        # Nobody's there, and root's no more than others'.
        "/unmapped 65534:5 644 1",
        "above",
    ]


def test_root_and_its_files_are_the_mapped_users_on_the_host(images: Service) -> None:
    container_id = started(images)
    run = exec_sync(
        images, container_id, process("/bin/sh", "-c", "echo >/new; echo >>/theirs; rm /root")
    )
    assert run.exit.exit_code == 0, run.stderr
    [process_seen] = images.client.list_processes(container_id)
    assert process_seen.uid == UID
    [root] = roots_of(images)
    assert owner(root / "upper/new") == (UID, GID)
    assert owner(root / "upper/theirs") == (UID + 7, GID + 8)
    assert stat.S_ISCHR((root / "upper/root").lstat().st_mode)
    assert owner(root / "merged/one") == (UID + 7, GID + 8)
    assert owner(root / "upper") == owner(root / "merged") == (UID, GID)
    layers = storage_of(images).root / "overlay"
    [lower] = Path(f"/proc/{images.pid}/root{layers}").glob("*/diff/theirs")
    assert owner(lower) == (7, 8)


def stat_as(service: Service, uid: int, gid: int, path: Path) -> subprocess.CompletedProcess[str]:
    """Ask for a file's owners as a user of the host, where the service has its mounts."""
    there = ["nsenter", "--mount", f"--target={service.pid}"]
    user = ["setpriv", f"--reuid={uid}", f"--regid={gid}", "--clear-groups"]
    argv = [*there, *user, "stat", "-c", "%u:%g", str(path)]
    return subprocess.run(argv, check=False, capture_output=True, text=True)


def test_no_user_of_the_host_comes_to_the_files_of_a_container(images: Service) -> None:
    started(images)
    [root] = roots_of(images)
    inside = images.directory / "root/rootfs" / root.name / "merged/suid/ldconfig"
    assert stat_as(images, 65534, 65534, inside).returncode
    # The group of the container's root comes there, so that nothing above is closed to all.
    assert stat_as(images, 65534, GID, inside).stdout == f"{UID + 7}:{GID + 8}\n"
    assert stat.S_IMODE(root.stat().st_mode) == 0o710


@pytest.mark.parametrize("is_copied_up", [False, True])
def test_capabilities_of_files_and_set_user_id_work(images: Service, is_copied_up: bool) -> None:
    container_id = started(images, ContainerConfig(no_new_privileges=False))
    if is_copied_up:
        run = exec_sync(images, container_id, process("touch", "/caps/grep", "/suid/ldconfig"))
        assert run.exit.exit_code == 0, run.stderr
    capable = process("/caps/grep", "^CapEff", "/proc/self/status", user="1000:1000")
    words = exec_sync(images, container_id, capable).stdout.split()
    assert int(words[1], 16) == 1 << _CAP_NET_BIND_SERVICE
    [root] = roots_of(images)
    other = process(*"/suid/ldconfig -X -f /dev/null -C /open/made".split(), user="1000:1000")
    run = exec_sync(images, container_id, other)
    assert run.exit.exit_code == 0, run.stderr
    assert owner(root / "upper/open/made") == (UID + 7, GID + 1000)
    if is_copied_up:
        copied = os.getxattr(root / "upper/caps/grep", "security.capability")
        assert struct.unpack("<6I", copied)[0] == _CAPABILITIES_V3_EFFECTIVE
        assert struct.unpack("<6I", copied)[5] == UID


@pytest.mark.parametrize("is_readonly", [False, True])
def test_mount_points_and_the_working_directory_are_the_containers(
    images: Service, tmp_path: Path, is_readonly: bool
) -> None:
    config = ContainerConfig(readonly_rootfs=is_readonly, working_dir="/srv/deep/er")
    config.mounts.add(container_path="/data/theirs", host_path=str(tmp_path))
    script = "stat -c '%n %u:%g' /srv/deep /data /data/theirs; touch /new"
    command = ["/bin/sh", "-c", f"{script}; echo $?"]
    *owned, code = output_of(images, OWNED, *command, config=mapped(config))
    # What the host binds has the host's owners: root is nobody there.
    assert owned == ["/srv/deep 0:0", "/data 0:0", "/data/theirs 65534:65534"]
    assert code == str(int(is_readonly))


def test_a_neighbour_can_not_close_the_hosts_null_device(images: Service) -> None:
    # For a moment it is root's of both of them, with crun.
    neighbour = create_of(
        *(images, OWNED, "/bin/sh", "-c", "while :; do chmod 0 /dev/null; done 2>/dev/full"),
        config=mapped(),
    )
    images.start_container(neighbour)
    for _ in range(4):
        images.remove(create_of(images, OWNED, "/bin/true", config=mapped()))
        assert owner(Path(os.devnull)) == (0, 0)
        assert stat.S_IMODE(Path(os.devnull).stat().st_mode) == 0o666


@pytest.mark.parametrize("user", ["", "1000:1000"])
def test_the_hosts_null_device_stays_roots(images: Service, user: str) -> None:
    # Without input, it is the program's standard input.
    container_id = create_of(
        images, OWNED, "/bin/sleep", "1000", config=mapped(ContainerConfig(user=user))
    )
    assert owner(Path(os.devnull)) == (0, 0)
    images.start_container(container_id)
    assert exec_sync(images, container_id, process("true")).exit.exit_code == 0
    assert owner(Path(os.devnull)) == (0, 0)


def test_programs_run_as_users_by_name_with_terminals_too(images: Service) -> None:
    container_id = started(images, ContainerConfig(user="alice"))
    run = exec_sync(images, container_id, process("id", "-u"))
    alice = int(run.stdout)
    assert 0 < alice < SIZE
    [seen] = images.client.list_processes(container_id)
    assert (seen.uid, seen.user) == (UID + alice, "alice")
    named = exec_sync(images, container_id, process("id", "-un", user="root"))
    assert named.stdout == b"root\n", named.stderr
    script = "tty; stat -c '%u' $(tty)"
    terminal = output_of_terminal(images, script)
    assert terminal == ["/dev/pts/0", "0"]


@pytest.mark.parametrize("user", [str(SIZE), f"0:{SIZE}", f"7:{SIZE + 5}"])
def test_no_program_is_run_as_a_user_without_a_number_on_the_host(
    images: Service, user: str
) -> None:
    container_id = started(images)
    with refused("INVALID_ARGUMENT", "ID_NOT_MAPPED") as refusal:
        exec_sync(images, container_id, process("true", user=user))
    assert refusal.fields == ["process.user"]
    last = process("id", "-u", user=str(SIZE - 1))
    assert exec_sync(images, container_id, last).stdout == b"%d\n" % (SIZE - 1)


def output_of_terminal(images: Service, script: str) -> list[str]:
    container_id = create_of(images, OWNED, "/bin/sh", "-c", script, config=mapped(), terminal=True)
    images.start_container(container_id)
    assert images.wait(container_id).exit_code == 0
    lines = [each.rstrip("\r") for each in images.output(container_id)]
    images.remove(container_id)
    return lines


def test_programs_are_run_from_the_moment_of_the_start(images: Service) -> None:
    # crun can't enter the namespace of a process that has not come to its program yet.
    for _ in range(8):
        container_id = started(images)
        run = exec_sync(images, container_id, process("id", "-u"))
        assert (run.exit.exit_code, run.stdout) == (0, b"0\n"), run.stderr
        images.remove(container_id, force=True)


def test_a_program_of_exec_has_a_terminal(images: Service) -> None:
    container_id = started(images)
    talk = Talk(images, container_id, "tty; exit 3", terminal=True)
    talk.read_all()
    assert talk.stdout == b"/dev/pts/0\r\n"
    assert talk.exit is not None
    assert talk.exit.exit_code == 3


def test_files_are_copied_with_the_owners_that_the_container_has(images: Service) -> None:
    client, container_id = images.client, started(images)
    for state in ("running", "stopped"):
        name = f"of-{state}"
        client.copy_into(container_id, "/tmp", [archive(member(name, uid=1234, gid=5))])
        [root] = roots_of(images)
        assert owner(root / "upper/tmp" / name) == (UID + 1234, GID + 5)
        for path, owners in ((f"/tmp/{name}", (1234, 5)), ("/theirs", (7, 8))):
            [read] = Archive(client.copy_out(container_id, path))
            assert (read.info.uid, read.info.gid) == owners
        if state == "running":
            images.stop(container_id, 0)


def test_a_root_that_is_not_mounted_any_more_is_mounted_again_as_it_was(images: Service) -> None:
    container_id = started(images)
    images.stop(container_id, 0)
    [root] = roots_of(images)
    place = images.directory / "root/rootfs" / root.name / "merged"
    on_host = ["nsenter", "--mount", f"--target={images.pid}", "umount", str(place)]
    subprocess.run(on_host, check=True)
    images.die()
    images.start()
    [root] = roots_of(images)
    assert list((root / "merged").iterdir()) == []
    [read] = Archive(images.client.copy_out(container_id, "/theirs"))
    assert (read.info.uid, read.info.gid) == (7, 8)
    assert owner(root / "merged/theirs") == (UID + 7, GID + 8)


def test_several_ranges_are_as_the_container_numbers_them(images: Service) -> None:
    config = ContainerConfig()
    ranges = [mapping(7, 50_000, 1), mapping(0, 60_000, 7)]
    config.user_namespace.uid_mappings.extend(ranges)
    config.user_namespace.gid_mappings.extend(ranges[1:])
    script = "stat -c '%n %u:%g' /theirs; cat /proc/self/uid_map /proc/self/gid_map"
    first, *maps = output_of(images, OWNED, "/bin/sh", "-c", script, config=config)
    assert first == "/theirs 7:65534"
    users, groups = ["7 50000 1", "0 60000 7"], ["0 60000 7"]
    assert [" ".join(each.split()) for each in maps] == [*users, *groups]


def test_as_many_ranges_as_the_kernel_takes(images: Service) -> None:
    config = ContainerConfig()
    ranges = [mapping(number, 10_000 + number, 1) for number in range(340)]
    config.user_namespace.uid_mappings.extend(ranges)
    config.user_namespace.gid_mappings.extend(ranges)
    command = ["/bin/sh", "-c", "grep -c . /proc/self/uid_map; grep -c . /proc/self/gid_map"]
    assert output_of(images, OWNED, *command, config=config) == ["340", "340"]


def test_a_privileged_container_has_power_over_its_own_alone(images: Service) -> None:
    script = "stat -c %u /dev/full; mount -t tmpfs tmpfs /tmp && echo mounted; cat /proc/kmsg"
    container_id = create_of(
        images, OWNED, "/bin/sh", "-c", script, config=mapped(ContainerConfig(privileged=True))
    )
    images.start_container(container_id)
    assert images.wait(container_id).exit_code
    assert images.output(container_id) == ["65534", "mounted"]


def test_status_shows_the_mappings(images: Service) -> None:
    ids = [create_of(images, OWNED, "/bin/true", config=each) for each in (mapped(), None)]
    shown, others = map(images.client.container_status, ids)
    assert shown.spec.user_namespace == mapped().user_namespace
    assert not others.spec.HasField("user_namespace")


@pytest.mark.parametrize("kind", ["PID", "NETWORK", "IPC"])
def test_namespaces_that_are_not_its_own_are_refused(images: Service, kind: str) -> None:
    config = ContainerConfig()
    config.namespaces.add(
        type=config_pb2.NamespaceType.Value(f"NAMESPACE_TYPE_{kind}"),
        mode=config_pb2.NAMESPACE_MODE_HOST,
    )
    with refused("INVALID_ARGUMENT", "CONFLICT") as refusal:
        create_of(images, OWNED, "/bin/true", config=mapped(config))
    assert refusal.fields == ["config.namespaces[0].mode"]
    assert left_by(images) == []


@pytest.mark.parametrize("kind", ["UTS", "CGROUP"])
def test_names_and_cgroups_may_be_the_hosts(images: Service, kind: str) -> None:
    config = ContainerConfig()
    config.namespaces.add(
        type=config_pb2.NamespaceType.Value(f"NAMESPACE_TYPE_{kind}"),
        mode=config_pb2.NAMESPACE_MODE_HOST,
    )
    assert output_of(images, OWNED, "/bin/id", "-u", config=mapped(config)) == ["0"]


def test_what_can_not_be_had_is_refused_and_leaves_nothing(images: Service) -> None:
    config = mapped(ContainerConfig(user=str(SIZE)))
    with refused("INVALID_ARGUMENT", "ID_NOT_MAPPED") as refusal:
        create_of(images, OWNED, "/bin/true", config=config)
    assert refusal.fields == ["config.user"]
    config = mapped(ContainerConfig(sysctls={"kernel.domainname": "x"}))
    with refused("FAILED_PRECONDITION", "SYSCTL_REFUSED"):
        create_of(images, OWNED, "/bin/true", config=config)
    config = mapped()
    config.user_namespace.gid_mappings[0].container_id = 1
    with refused("INVALID_ARGUMENT", "REQUIRED") as refusal:
        create_of(images, OWNED, "/bin/true", config=config)
    assert refusal.fields == ["config.user_namespace.gid_mappings"]
    assert left_by(images) == []


def test_a_directory_above_that_is_closed_is_named(images: Service) -> None:
    images.directory.chmod(0o700)
    with refused("FAILED_PRECONDITION", "PATH_NOT_SEARCHABLE") as refusal:
        create_of(images, OWNED, "/bin/true", config=mapped())
    assert refusal.metadata["field"] == "config.user_namespace"
    assert refusal.metadata["path"] == str(images.directory)
    assert left_by(images) == []


def test_a_root_filesystem_of_the_clients_has_the_owners_that_it_brings(images: Service) -> None:
    script = "stat -c %u:%g /bin /etc; touch /new"
    root = images.directory / "clients"
    config = mapped(ContainerConfig(command=["/bin/sh", "-c", script], rootfs_path=str(root)))
    subprocess.run(["cp", "-a", images.rootfs, root], check=True)
    subprocess.run(["chown", "-R", f"{UID}:{GID}", root], check=True)
    os.chown(root / "etc", UID + 7, 0)
    request = CreateContainerRequest(config=config)
    images.directory.chmod(0o700)
    with refused("INVALID_ARGUMENT", "PATH_NOT_SEARCHABLE") as refusal:
        images.client.create_container(request)
    assert refusal.fields == ["config.rootfs_path"]
    assert refusal.metadata["path"] == str(images.directory)
    images.directory.chmod(0o711)
    container_id = images.client.create_container(request).container_id
    images.start_container(container_id)
    assert images.wait(container_id).exit_code == 0
    assert images.output(container_id) == ["0:0", "7:65534"]
    assert owner(root / "new") == (UID, GID)
    images.remove(container_id)
    shutil.rmtree(root)


def test_the_command_has_the_maps_of_one_option_for_both(images: Service) -> None:
    command = Command(images)
    script = "cat /proc/self/uid_map /proc/self/gid_map"
    for option in ("--uidmap", "--gidmap"):
        words = ("run", "--rm", option, "0:100000:7", option, "9:100009:1")
        lines = command.lines(*words, OWNED, "/bin/sh", "-c", script)
        assert [each.split() for each in lines] == [["0", "100000", "7"], ["9", "100009", "1"]] * 2
    both = ("run", "--rm", "--uidmap", "0:100000:7", "--gidmap", "0:200000:7")
    lines = command.lines(*both, OWNED, "/bin/sh", "-c", script)
    assert [each.split()[1] for each in lines] == ["100000", "200000"]
    assert "CONTAINER:HOST:SIZE" in command.refusal("run", "--uidmap", "0:1", OWNED, status=125)


def test_limits_of_the_host_are_not_raised(images: Service) -> None:
    config = ContainerConfig(resources=LinuxContainerResources(oom_score_adj=500))
    script = "cat /proc/self/oom_score_adj"
    assert output_of(images, OWNED, "/bin/sh", "-c", script, config=mapped(config)) == ["500"]
