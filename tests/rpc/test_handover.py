"""Services that follow each other at a socket of the init system: no call is refused between them.

The clients here never repeat a call, and never wait for a service to become ready.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest

from ocigrpc.errors import InvalidSettings
from ocigrpc.v1.runtime_pb2_grpc import RuntimeServiceStub
from tests.rpc.fake_engine import LIMIT_S
from tests.rpc.running import PAUSE, STATUS, WAIT, running
from tests.rpc.statuses import failure_of

SERVICES = 5
IDLE = grpc.ChannelConnectivity.IDLE


@pytest.fixture
def listener(socket_path: Path) -> Iterator[socket.socket]:
    """The init system's."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(socket_path))
        listener.listen()
        yield listener
    socket_path.unlink()


def channel(path: Path) -> grpc.Channel:
    """A connection of its own."""
    return grpc.insecure_channel(f"unix:{path}", [("grpc.use_local_subchannel_pool", 1)])


def call_in_a_loop(path: Path, ended: threading.Event, *, anew: bool) -> int:
    """The number of calls, none of which was refused; each at a new connection or all at one."""
    count = 0
    while not ended.is_set():
        with channel(path) as connection:
            stub = RuntimeServiceStub(connection)
            while not ended.is_set():
                stub.ContainerStatus(STATUS, timeout=LIMIT_S)
                count += 1
                if anew:
                    break
    return count


def test_no_call_is_refused_from_one_service_to_the_next(
    socket_path: Path, listener: socket.socket
) -> None:
    ended = threading.Event()
    with ThreadPoolExecutor() as pool:
        try:
            clients = [
                pool.submit(call_in_a_loop, socket_path, ended, anew=anew)
                for anew in (False, False, True, True)
            ]
            for _ in range(SERVICES):
                with running(socket_path, inherited={str(socket_path): listener}) as served:
                    for _ in range(50):
                        served.stub.ContainerStatus(STATUS, timeout=LIMIT_S)
                assert not any(client.done() for client in clients)
            # The last calls wait for one more.
            ended.set()
            with running(socket_path, inherited={str(socket_path): listener}):
                assert all(client.result(LIMIT_S) > 0 for client in clients)
        finally:
            ended.set()


def test_running_calls_are_finished_while_later_ones_wait_for_the_next_service(
    socket_path: Path, listener: socket.socket
) -> None:
    inherited = {str(socket_path): listener}
    is_sent_away = threading.Event()
    with ThreadPoolExecutor() as pool, channel(socket_path) as connection:
        stub = RuntimeServiceStub(connection)
        with running(socket_path, inherited=inherited) as served:
            served.engine.held |= {"pause"}
            held = stub.PauseContainer.future(PAUSE, timeout=LIMIT_S)
            assert served.engine.entered.get(timeout=LIMIT_S) == "pause"
            connection.subscribe(lambda state: is_sent_away.set() if state is IDLE else None)
            draining = pool.submit(served.server.drain, LIMIT_S)
            assert is_sent_away.wait(LIMIT_S)
            later = stub.PauseContainer.future(PAUSE, timeout=LIMIT_S)
            served.engine.release.set()
            assert held.result(LIMIT_S)
            assert draining.result(LIMIT_S)
        with running(socket_path, inherited=inherited) as following:
            assert later.result(LIMIT_S)
            assert [verb for verb, *_ in following.engine.calls] == ["pause"]


def test_waits_are_told_that_the_service_ends(socket_path: Path, listener: socket.socket) -> None:
    with running(socket_path, inherited={str(socket_path): listener}) as served:
        served.hold("wait", 1)
        assert served.server.drain(LIMIT_S)
        failure = failure_of(lambda: served.held[0].result(LIMIT_S))
    assert failure.code is grpc.StatusCode.UNAVAILABLE
    assert failure.reason == "SHUTTING_DOWN"


def test_calls_wait_until_all_containers_are_found(
    socket_path: Path, listener: socket.socket
) -> None:
    inherited = {str(socket_path): listener}
    with running(socket_path, opened=False, inherited=inherited) as served:
        waiting = served.stub.WaitContainer.future(WAIT, timeout=LIMIT_S)
        served.server.open()
        assert waiting.result(LIMIT_S)


@pytest.mark.parametrize("identify_peers", [True, False])
def test_the_socket_stays_the_init_systems(
    socket_path: Path, listener: socket.socket, identify_peers: bool
) -> None:
    before = socket_path.stat()
    inherited = {str(socket_path): listener}
    with running(socket_path, identify_peers=identify_peers, inherited=inherited) as served:
        served.stub.ContainerStatus(STATUS, timeout=LIMIT_S)
    assert (socket_path.stat().st_ino, socket_path.stat().st_mode) == (
        before.st_ino,
        before.st_mode,
    )


def test_a_socket_that_the_settings_do_not_name_is_refused(
    socket_path: Path, listener: socket.socket
) -> None:
    other = f"{socket_path}.other"
    with (
        pytest.raises(InvalidSettings) as caught,
        running(Path(other), inherited={str(socket_path): listener}),
    ):
        pass
    assert caught.value.metadata["key"] == "socket.path"
    assert not os.path.exists(other)


_INHERIT = """
import os, sys
os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1"}
os.dup2(int(sys.argv[1]), 3)
from ocigrpc.errors import InvalidSettings
from ocigrpc.rpc.handover.inherited import inherited_sockets
try:
    with inherited_sockets() as found:
        print({path: each.get_inheritable() for path, each in found.items()})
except InvalidSettings as error:
    print(error.metadata["key"])
"""


def understood(fd: int) -> str:
    """What a process that gets ``fd`` from its init system makes of it."""
    done = subprocess.run(
        [sys.executable, "-c", _INHERIT, str(fd)],
        pass_fds=[fd],
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=True,
    )
    return done.stdout.strip()


def test_a_socket_is_known_by_its_path(socket_path: Path, listener: socket.socket) -> None:
    assert understood(listener.fileno()) == str({str(socket_path): False})


@pytest.mark.parametrize("family", [socket.AF_UNIX, socket.AF_INET])
def test_a_socket_that_is_no_listening_unix_socket_is_refused(family: int) -> None:
    with socket.socket(family) as other:
        assert understood(other.fileno()) == "socket.path"
