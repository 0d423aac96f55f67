"""Null devices that a program may have for itself.

crun before 1.24 gives a program's standard streams to the program's user, also if they are
``/dev/null``, so that any user could close the host's own one to everybody: containers/crun#1845.
"""

from __future__ import annotations

import os
import secrets
import stat
from threading import Lock

from ocigrpc.host.descriptors import closing_fd
from ocigrpc.host.libc import last_error, libc

# The same numbers on every architecture.
_FSOPEN, _FSCONFIG, _FSMOUNT = 430, 431, 432
_FSOPEN_CLOEXEC = _FSMOUNT_CLOEXEC = 1
_CREATE = 6
_NULL = os.makedev(1, 3)

_lock = Lock()
_directories: list[int] = []


def open_null() -> int:
    """A descriptor, for reading and writing, of a new device that nobody else has.

    Raises ``OSError``.
    """
    directory, name = _directory(), secrets.token_hex(8)
    os.mknod(name, stat.S_IFCHR, _NULL, dir_fd=directory)
    try:
        fd = os.open(name, os.O_RDWR | os.O_CLOEXEC, dir_fd=directory)
    finally:
        os.unlink(name, dir_fd=directory)
    # A program may open its streams once more, by /proc/self/fd.
    os.fchmod(fd, 0o666)
    return fd


def _directory() -> int:
    """A file system in memory that is mounted nowhere, and whose devices can be opened."""
    with _lock:
        if not _directories:
            _directories.append(_mounted())
        return _directories[0]


def _mounted() -> int:
    fd = libc.syscall(_FSOPEN, b"tmpfs", _FSOPEN_CLOEXEC)
    if fd < 0:
        raise last_error("tmpfs")
    with closing_fd(fd) as context:
        if libc.syscall(_FSCONFIG, context, _CREATE, None, None, 0):
            raise last_error("tmpfs")
        mount: int = libc.syscall(_FSMOUNT, context, _FSMOUNT_CLOEXEC, 0)
    if mount < 0:
        raise last_error("tmpfs")
    return mount
