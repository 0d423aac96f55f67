"""Connections that only take room: each way in has so much, and takes it back."""

from __future__ import annotations

import resource
import socket
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

from ocigrpc.deadline import Deadline
from tests.real.conftest import StartService
from tests.real.remains import LIMIT_S
from tests.real.test_tls import Served

CONNECTIONS = 1024


@contextmanager
def room_for_descriptors() -> Iterator[None]:
    """This process may open as many files in the block as it is allowed at all."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def connect(path: Path) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(LIMIT_S)
    connection.connect(str(path))
    return connection


def is_served(connection: socket.socket) -> bool:
    """Whether the service speaks first, as in HTTP/2, and does not just close it."""
    try:
        return connection.recv(1) != b""
    except ConnectionResetError:
        return False


def wait_for_close(connection: socket.socket, deadline: Deadline) -> None:
    """Say nothing until the service has closed a connection."""
    said = b"something"
    while said:
        deadline.wait(connection)
        said = connection.recv(4096)


def test_a_way_in_takes_no_more_connections_than_it_has_room_for(
    start_service: StartService, tmp_path: Path
) -> None:
    service = start_service(readonly_socket_path=tmp_path / "readonly")
    with room_for_descriptors(), ExitStack() as stack:
        connections = [
            stack.enter_context(closing(connect(tmp_path / "readonly")))
            for _ in range(CONNECTIONS + 10)
        ]
        assert sum(map(is_served, connections)) == CONNECTIONS
        # By another way in.
        assert service.ids() == []


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
