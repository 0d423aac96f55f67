"""The names in a directory, some at a time, from any place on: getdents64(2)."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from struct import Struct

from ocigrpc.host.libc import last_error, libc

# Little, so that it costs little to go on at a place: what was read behind it is read again.
_BUFFER_BYTES = 4096

# Before each name: its inode, the place behind it, the length of all that, the type.
_BEFORE_NAME = Struct("=QqHB")


def names_from(fd: int, place: int) -> Iterator[tuple[str, int]]:
    """The names in an open directory behind a place, each with the place behind it.

    The first place is 0. It holds for another descriptor of the directory as well, but not in
    every file system once files were removed. Raises ``OSError``.
    """
    os.lseek(fd, place, os.SEEK_SET)
    buffer = ctypes.create_string_buffer(_BUFFER_BYTES)
    while size := libc.getdents64(fd, buffer, ctypes.c_size_t(_BUFFER_BYTES)):
        if size < 0:
            raise last_error()
        found, at = buffer.raw, 0
        while at < size:
            _, behind, length, _ = _BEFORE_NAME.unpack_from(found, at)
            begin = at + _BEFORE_NAME.size
            at += length
            if (name := found[begin : found.index(b"\0", begin)]) not in (b".", b".."):
                yield os.fsdecode(name), behind
