"""Events of files and directories: inotify(7).

Python has no call for it, so this is the C library's. The kernel allows each user few instances
(128 by default), so all waiters share one; see ``ocigrpc.host.files.watch``.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
import termios
from array import array
from collections.abc import Iterator
from contextlib import suppress
from typing import NamedTuple

from ocigrpc.errors import HostFailed
from ocigrpc.host.libc import last_error, libc

MODIFY = 0x2
MOVED_FROM = 0x40
MOVED_TO = 0x80
CREATE = 0x100
DELETE = 0x200
MOVE_SELF = 0x800
OVERFLOW = 0x4000
IGNORED = 0x8000
ONLYDIR = 0x0100_0000
# Bits of a mask; what inotify(7) calls IN_MODIFY and so on.
ONESHOT = 0x8000_0000

_HEADER = struct.Struct("iIII")
_BUFFER_BYTES = 1 << 16


class Event(NamedTuple):
    """An event of a watch; for a directory, ``name`` is the file in it.

    ``cookie`` is the same for the two events of one rename, and 0 otherwise. ``position`` is
    where the event ends in the stream of all events of the instance.
    """

    watch: int
    mask: int
    cookie: int
    name: str
    position: int = 0


class Inotify:
    """One instance. Readable, as for ``poll``, when there are events to read."""

    def __init__(self) -> None:
        """Raises ``HostFailed`` when the user has too many already."""
        self._fd = _checked(libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK), "inotify")
        self._read_bytes = 0

    def add(self, path: str, mask: int) -> int:
        """Watch a file or directory; the number of its watch, the same for the same file.

        Raises ``HostFailed`` (NO_WATCHES_LEFT when the user has too many), with the path.
        """
        return _checked(libc.inotify_add_watch(self._fd, os.fsencode(path), mask), path)

    def remove(self, watch: int) -> None:
        """End a watch, if it has not ended by itself."""
        # EINVAL: its file is gone, or it was for one event.
        libc.inotify_rm_watch(self._fd, watch)

    def read(self) -> list[Event]:
        """The events since the last call."""
        with suppress(BlockingIOError):
            data = os.read(self._fd, _BUFFER_BYTES)
            events = list(_events(data, self._read_bytes))
            self._read_bytes += len(data)
            return events
        return []

    def position(self) -> int:
        """Where the events so far end in the stream, whether they have been read or not."""
        unread = array("i", [0])
        fcntl.ioctl(self._fd, termios.FIONREAD, unread)
        return self._read_bytes + unread[0]

    def fileno(self) -> int:
        """Its descriptor."""
        return self._fd

    def close(self) -> None:
        """End all its watches."""
        os.close(self._fd)
        # A late call must not change what has that number by then.
        self._fd = -1


def _events(data: bytes, position: int) -> Iterator[Event]:
    at = 0
    while at < len(data):
        watch, mask, cookie, size = _HEADER.unpack_from(data, at)
        at += _HEADER.size
        # The name is padded with NULs.
        name = os.fsdecode(data[at : at + size].rstrip(b"\0"))
        at += size
        yield Event(watch, mask, cookie, name, position + at)


def _checked(result: int, path: str) -> int:
    if result < 0:
        error = last_error()
        text = error.strerror
        reason = "NO_WATCHES_LEFT" if error.errno in (errno.ENOSPC, errno.EMFILE) else ""
        raise HostFailed(f"can't watch {path}: {text}", reason=reason, path=path, error=text)
    return result
