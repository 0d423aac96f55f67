"""Which file is at a path, and on which mount: statx(2).

A name may be given to another file before it is used. A file is the same one if its device,
inode and birth are; it is a mount point if its mount is not that of its directory.
"""

from __future__ import annotations

import ctypes
import os
from typing import NamedTuple, Self

from msgspec import Struct

from ocigrpc.host.libc import last_error, libc

_AT_FDCWD = -100
_AT_SYMLINK_NOFOLLOW = 0x100
_AT_NO_AUTOMOUNT = 0x800
_AT_EMPTY_PATH = 0x1000
_WANTED = 0x00000FFF | 0x00001000  # The basic fields, the birth, and the mount.


class _Time(ctypes.Structure):
    _fields_ = (
        ("seconds", ctypes.c_int64),
        ("nanoseconds", ctypes.c_uint32),
        ("_reserved", ctypes.c_int32),
    )


class _Statx(ctypes.Structure):
    """``struct statx`` of linux/stat.h, which has the same layout everywhere."""

    _fields_ = (
        ("mask", ctypes.c_uint32),
        ("block_bytes", ctypes.c_uint32),
        ("attributes", ctypes.c_uint64),
        ("links", ctypes.c_uint32),
        ("uid", ctypes.c_uint32),
        ("gid", ctypes.c_uint32),
        ("mode", ctypes.c_uint16),
        ("_spare", ctypes.c_uint16),
        ("inode", ctypes.c_uint64),
        ("size", ctypes.c_uint64),
        ("blocks", ctypes.c_uint64),
        ("attributes_mask", ctypes.c_uint64),
        ("accessed", _Time),
        ("born", _Time),
        ("changed", _Time),
        ("modified", _Time),
        ("special_major", ctypes.c_uint32),
        ("special_minor", ctypes.c_uint32),
        ("device_major", ctypes.c_uint32),
        ("device_minor", ctypes.c_uint32),
        ("mount_id", ctypes.c_uint64),
        ("_more", ctypes.c_uint64 * 13),
    )


class Statx(NamedTuple):
    """The status of a file; ``born_ns`` is 0 if its file system does not record it."""

    mode: int
    device: int
    inode: int
    born_ns: int
    mount_id: int


def statx(name: str, directory: int = _AT_FDCWD) -> Statx:
    """The status of a path, of a name in an open directory, or with "" of the open file itself.

    A link is not followed. Raises ``OSError`` with the name.
    """
    found = _Statx()
    flags = _AT_SYMLINK_NOFOLLOW | _AT_NO_AUTOMOUNT | (0 if name else _AT_EMPTY_PATH)
    if libc.statx(directory, os.fsencode(name), flags, _WANTED, ctypes.byref(found)):
        raise last_error(name)
    return Statx(
        found.mode,
        os.makedev(found.device_major, found.device_minor),
        found.inode,
        found.born.seconds * 1_000_000_000 + found.born.nanoseconds,
        found.mount_id,
    )


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
