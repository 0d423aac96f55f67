"""Which file is at a path, and on which mount: statx(2).

A name may be given to another file before it is used. A file is the same one if its device,
inode and birth are; it is a mount point if its mount is not that of its directory.
"""

from __future__ import annotations

import ctypes
import os
from typing import Self

from msgspec import Struct

from ocigrpc.host.libc import last_error, libc

_AT_FDCWD = -100
_AT_SYMLINK_NOFOLLOW = 0x100
_AT_NO_AUTOMOUNT = 0x800
_AT_EMPTY_PATH = 0x1000
_FLAGS = _AT_SYMLINK_NOFOLLOW | _AT_NO_AUTOMOUNT
_OPEN_FLAGS = _FLAGS | _AT_EMPTY_PATH
_WANTED = 0x00000FFF | 0x00001000  # The basic fields, the birth, and the mount.


class _Time(ctypes.Structure):
    _fields_ = (
        ("seconds", ctypes.c_int64),
        ("nanoseconds", ctypes.c_uint32),
        ("_reserved", ctypes.c_int32),
    )


class Statx(ctypes.Structure):
    """The status of a file: ``struct statx`` of linux/stat.h, the same everywhere."""

    mode: int
    inode: int
    mount_id: int
    _fields_ = (
        ("_before", ctypes.c_uint8 * 28),
        ("mode", ctypes.c_uint16),
        ("_spare", ctypes.c_uint16),
        ("inode", ctypes.c_uint64),
        ("_sizes", ctypes.c_uint64 * 3),
        ("_accessed", _Time),
        ("_born", _Time),
        ("_changed", _Time * 2),
        ("_special", ctypes.c_uint32 * 2),
        ("_device", ctypes.c_uint32 * 2),
        ("mount_id", ctypes.c_uint64),
        ("_more", ctypes.c_uint64 * 13),
    )

    @property
    def device(self) -> int:
        """The device, as os.stat() has it."""
        return os.makedev(*self._device)

    @property
    def born_ns(self) -> int:
        """When it was made; 0 if its file system does not record it."""
        born: int = self._born.seconds * 1_000_000_000 + self._born.nanoseconds
        return born


_statx = libc.statx
# Converting what has no declared type takes half as long as the call itself.
_statx.argtypes = (
    ctypes.c_int,
    ctypes.c_char_p,
    ctypes.c_int,
    ctypes.c_uint,
    ctypes.POINTER(Statx),
)


def statx(name: str, directory: int = _AT_FDCWD) -> Statx:
    """The status of a path, of a name in an open directory, or with "" of the open file itself.

    A link is not followed. Raises ``OSError`` with the name.
    """
    found = Statx()
    if _statx(directory, os.fsencode(name), _FLAGS if name else _OPEN_FLAGS, _WANTED, found):
        raise last_error(name)
    return found


class FileIdentity(Struct, frozen=True, omit_defaults=True):
    """The unique identity of a directory: its path, and its inode and birth, if it existed."""

    path: str
    device: int = 0
    inode: int = 0
    born_ns: int = 0

    @classmethod
    def of(cls, path: str) -> Self:
        """The identity of what is at a path now; raises ``OSError`` if that can't be found out."""
        try:
            found = statx(path)
        except (FileNotFoundError, NotADirectoryError):
            return cls(path)
        return cls(path, found.device, found.inode, found.born_ns)

    @property
    def is_taken(self) -> bool:
        """Whether something existed at the path."""
        return self.inode != 0
