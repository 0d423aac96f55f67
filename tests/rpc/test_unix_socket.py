"""The server's socket: its permissions, and what was at its path before."""

from __future__ import annotations

import grp
import os
import socket
import stat
from pathlib import Path

import pytest

from ocigrpc.errors import HostFailed, InvalidSettings
from ocigrpc.settings.values import Settings
from tests.rpc.fake_engine import LIMIT_S
from tests.rpc.running import STATUS, running

# The proxy that identifies peers, or gRPC itself.
whoever_listens = pytest.mark.parametrize("identify_peers", [True, False])


@whoever_listens
def test_socket_has_its_mode_whatever_the_umask(socket_path: Path, identify_peers: bool) -> None:
    before = os.umask(0o000)
    try:
        with running(socket_path, mode=0o640, identify_peers=identify_peers):
            assert stat.S_IMODE(socket_path.stat().st_mode) == 0o640
            assert [each.name for each in socket_path.parent.iterdir()] == ["test.sock"]
    finally:
        os.umask(before)


@whoever_listens
def test_nothing_is_left_of_the_socket(socket_path: Path, identify_peers: bool) -> None:
    with running(socket_path, identify_peers=identify_peers):
        assert socket_path.is_socket()
    assert list(socket_path.parent.iterdir()) == []


@whoever_listens
def test_socket_without_a_listener_is_replaced(socket_path: Path, identify_peers: bool) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(socket_path))
        dead.listen()
    with running(socket_path, identify_peers=identify_peers) as served:
        served.stub.ContainerStatus(STATUS, timeout=LIMIT_S)


def test_socket_with_a_listener_is_left_alone(socket_path: Path) -> None:
    with running(socket_path) as served:
        with pytest.raises(HostFailed) as caught, running(socket_path):
            pass
        assert caught.value.reason == "SOCKET_IN_USE"
        served.stub.ContainerStatus(STATUS, timeout=LIMIT_S)


def test_file_that_is_no_socket_is_left_alone(socket_path: Path) -> None:
    socket_path.write_text("precious")
    with pytest.raises(InvalidSettings) as caught, running(socket_path):
        pass
    assert caught.value.reason == "SOCKET_PATH_TAKEN"
    assert socket_path.read_text() == "precious"


@whoever_listens
def test_socket_of_a_successor_is_not_removed(socket_path: Path, identify_peers: bool) -> None:
    with running(socket_path, identify_peers=identify_peers):
        socket_path.unlink()
        with socket.socket(socket.AF_UNIX) as successor:
            successor.bind(str(socket_path))
    assert socket_path.is_socket()


@whoever_listens
def test_socket_belongs_to_the_group_of_the_settings(
    socket_path: Path, identify_peers: bool
) -> None:
    socket_path.parent.chmod(0o711)
    with running(socket_path, group="4711", identify_peers=identify_peers):
        assert socket_path.stat().st_gid == 4711
        assert stat.S_IMODE(socket_path.stat().st_mode) == Settings().socket.mode


def test_group_by_its_name_is_the_one_that_the_host_knows(socket_path: Path) -> None:
    group = grp.getgrall()[-1]
    os.chown(socket_path.parent, -1, group.gr_gid)
    socket_path.parent.chmod(0o710)
    with running(socket_path, group=group.gr_name):
        assert socket_path.stat().st_gid == group.gr_gid


def refusal(socket_path: Path, group: str = "") -> InvalidSettings:
    """The error of a socket that can't be had, of which nothing is left."""
    with pytest.raises(InvalidSettings) as caught, running(socket_path, group=group):
        pass
    metadata = caught.value.metadata
    assert (metadata["key"], metadata["path"]) == ("socket.path", str(socket_path))
    assert list(socket_path.parent.iterdir()) == []
    return caught.value


@pytest.mark.parametrize("group", ["no-such-group", "4711x", "-1", "4294967295"])
def test_group_that_the_host_does_not_know_is_refused(socket_path: Path, group: str) -> None:
    error = refusal(socket_path, group)
    assert (error.reason, error.metadata["group"]) == ("UNKNOWN_GROUP", group)


def test_group_that_cannot_enter_the_directory_is_refused(socket_path: Path) -> None:
    assert refusal(socket_path, "4711").reason == "SOCKET_DIRECTORY_CLOSED"


@pytest.mark.parametrize("mode", [0o770, 0o702, 0o1777])
def test_directory_that_others_can_write_is_refused(socket_path: Path, mode: int) -> None:
    socket_path.parent.chmod(mode)
    error = refusal(socket_path)
    assert error.reason == "SOCKET_DIRECTORY_UNSAFE"
    assert error.metadata["directory"] == str(socket_path.parent)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
def test_directory_of_another_user_is_refused(socket_path: Path) -> None:
    os.chown(socket_path.parent, 65534, 65534)
    assert refusal(socket_path).reason == "SOCKET_DIRECTORY_UNSAFE"


def test_directory_that_is_a_link_is_refused(socket_path: Path, tmp_path: Path) -> None:
    (tmp_path / "l").symlink_to(socket_path.parent)
    assert refusal(tmp_path / "l" / "s").reason == "SOCKET_DIRECTORY_UNSAFE"


def test_missing_directory_is_a_failure_of_the_host(socket_path: Path) -> None:
    nowhere = socket_path.parent / "missing" / "test.sock"
    with pytest.raises(HostFailed) as caught, running(nowhere):
        pass
    assert caught.value.metadata["path"] == str(nowhere)
