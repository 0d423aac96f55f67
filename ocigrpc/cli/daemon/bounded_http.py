"""HTTP connections on which no exchange lasts longer than each of its steps may.

The libraries limit how long a connection is made, and each wait for a piece of an answer: a server
that sends a byte of its headers now and then would hold its client for ever.
"""

from __future__ import annotations

import socket
import threading
from contextlib import suppress

from urllib3 import HTTPConnectionPool, HTTPResponse
from urllib3.connection import HTTPConnection, HTTPSConnection


class _Cut:
    """Shuts a socket down after some seconds, unless it is called off before."""

    def __init__(self, connected: socket.socket, limit_s: float) -> None:
        self._socket = connected
        self._timer = threading.Timer(limit_s, self._shut)
        self._timer.daemon = True
        self._done = False
        self._timer.start()

    def _shut(self) -> None:
        self._done = True
        # It may have been closed.
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def call_off(self) -> None:
        """Raise ``TimeoutError`` if it has been done: then what was read may be cut off, too."""
        self._timer.cancel()
        if self._done:
            raise TimeoutError


class _Bounded(HTTPConnection):
    """From the first byte of a request to the last one of the answer's headers."""

    _cut: _Cut | None = None

    def putrequest(
        self,
        method: str,
        url: str,
        skip_host: bool = False,
        skip_accept_encoding: bool = False,
    ) -> None:
        """Begin a request, on a connection that is made unless there is one."""
        if self.sock is None:
            self.connect()
        if self.timeout is not None:
            self._cut = _Cut(self.sock, self.timeout)
        super().putrequest(method, url, skip_host, skip_accept_encoding)

    def getresponse(self) -> HTTPResponse:  # type: ignore[override]  # as in urllib3 itself
        """The answer with its headers. Raises ``TimeoutError``, among others."""
        try:
            return super().getresponse()
        finally:
            if self._cut is not None:
                self._cut.call_off()


class _BoundedTls(_Bounded, HTTPSConnection):
    """The same, by TLS."""


def bound_exchanges(pool: HTTPConnectionPool) -> None:
    """Have a pool make such connections from now on."""
    pool.ConnectionCls = _BoundedTls if pool.scheme == "https" else _Bounded
