"""Listening sockets that the init system has made; sd_listen_fds(3)."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from ocigrpc.errors import InvalidSettings

_FIRST_FD = 3


@contextmanager
def inherited_sockets() -> Iterator[dict[str, socket.socket]]:
    """The sockets that were passed to this process, by their paths, as long as the block.

    Raises ``InvalidSettings`` for one that is not a listening unix socket with a path.
    """
    with ExitStack() as stack:
        found = {}
        for fd in _passed():
            listener = stack.enter_context(socket.socket(fileno=fd))
            listener.set_inheritable(False)
            path = listener.getsockname() if listener.family == socket.AF_UNIX else b""
            listens = listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
            if not listens or not isinstance(path, str) or not path:
                raise InvalidSettings(
                    f"descriptor {fd}, which the init system passes, is no listening unix socket"
                    " with a path: correct its socket unit",
                    key="socket.path",
                )
            found[path] = listener
        yield found


def _passed() -> range:
    count = os.environ.get("LISTEN_FDS", "")
    if os.environ.get("LISTEN_PID") != str(os.getpid()) or not count.isdecimal():
        return range(0)
    return range(_FIRST_FD, _FIRST_FD + int(count))
