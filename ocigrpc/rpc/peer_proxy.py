"""Stands before a server at a unix socket, and says who comes.

The kernel knows which process connected to a unix socket; but a gRPC server tells of a call
only the address that it came from, and clients have none there. So a :class:`PeerProxy` takes
the connections in the server's place, and brings each to it from an address that says whose
it is.
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
# Until it is tried again to take a connection, when there was no descriptor for one.
_REST_S = 0.1

_React: TypeAlias = Callable[[int], None]

log = get_logger()


class Peer(NamedTuple):
    """The process that connected, as the kernel knew it then; see SO_PEERCRED, unix(7)."""

    pid: int
    """0 if it is in another pid namespace, where this one can't see it."""
    uid: int

    @classmethod
    def of(cls, connection: socket.socket) -> Self:
        """Who is at the other end."""
        found = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        pid, uid, _ = _CREDENTIALS.unpack(found)
        return cls(pid, uid)


def peer_at(address: str) -> Peer | None:
    """Whom a porter brought from ``address``, in gRPC's form; None if it is none of a porter's."""
    found = _ADDRESS.fullmatch(address)
    return Peer(int(found[1]), int(found[2])) if found else None


class PeerProxy:
    """Brings all who connect to ``listener``, which it owns from now on, to ``server``.

    That is the path of another unix socket, which is needed only now: its file may be
    removed, so that nobody comes by it. At most ``limit`` connections are open at once;
    more are closed.
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
        # Addresses like these are anybody's to take, if they could be guessed.
        self._token = secrets.token_hex(8)
        self._numbers = itertools.count()
        self._open: set[_Connection] = set()
        self._close_s: float | None = None
        self._selector.register(self._alarm, EVENT_READ, lambda _: self._alarm.clear())
        listener.setblocking(False)
        self._selector.register(listener, EVENT_READ, self._take)
        self._thread = threading.Thread(target=self._run, name="porter", daemon=True)
        self._thread.start()

    def close(self, timeout_s: float) -> None:
        """Take no more, and end when all connections have, or after ``timeout_s``."""
        self._close_s = time.monotonic() + timeout_s
        self._alarm.set()
        self._thread.join()
        self._alarm.close()

    def _run(self) -> None:
        while self._close_s is None:
            is_resting = self._listener not in self._selector.get_map()
            self._react(_REST_S if is_resting else None)
            if is_resting:
                self._selector.register(self._listener, EVENT_READ, self._take)
        if self._listener in self._selector.get_map():
            self._selector.unregister(self._listener)
        self._listener.close()
        while self._open and (left_s := self._close_s - time.monotonic()) > 0:
            self._react(left_s)
        for connection in list(self._open):
            connection.close()
        self._selector.close()
        os.close(self._server)

    def _react(self, timeout_s: float | None) -> None:
        for key, events in self._selector.select(timeout_s):
            react: _React = key.data
            react(events)

    def _take(self, _: int) -> None:
        try:
            client, _address = self._listener.accept()
        except OSError as error:
            # The next try would come at once, and fail like this one, for ever.
            log.warning("porter.accept_failed", error=error.strerror)
            self._selector.unregister(self._listener)
            return
        if len(self._open) >= self._limit:
            client.close()
            return
        try:
            server = self._bring(Peer.of(client))
        except OSError as error:
            log.warning("porter.connect_failed", error=error.strerror)
            client.close()
            return
        self._open.add(_Connection(client, server, self._selector, self._open.discard))

    def _bring(self, peer: Peer) -> socket.socket:
        """A connection to the server in the name of a peer."""
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
    """One that goes through the porter: what either end says is passed on to the other.

    At most a chunk waits for each end; while one does, the other end is not listened to.
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
        self._owed = {client: b"", server: b""}
        for end in self._other:
            end.setblocking(False)
        self._listen()

    def close(self) -> None:
        """Close both ends; what is owed to one is lost."""
        for end in self._other:
            self._ignore(end)
            end.close()
        self._closed(self)

    def _listen(self) -> None:
        """Wait for an end to say something, if it may, and to take what it is owed."""
        for end, other in self._other.items():
            self._ignore(end)
            events = 0 if self._owed[other] else EVENT_READ
            events |= EVENT_WRITE if self._owed[end] else 0
            if events:
                self._selector.register(end, events, functools.partial(self._pass_on, end))

    def _ignore(self, end: socket.socket) -> None:
        if end in self._selector.get_map():
            self._selector.unregister(end)

    def _pass_on(self, end: socket.socket, events: int) -> None:
        if end.fileno() < 0:
            # Both were closed for what was seen of the other at the same time.
            return
        try:
            if events & EVENT_WRITE:
                self._give(end, self._owed[end])
            if events & EVENT_READ:
                data = end.recv(_CHUNK_BYTES)
                if not data:
                    self.close()
                    return
                self._give(self._other[end], data)
        except OSError:
            self.close()

    def _give(self, end: socket.socket, data: bytes) -> None:
        try:
            sent = end.send(data)
        except BlockingIOError:
            sent = 0
        was_owed, self._owed[end] = self._owed[end], data[sent:]
        if bool(was_owed) != bool(self._owed[end]):
            self._listen()
