"""Streams of calls over raw HTTP/2, by RFC 9113.

Many cost next to nothing: gRPC's own client takes longer for each message than the service does.
And they need not read.
"""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from tests.bed.hosts.leaks import LIMIT_S

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _SETTINGS, _PING, _WINDOW_UPDATE = 0x0, 0x1, 0x4, 0x6, 0x8
_ACK = _END_STREAM = 0x1
_INITIAL_WINDOW_SIZE = struct.pack(">H", 0x4)
_END_HEADERS = 0x4

# What HTTP/2 has by default.
_WINDOW = 65_535

_REQUEST_HEADERS = {
    ":method": "POST",
    ":scheme": "http",
    ":authority": "localhost",
    "content-type": "application/grpc",
    "te": "trailers",
}


class Calls:
    """``count`` calls of an RPC, as in ``ocigrpc.v1.RuntimeService/Version``, over one connection.

    Of each answer the service may send ``window`` bytes.
    """

    def __init__(
        self, connection: socket.socket, rpc: str, count: int, window: int, request: bytes = b""
    ) -> None:
        self._connection = connection
        self._ids = range(1, 2 * count, 2)
        self._received = b""
        # RFC 7541, 6.2.2: each header as a literal, so that there is no state to keep.
        headers = b"".join(
            b"\0%c%b%c%b" % (len(name), name.encode(), len(value), value.encode())
            for name, value in {":path": f"/{rpc}", **_REQUEST_HEADERS}.items()
        )
        # One that is not compressed.
        message = struct.pack(">BI", 0, len(request)) + request
        settings = _INITIAL_WINDOW_SIZE + struct.pack(">I", window)
        opened = [_PREFACE, _frame(_SETTINGS, settings)]
        opened.append(_frame(_WINDOW_UPDATE, struct.pack(">I", 1 << 30)))
        for stream in self._ids:
            opened.append(_frame(_HEADERS, headers, _END_HEADERS, stream))
            opened.append(_frame(_DATA, message, _END_STREAM, stream))
        connection.sendall(b"".join(opened))

    def wait_for_messages(self) -> float:
        """Wait until each has got a message; the moment, by ``time.perf_counter``."""
        return self._wait_for(_DATA)

    def wait_for_headers(self) -> float:
        """Wait until each has begun to be answered; the moment, by ``time.perf_counter``."""
        return self._wait_for(_HEADERS)

    def _wait_for(self, wanted: int) -> float:
        waiting = set(self._ids)
        while waiting:
            kind, flags, stream, content = self._next_frame()
            if kind == _HEADERS and flags & _END_STREAM:
                raise AssertionError(f"stream {stream} has ended")
            if kind == wanted and content:
                waiting.discard(stream)
            elif kind in (_SETTINGS, _PING) and not flags & _ACK:
                answer = content if kind == _PING else b""
                self._connection.sendall(_frame(kind, answer, _ACK))
        return time.perf_counter()

    def _next_frame(self) -> tuple[int, int, int, bytes]:
        header = self._read(9)
        length = int.from_bytes(header[:3])
        kind, flags, stream = struct.unpack(">BBI", header[3:])
        return kind, flags, stream, self._read(length)

    def _read(self, length: int) -> bytes:
        while len(self._received) < length:
            more = self._connection.recv(1 << 16)
            if not more:
                raise AssertionError("the service has closed the connection")
            self._received += more
        taken, self._received = self._received[:length], self._received[length:]
        return taken


@contextmanager
def followers(socket_path: Path, count: int) -> Iterator[Calls]:
    """So many followers of all events in a ``with``, each of which is being served."""
    with _connected(socket_path) as connection:
        found = Calls(connection, "ocigrpc.v1.RuntimeService/WatchEvents", count, _WINDOW)
        found.wait_for_messages()
        yield found


@contextmanager
def unread(socket_path: Path, rpc: str, count: int = 1, request: bytes = b"") -> Iterator[None]:
    """So many calls in a ``with``, to each of which the service is sending a message.

    Its client lets no byte of that be sent.
    """
    with _connected(socket_path) as connection:
        Calls(connection, rpc, count, 0, request).wait_for_headers()
        yield


@contextmanager
def _connected(socket_path: Path) -> Iterator[socket.socket]:
    with closing(socket.socket(socket.AF_UNIX)) as connection:
        connection.settimeout(LIMIT_S)
        connection.connect(str(socket_path))
        yield connection


def _frame(kind: int, content: bytes = b"", flags: int = 0, stream: int = 0) -> bytes:
    return struct.pack(">I", len(content))[1:] + struct.pack(">BBI", kind, flags, stream) + content
