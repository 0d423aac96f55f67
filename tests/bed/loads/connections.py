"""Connections that only take room."""

from __future__ import annotations

import resource
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.bed.hosts.leaks import LIMIT_S

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_NO_SETTINGS = b"\0\0\0\x04\0\0\0\0\0"


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


def greet(connection: socket.socket) -> None:
    """Say what a client of HTTP/2 says first, with which it may stay; RFC 9113, 3.4."""
    connection.sendall(_PREFACE + _NO_SETTINGS)


def is_served(connection: socket.socket) -> bool:
    """Whether the service speaks first, as in HTTP/2, and does not just close it."""
    try:
        return connection.recv(1) != b""
    except ConnectionResetError:
        return False
