"""Connections that only take room: each way in has so much, and takes it back."""

from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import grpc
import pytest

from ocigrpc.v1.runtime_pb2 import ListContainersRequest
from ocigrpc.v1.runtime_pb2_grpc import RuntimeServiceStub
from ocigrpc.waiting import Deadline
from tests.bed.hosts.leaks import LIMIT_S
from tests.bed.loads.connections import connect, is_served, room_for_descriptors
from tests.real.conftest import StartService
from tests.real.test_tls import Served

CONNECTIONS = 1024
"""Where peers are identified, the last is for the service itself."""


def wait_for_close(connection: socket.socket, deadline: Deadline) -> None:
    """Say nothing until the service has closed a connection."""
    received = b"something"
    while received:
        deadline.wait(connection)
        received = connection.recv(4096)


@pytest.mark.parametrize(
    ("identify_peers", "room"), [("true", CONNECTIONS - 1), ("false", CONNECTIONS)]
)
def test_a_way_in_takes_no_more_connections_than_it_has_room_for(
    start_service: StartService, tmp_path: Path, identify_peers: str, room: int
) -> None:
    service = start_service(
        readonly_socket_path=tmp_path / "readonly",
        readonly_socket_identify_peers=identify_peers,
    )
    with room_for_descriptors(), ExitStack() as stack:
        connections = [
            stack.enter_context(closing(connect(tmp_path / "readonly")))
            for _ in range(CONNECTIONS + 10)
        ]
        assert sum(map(is_served, connections)) == room
        # By another way in.
        assert service.ids() == []


def test_a_service_that_has_its_socket_for_itself_pings_the_watchdog(
    start_service: StartService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", str(int(LIMIT_S * 1e6)))
    service = start_service(socket_identify_peers="false")
    service.wait_for_word("WATCHDOG=1")


def test_a_connection_that_does_not_end_its_handshake_is_closed(
    start_service: StartService, tmp_path: Path
) -> None:
    served = Served(start_service, tmp_path)
    host, port = served.address.split(":")
    with (
        closing(connect(served.service.directory / "socket")) as local,
        closing(socket.create_connection((host, int(port)))) as remote,
    ):
        deadline = Deadline(LIMIT_S)
        wait_for_close(local, deadline)
        wait_for_close(remote, deadline)
    served.call(served.client)


@pytest.fixture
def directory_for_all() -> Iterator[Path]:
    """One that every user can enter, and nobody else write to."""
    with tempfile.TemporaryDirectory(prefix="ocigrpc-") as directory:
        Path(directory).chmod(0o711)
        yield Path(directory)


def test_request_lines_name_the_process_and_the_user_of_a_local_client(
    start_service: StartService, directory_for_all: Path
) -> None:
    path = directory_for_all / "socket"
    service = start_service(readonly_socket_path=path, readonly_socket_mode="0666", log_calls="all")
    with grpc.insecure_channel(f"unix:{path}") as channel:
        # grpc connects when it is told to, as the user that this process is then.
        os.seteuid(4711)
        try:
            grpc.channel_ready_future(channel).result(timeout=LIMIT_S)
        finally:
            os.seteuid(0)
        RuntimeServiceStub(channel).ListContainers(ListContainersRequest(), timeout=LIMIT_S)
    (line,) = (event for event in service.events() if event["event"] == "rpc.finished")
    assert (line["peer"], line["peer_pid"], line["peer_uid"]) == (f"unix:{path}", os.getpid(), 4711)
