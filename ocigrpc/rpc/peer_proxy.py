"""A proxy before a server at a unix socket, from which the server learns its caller.

The kernel knows which process connected to a unix socket, but a gRPC server knows only the
address that a call came from, and clients of a unix socket have none. So a :class:`PeerProxy`
accepts the connections instead, and connects each to the server from an address that names the
process.
"""

from __future__ import annotations

import functools
import itertools
import os
import re
import secrets
import socket
import struct
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from selectors import EVENT_READ, EVENT_WRITE, BaseSelector, DefaultSelector
from typing import NamedTuple, Self, TypeAlias

from ocigrpc.log import get_logger
from ocigrpc.waiting import EventFd

_CHUNK_BYTES = 1 << 16
_CREDENTIALS = struct.Struct("3i")
_ADDRESS = re.compile(r"unix-abstract:ocigrpc-[0-9a-f]+-([0-9]+)-([0-9]+)-[0-9]+")
# How long no connection is accepted after that failed because descriptors were used up.
_REST_S = 0.1

_Callback: TypeAlias = Callable[[int], None]

log = get_logger()


class Peer(NamedTuple):
    """The process that connected, at that moment; see SO_PEERCRED, unix(7)."""

    pid: int
    """0 if it is in a pid namespace that this one can't see."""
    uid: int

    @classmethod
    def of(cls, connection: socket.socket) -> Self:
        """The process at the other end."""
        found = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        pid, uid, _ = _CREDENTIALS.unpack(found)
        return cls(pid, uid)


def peer_at(address: str) -> Peer | None:
    """The process in an address of a proxy, in gRPC's form; None for another address."""
    found = _ADDRESS.fullmatch(address)
    return Peer(int(found[1]), int(found[2])) if found else None


class PeerProxy:
    """Relays connections from ``listener``, which it owns from now on, to ``server``.

    ``server`` is the path of another unix socket. It is opened at once, so that its file can be
    removed and nobody else can connect to it. At most ``limit`` connections are open at the
    same time; further ones are closed.
    """

    def __init__(self, listener: socket.socket, server: str, limit: int) -> None:
        """Raises ``OSError``, and then the listener is still the caller's."""
        self._listener = listener
        with ExitStack() as undo:
            self._server = os.open(server, os.O_PATH | os.O_CLOEXEC)
            undo.callback(os.close, self._server)
            self._alarm = undo.enter_context(EventFd())
            self._selector = undo.enter_context(DefaultSelector())
            undo.pop_all()
        self._limit = limit
        # Any process could take such an address if it could be guessed.
        self._token = secrets.token_hex(8)
        self._numbers = itertools.count()
        self._open: set[_Connection] = set()
        self._close_s: float | None = None
        self._selector.register(self._alarm, EVENT_READ, lambda _: self._alarm.clear())
        listener.setblocking(False)
        self._selector.register(listener, EVENT_READ, self._accept)
        self._thread = threading.Thread(target=self._run, name="peer-proxy", daemon=True)
        self._thread.start()

    def close(self, timeout_s: float) -> None:
        """Accept no more, and end when all connections have, or after ``timeout_s``."""
        self._close_s = time.monotonic() + timeout_s
        self._alarm.set()
        self._thread.join()
        self._alarm.close()

    def _run(self) -> None:
        while self._close_s is None:
            is_resting = self._listener not in self._selector.get_map()
            self._poll(_REST_S if is_resting else None)
            if is_resting:
                self._selector.register(self._listener, EVENT_READ, self._accept)
        if self._listener in self._selector.get_map():
            self._selector.unregister(self._listener)
        self._listener.close()
        while self._open and (remaining_s := self._close_s - time.monotonic()) > 0:
            self._poll(remaining_s)
        for connection in list(self._open):
            connection.close()
        self._selector.close()
        os.close(self._server)

    def _poll(self, timeout_s: float | None) -> None:
        for key, events in self._selector.select(timeout_s):
            callback: _Callback = key.data
            callback(events)

    def _accept(self, _: int) -> None:
        try:
            client, _address = self._listener.accept()
        except OSError as error:
            # Without a rest, the next attempts would fail at once, in a busy loop.
            log.warning("porter.accept_failed", error=error.strerror)
            self._selector.unregister(self._listener)
            return
        if len(self._open) >= self._limit:
            client.close()
            return
        try:
            server = self._connect(Peer.of(client))
        except OSError as error:
            log.warning("porter.connect_failed", error=error.strerror)
            client.close()
            return
        self._open.add(_Connection(client, server, self._selector, self._open.discard))

    def _connect(self, peer: Peer) -> socket.socket:
        """A connection to the server from an address that names ``peer``."""
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.setblocking(False)
            name = f"{self._token}-{peer.pid}-{peer.uid}-{next(self._numbers)}"
            connection.bind(f"\0ocigrpc-{name}")
            connection.connect(f"/proc/self/fd/{self._server}")
        except OSError:
            connection.close()
            raise
        return connection


class _Connection:
    """A connection through the proxy: the data of each end is relayed to the other.

    At most one chunk is buffered for each end, and meanwhile the other end is not read.
    """

    def __init__(
        self,
        client: socket.socket,
        server: socket.socket,
        selector: BaseSelector,
        closed: Callable[[_Connection], None],
    ) -> None:
        self._selector = selector
        self._closed = closed
        self._other = {client: server, server: client}
        self._unsent = {client: b"", server: b""}
        for end in self._other:
            end.setblocking(False)
        self._register()

    def close(self) -> None:
        """Close both ends; unsent data is lost."""
        for end in self._other:
            self._unregister(end)
            end.close()
        self._closed(self)

    def _register(self) -> None:
        """Wait for each end to be readable, if its data can be buffered, and to take data."""
        for end, other in self._other.items():
            self._unregister(end)
            events = 0 if self._unsent[other] else EVENT_READ
            events |= EVENT_WRITE if self._unsent[end] else 0
            if events:
                self._selector.register(end, events, functools.partial(self._relay, end))

    def _unregister(self, end: socket.socket) -> None:
        if end in self._selector.get_map():
            self._selector.unregister(end)

    def _relay(self, end: socket.socket, events: int) -> None:
        if end.fileno() < 0:
            # Closed because of an event at the other end, in the same round.
            return
        try:
            if events & EVENT_WRITE:
                self._send(end, self._unsent[end])
            if events & EVENT_READ:
                data = end.recv(_CHUNK_BYTES)
                if not data:
                    self.close()
                    return
                self._send(self._other[end], data)
        except OSError:
            self.close()

    def _send(self, end: socket.socket, data: bytes) -> None:
        try:
            sent = end.send(data)
        except BlockingIOError:
            sent = 0
        had_unsent, self._unsent[end] = bool(self._unsent[end]), data[sent:]
        if had_unsent != bool(self._unsent[end]):
            self._register()
