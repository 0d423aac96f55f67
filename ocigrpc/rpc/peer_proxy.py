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
import select
import socket
import struct
import threading
import time
from contextlib import ExitStack, suppress
from typing import NamedTuple, Self

from ocigrpc.log import get_logger
from ocigrpc.rpc.handover.frames import GOAWAY, Frames
from ocigrpc.waiting import EventFd

_CHUNK_BYTES = 1 << 16
# Most events that are handled between two polls.
_EVENTS = 64
_CREDENTIALS = struct.Struct("3i")
_ADDRESS = re.compile(r"unix-abstract:ocigrpc-[0-9a-f]+-([0-9]+)-([0-9]+)-[0-9]+")
# How long no connection is accepted after that failed because descriptors were used up.
_REST_S = 0.1

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


# With an entry for each connection, which makes many calls.
@functools.lru_cache(maxsize=1024)
def peer_at(address: str) -> Peer | None:
    """The process in an address of a proxy, in gRPC's form; None for another address."""
    found = _ADDRESS.fullmatch(address)
    return Peer(int(found[1]), int(found[2])) if found else None


class _End:
    """One end of a connection, the data that it has not taken yet, and what is polled for."""

    __slots__ = ("frames", "other", "polled", "socket", "unsent")

    other: _End

    def __init__(self, end: socket.socket, frames: Frames | None = None) -> None:
        """``frames`` are what the server sends, at its end, until its client is sent away."""
        end.setblocking(False)
        self.socket = end
        self.frames = frames
        self.unsent = b""
        self.polled = 0

    def wanted(self) -> int:
        """That it is readable, if the other end has taken its data; that it takes data."""
        return (0 if self.other.unsent else select.EPOLLIN) | (
            select.EPOLLOUT if self.unsent else 0
        )


class PeerProxy:
    """Relays connections from ``listener``, which it owns from now on, to ``server``.

    ``server`` is the path of another unix socket. It is opened at once, so that its file can be
    removed and nobody else can connect to it. At most ``limit`` connections are open at the
    same time, the last of which is for this process itself, to see whether the server answers;
    further ones are closed. At most one chunk is buffered for each end of one, and
    meanwhile the other end is not read.

    A ``hands_over`` proxy has a listener that others share, in which connections wait until
    :meth:`accept`, and after :meth:`send_away` for whoever accepts them next.
    """

    def __init__(
        self, listener: socket.socket, server: str, limit: int, *, hands_over: bool = False
    ) -> None:
        """Raises ``OSError``, and then the listener is still the caller's."""
        self._listener = listener
        self._hands_over = hands_over
        self._accepts = not hands_over
        self._is_leaving = False
        self._all_gone = threading.Event()
        with ExitStack() as undo:
            self._server = os.open(server, os.O_PATH | os.O_CLOEXEC)
            undo.callback(os.close, self._server)
            self._alarm = undo.enter_context(EventFd())
            # Every call passes here twice, so not by the selectors of the standard library,
            # which took twice as long.
            self._epoll = undo.enter_context(select.epoll())
            self._epoll.register(self._alarm, select.EPOLLIN)
            undo.pop_all()
        self._limit = limit
        # Any process could take such an address if it could be guessed.
        self._token = secrets.token_hex(8)
        self._numbers = itertools.count()
        self._ends: dict[int, _End] = {}
        self._is_resting = self._is_polled = False
        self._close_s: float | None = None
        listener.setblocking(False)
        self._thread = threading.Thread(target=self._run, name="peer-proxy", daemon=True)
        self._thread.start()

    def accept(self) -> None:
        """Accept connections from now on."""
        self._accepts = True
        self._alarm.set()

    def send_away(self, timeout_s: float) -> None:
        """Accept no more connections, and ask clients to make new ones for new calls.

        Calls that have begun go on. Returns when all connections have ended, or after
        ``timeout_s``. Only for a proxy that hands over.
        """
        self._is_leaving = True
        self._alarm.set()
        self._all_gone.wait(timeout_s)

    def close(self, timeout_s: float) -> None:
        """Accept no more, and end when all connections have, or after ``timeout_s``."""
        self._close_s = time.monotonic() + timeout_s
        self._alarm.set()
        self._thread.join()
        self._alarm.close()

    def _run(self) -> None:
        while self._close_s is None:
            self._listen(self._accepts and not self._is_leaving and not self._is_resting)
            self._poll(_REST_S if self._is_resting else None)
        self._listen(False)
        self._listener.close()
        while self._ends and (remaining_s := self._close_s - time.monotonic()) > 0:
            self._poll(remaining_s)
        for end in list(self._ends.values()):
            end.socket.close()
        self._epoll.close()
        os.close(self._server)

    def _listen(self, wanted: bool) -> None:
        if wanted and not self._is_polled:
            self._epoll.register(self._listener, select.EPOLLIN)
        elif self._is_polled and not wanted:
            self._epoll.unregister(self._listener)
        self._is_polled = wanted

    def _poll(self, timeout_s: float | None) -> None:
        self._is_resting = False
        for fd, events in self._epoll.poll(timeout_s, _EVENTS):
            if end := self._ends.get(fd):
                self._relay(end, events)
            elif fd == self._alarm.fileno():
                self._alarm.clear()
                if self._is_leaving:
                    self._send_all_away()
            elif fd == self._listener.fileno() and not self._is_leaving:
                self._accept()
        if self._is_leaving and not self._ends:
            self._all_gone.set()

    def _send_all_away(self) -> None:
        """Send it between two frames: now, or when the rest of one has been relayed."""
        for end in list(self._ends.values()):
            if end.frames and end.frames.gap():
                end.frames = None
                with suppress(OSError):
                    self._send(end.other, end.other.unsent + GOAWAY)

    def _accept(self) -> None:
        try:
            client, _ = self._listener.accept()
        except OSError as error:
            # Without a rest, the next attempts would fail at once, in a busy loop.
            log.warning("porter.accept_failed", error=error.strerror)
            self._is_resting = True
            return
        try:
            peer = Peer.of(client)
            if len(self._ends) >= 2 * self._room_for(peer):
                client.close()
                return
            server = self._connect(peer)
        except OSError as error:
            log.warning("porter.connect_failed", error=error.strerror)
            client.close()
            return
        self._add(_End(client), _End(server, Frames() if self._hands_over else None))

    def _room_for(self, peer: Peer) -> int:
        """How many connections may be open when ``peer`` wants another."""
        return self._limit if peer.pid == os.getpid() else self._limit - 1

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

    def _add(self, client: _End, server: _End) -> None:
        client.other, server.other = server, client
        for end in (client, server):
            self._ends[end.socket.fileno()] = end
            self._update(end)

    def _drop(self, end: _End) -> None:
        """Close both ends of a connection; unsent data is lost."""
        for each in (end, end.other):
            # A program that is just being started keeps the socket open until its exec.
            if each.polled:
                self._epoll.unregister(each.socket)
            del self._ends[each.socket.fileno()]
            each.socket.close()

    def _update(self, end: _End) -> None:
        wanted = end.wanted()
        if not wanted:
            # Registered for nothing, an end that the peer has closed would wake us for ever.
            self._epoll.unregister(end.socket)
        elif not end.polled:
            self._epoll.register(end.socket, wanted)
        else:
            self._epoll.modify(end.socket, wanted)
        end.polled = wanted

    def _relay(self, end: _End, events: int) -> None:
        """Send what ``end`` takes now, and what it has sent. Errors and ends are both events."""
        try:
            if end.unsent and events & ~select.EPOLLIN:
                self._send(end, end.unsent)
            if end.polled & select.EPOLLIN and events & ~select.EPOLLOUT:
                data = end.socket.recv(_CHUNK_BYTES)
                if not data:
                    self._drop(end)
                    return
                self._send(end.other, self._with_parting(end, data) if end.frames else data)
        except BlockingIOError:
            # The event was one of a closed socket, whose number this one has got in this round.
            return
        except OSError:
            self._drop(end)

    def _with_parting(self, end: _End, data: bytes) -> bytes:
        """What a server has sent, and between two frames of it what sends the client away."""
        assert end.frames is not None
        position = end.frames.pass_on(data)
        if not self._is_leaving or not position:
            return data
        end.frames = None
        return data[:position] + GOAWAY + data[position:]

    def _send(self, end: _End, data: bytes) -> None:
        try:
            sent = end.socket.send(data)
        except BlockingIOError:
            sent = 0
        had_unsent, end.unsent = bool(end.unsent), data[sent:]
        if had_unsent != bool(end.unsent):
            self._update(end)
            self._update(end.other)
