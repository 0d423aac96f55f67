"""The two pipes between the service and a conmon that it launches.

conmon waits for the first byte of the start pipe before it does anything, and reports on the
sync pipe how the creation ended. Both are sockets here, whose other end can be seen to close.
"""

from __future__ import annotations

import socket
from contextlib import ExitStack, suppress

import msgspec
from msgspec import Struct

from ocigrpc.closing import ClosingStack
from ocigrpc.errors import MonitorFailed, cut
from ocigrpc.waiting import Deadline

# conmon passes on at most 8 KiB of the runtime's stderr, escaped; more is not conmon.
SYNC_LINE_LIMIT_BYTES = 1 << 16


class SyncLine(Struct, frozen=True):
    """The process id of the container's first process, or -1 and an error message."""

    pid: int
    message: str = ""


class _SyncJson(Struct, frozen=True):
    pid: int | None = None
    data: int | None = None
    message: str = ""


# Made on import: msgspec crashes when two threads make the first one for a type.
_SYNC_JSON = msgspec.json.Decoder(_SyncJson)


class Pipes(ClosingStack):
    """Our ends of both pipes, and until :meth:`release` conmon's; to be used in a ``with``."""

    def __init__(self) -> None:
        with ExitStack() as stack:
            self._theirs = stack.enter_context(ExitStack())
            self._sync, sync = self._pair(stack)
            self._start, start = self._pair(stack)
            self.fds = (sync.fileno(), start.fileno())
            self.env = {"_OCI_SYNCPIPE": str(self.fds[0]), "_OCI_STARTPIPE": str(self.fds[1])}
            self._stack = stack.pop_all()

    def _pair(self, stack: ExitStack) -> tuple[socket.socket, socket.socket]:
        ours, theirs = socket.socketpair()
        return stack.enter_context(ours), self._theirs.enter_context(theirs)

    def release(self) -> None:
        """Close conmon's ends: only it may hold them, or we never see it close them."""
        self._theirs.close()

    def start(self) -> None:
        """Let conmon begin; does nothing when it has ended already."""
        with suppress(OSError):
            self._start.send(b"\0")

    def read_sync_line(self, deadline: Deadline) -> bytes:
        """Wait for the line; less than one if conmon ends before it has written it.

        Raises ``Timeout`` or ``Cancelled``.
        """
        line = b""
        while b"\n" not in line and len(line) <= SYNC_LINE_LIMIT_BYTES:
            deadline.wait(self._sync.fileno())
            chunk = self._sync.recv(4096)
            if not chunk:
                break
            line += chunk
        return line


def parse_sync_line(line: bytes) -> SyncLine:
    """Read either form of the line: ``{"pid": N}``, or ``{"data": N}`` with --api-version.

    Raises ``MonitorFailed`` (SYNC_MALFORMED) when it is neither.
    """
    text = line.decode(errors="replace")
    malformed = MonitorFailed(
        f"conmon wrote to its sync pipe: {cut(text)!r}", reason="SYNC_MALFORMED", output=cut(text)
    )
    try:
        decoded = _SYNC_JSON.decode(text)
    except msgspec.DecodeError as error:
        raise malformed from error
    number = decoded.data if decoded.pid is None else decoded.pid
    if number is None:
        raise malformed
    return SyncLine(number, decoded.message)
