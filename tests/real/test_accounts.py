"""Users of a container: the accounts that count are those that its programs see."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from ocigrpc.v1 import config_pb2, runtime_pb2
from tests.bed.clients.exec import exec_sync, shell
from tests.bed.clients.refusal import refused
from tests.bed.hosts.leaks import until
from tests.bed.services.service import Service

WHO = "echo $(id -u):$(id -g) $(grep Groups: /proc/self/status)"

Who = tuple[int, int, set[int]]
"""uid, gid and the supplementary groups besides that."""


@pytest.fixture
def root(rootfs: Path, tmp_path: Path) -> Path:
    """A busybox whose accounts a test may change: app, 1000, of 1005 and 1007."""
    root = tmp_path / "root"
    shutil.copytree(rootfs, root, symlinks=True)
    (root / "etc/passwd").write_text("root:x:0:0::/:/bin/sh\napp:x:1000:1005::/:/bin/sh\n")
    (root / "etc/group").write_text("root:x:0:\nstaff:x:1006:\nplayers:x:1007:app\n")
    return root


@pytest.fixture
def others(tmp_path: Path) -> Path:
    """Other accounts: dev, 1234, of 1235 and 1236."""
    etc = tmp_path / "others"
    etc.mkdir()
    (etc / "passwd").write_text("dev:x:1234:1235::/:/bin/sh\n")
    (etc / "group").write_text("devs:x:1236:dev\n")
    return etc


def config(
    root: Path, user: str, *mounts: config_pb2.Mount, script: str = WHO
) -> config_pb2.ContainerConfig:
    return config_pb2.ContainerConfig(
        rootfs_path=str(root), command=["/bin/sh", "-c", script], user=user, mounts=mounts
    )


def create(service: Service, wanted: config_pb2.ContainerConfig) -> str:
    request = runtime_pb2.CreateContainerRequest(config=wanted)
    return service.client.create_container(request).container_id


def run(service: Service, wanted: config_pb2.ContainerConfig) -> str:
    container_id = create(service, wanted)
    service.start_container(container_id)
    return container_id


def identity(line: str) -> Who:
    numbers, _, groups = line.partition(" Groups:")
    uid, gid = map(int, numbers.split(":"))
    return uid, gid, {int(each) for each in groups.split()} - {gid}


def first_process(service: Service, wanted: config_pb2.ContainerConfig) -> Who:
    container_id = run(service, wanted)
    assert service.wait(container_id).exit_code == 0
    (line,) = service.output(container_id)
    service.remove(container_id)
    return identity(line)


def executed(service: Service, container_id: str, user: str) -> Who:
    result = exec_sync(service, container_id, shell(WHO, user=user))
    assert (result.stderr, result.exit.exit_code) == (b"", 0)
    return identity(result.stdout.decode())


def bind(source: Path, destination: str, *, readonly: bool = False) -> config_pb2.Mount:
    return config_pb2.Mount(host_path=str(source), container_path=destination, readonly=readonly)


APP = (1000, 1005, {1007})
DEV = (1234, 1235, {1236})


@pytest.mark.parametrize("target", ["/nix/etc", "nix/etc"])
def test_accounts_behind_links_are_those_that_programs_see(
    service: Service, root: Path, target: str
) -> None:
    (root / "nix").mkdir()
    (root / "etc").rename(root / "nix/etc")
    (root / "etc").symlink_to(target)
    for user in ("app", "1000"):
        assert first_process(service, config(root, user)) == APP
    container_id = run(service, config(root, "", script="exec sleep 1000"))
    for user in ("app", "1000"):
        assert executed(service, container_id, user) == APP


def test_accounts_of_mounts_are_those_that_programs_see(
    any_service: Service, root: Path, others: Path
) -> None:
    service = any_service
    # A link of the root, through which the runtime mounts.
    (root / "config").mkdir()
    (root / "etc").rename(root / "config/etc")
    (root / "etc").symlink_to("/config/etc")
    files = (
        bind(others / "passwd", "/etc/passwd", readonly=True),
        bind(others / "group", "/etc/group"),
    )
    wholes = (bind(others, "/etc"),)
    for mounts in (files, wholes):
        for user in ("dev", "1234"):
            assert first_process(service, config(root, user, *mounts)) == DEV
        container_id = run(service, config(root, "", *mounts, script="exec sleep 1000"))
        for user in ("dev", "1234"):
            assert executed(service, container_id, user) == DEV
        with refused("INVALID_ARGUMENT", "USER_NOT_FOUND") as refusal:
            executed(service, container_id, "app")
        assert refusal.fields == ["process.user"]


def test_a_mount_over_a_parent_and_a_nested_one_count(
    service: Service, root: Path, others: Path, tmp_path: Path
) -> None:
    (tmp_path / "config/etc").mkdir(parents=True)
    (root / "config").mkdir()
    shutil.rmtree(root / "etc")
    (root / "etc").symlink_to("config/etc")
    mounts = (bind(tmp_path / "config", "/config"), bind(others, "/config/etc"))
    assert first_process(service, config(root, "dev", *mounts)) == DEV


def test_an_empty_file_system_over_the_files_has_no_accounts(service: Service, root: Path) -> None:
    tmpfs = config_pb2.Mount(container_path="/etc", type="tmpfs")
    with refused("INVALID_ARGUMENT", "USER_NOT_FOUND"):
        create(service, config(root, "app", tmpfs))
    assert first_process(service, config(root, "1000", tmpfs)) == (1000, 0, set())


def test_exec_knows_the_users_of_now(service: Service, root: Path) -> None:
    container_id = run(service, config(root, "", script="exec sleep 1000"))
    with refused("INVALID_ARGUMENT", "USER_NOT_FOUND"):
        executed(service, container_id, "late")
    exec_sync(service, container_id, shell("echo late:x:1100:1101::/: >> /etc/passwd"))
    for user in ("late", "1100"):
        assert executed(service, container_id, user) == (1100, 1101, set())


def test_exec_knows_the_users_of_a_mount_made_after_the_start(service: Service, root: Path) -> None:
    script = "mount -t tmpfs none /etc && echo in:x:1100:1101::/: > /etc/passwd && exec sleep 1000"
    wanted = config(root, "", script=script)
    wanted.privileged = True
    container_id = run(service, wanted)
    until(lambda: b"in:" in exec_sync(service, container_id, shell("cat /etc/passwd")).stdout)
    assert executed(service, container_id, "in") == (1100, 1101, set())
    with refused("INVALID_ARGUMENT", "USER_NOT_FOUND"):
        executed(service, container_id, "app")


def test_exec_sees_what_is_above_the_root_that_the_first_process_has_changed_to(
    service: Service, root: Path
) -> None:
    (root / "jail/etc").mkdir(parents=True)
    shutil.copytree(root / "bin", root / "jail/bin", symlinks=True)
    wanted = config(root, "", script="exec chroot /jail sleep 1000")
    wanted.add_capabilities.append("SYS_CHROOT")
    container_id = run(service, wanted)
    assert executed(service, container_id, "app") == APP


def make_loop(place: Path) -> None:
    place.symlink_to(place.name)


def make_device(place: Path) -> None:
    # Of what a read would never end.
    os.mknod(place, 0o20666, os.makedev(1, 5))


def make_large(place: Path) -> None:
    with place.open("wb") as file:
        file.truncate(1 << 30)


@pytest.mark.parametrize("name", ["passwd", "group"])
@pytest.mark.parametrize("make", [make_loop, os.mkfifo, make_device, make_large, Path.mkdir])
def test_what_cannot_be_read_is_an_error_for_numbers_too(
    service: Service, root: Path, make: Callable[[Path], None], name: str
) -> None:
    container_id = run(service, config(root, "", script="exec sleep 1000"))
    (root / "etc" / name).unlink()
    make(root / "etc" / name)
    for user in ("", "app", "1000"):
        with refused("INVALID_ARGUMENT", "ACCOUNTS_UNREADABLE") as refusal:
            create(service, config(root, user))
        assert refusal.fields == ["config.user"]
    for user in ("app", "1000"):
        with refused("INVALID_ARGUMENT", "ACCOUNTS_UNREADABLE") as refusal:
            executed(service, container_id, user)
        assert refusal.fields == ["process.user"]


def test_who_gives_both_numbers_needs_no_accounts(service: Service, root: Path) -> None:
    shutil.rmtree(root / "etc")
    make_loop(root / "etc")
    assert first_process(service, config(root, "1000:7")) == (1000, 7, set())
    container_id = run(service, config(root, "0:0", script="exec sleep 1000"))
    assert executed(service, container_id, "1000:7") == (1000, 7, set())


@pytest.mark.parametrize("name", ["passwd", "group"])
@pytest.mark.parametrize("make", [os.mkfifo, make_device, Path.mkdir])
def test_what_a_runtime_would_wait_for_is_refused_for_all(
    service: Service, root: Path, make: Callable[[Path], None], name: str
) -> None:
    container_id = run(service, config(root, "", script="exec sleep 1000"))
    (root / "etc" / name).unlink()
    make(root / "etc" / name)
    # Also for those who are in no file.
    for user in ("1000:7", "4000", "4000:"):
        with refused("INVALID_ARGUMENT", "ACCOUNTS_UNREADABLE"):
            create(service, config(root, user))
    for user in ("1000:7", "4000", ""):
        with refused("INVALID_ARGUMENT", "ACCOUNTS_UNREADABLE"):
            executed(service, container_id, user)


@pytest.mark.parametrize(
    ("user", "expected"),
    [
        ("app:", (1000, 1005, set())),
        ("1000:", (1000, 1005, set())),
        ("app:staff", (1000, 1006, set())),
        ("1000:staff", (1000, 1006, set())),
        (":1000", (0, 1000, set())),
        (":staff", (0, 1006, set())),
        ("4000", (4000, 0, set())),
        ("2147483647", (2147483647, 0, set())),
    ],
)
def test_users_are_as_podman_takes_them(
    service: Service, root: Path, user: str, expected: tuple[int, int, set[int]]
) -> None:
    assert first_process(service, config(root, user)) == expected
    container_id = run(service, config(root, "", script="exec sleep 1000"))
    assert executed(service, container_id, user) == expected
