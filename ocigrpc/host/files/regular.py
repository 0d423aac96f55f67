"""Small regular files, read so that neither a hostile tree nor a strange file does harm.

A file is first opened with ``O_PATH``, which does nothing to a device or a FIFO, and is
read only once it is known to be regular, and not to be empty. What the kernel makes up for
whoever reads says that it is empty, and to read some of that, such as /proc/kmsg, is to wait
without an end and to take it away from others.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import ExitStack

SIZE_LIMIT_BYTES = 1 << 20
"""Largest file that is read."""


def read_regular_file(path: str) -> bytes:
    """Content of ``path``, symbolic links followed.

    Raises ``OSError``: EINVAL for what is no regular file, EFBIG for what is larger
    than ``SIZE_LIMIT_BYTES``.
    """
    with ExitStack() as undo:
        return read_open_file(_open(undo, path, 0))


def read_regular_file_in(root: str, path: str) -> bytes:
    """Content of the relative ``path`` below ``root``, which is not trusted.

    Neither ``root`` nor a step below it follows a symbolic link, which could lead to the
    host's own files: it raises ``OSError`` (ELOOP or ENOTDIR). Else as ``read_regular_file``.
    """
    *directories, name = path.split("/")
    with ExitStack() as undo:
        # With a slash at its end, the kernel would follow it.
        step = _open(undo, root.rstrip("/") or "/", os.O_DIRECTORY | os.O_NOFOLLOW)
        for directory in directories:
            step = _open(undo, directory, os.O_DIRECTORY | os.O_NOFOLLOW, step)
        return read_open_file(_open(undo, name, os.O_NOFOLLOW, step))


def _open(undo: ExitStack, path: str, flags: int, dir_fd: int | None = None) -> int:
    fd = os.open(path, os.O_PATH | os.O_CLOEXEC | flags, dir_fd=dir_fd)
    undo.callback(os.close, fd)
    return fd


def read_open_file(path_fd: int) -> bytes:
    """Content of the file that an ``O_PATH`` descriptor is of; as ``read_regular_file``."""
    found = os.fstat(path_fd)
    if stat.S_ISLNK(found.st_mode):
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "not a regular file")
    if not found.st_size:
        return b""
    # The kernel's link to the open file, not a look-up by name: it can't be swapped.
    with open(f"/proc/self/fd/{path_fd}", "rb") as file:
        content = file.read(SIZE_LIMIT_BYTES + 1)
    if len(content) > SIZE_LIMIT_BYTES:
        raise OSError(errno.EFBIG, f"larger than {SIZE_LIMIT_BYTES} bytes")
    return content


def read_head(path_fd: int, limit_bytes: int) -> bytes:
    """The first bytes of the file, of any size, that an ``O_PATH`` descriptor is of.

    Raises ``OSError``: EINVAL for what is no regular file.
    """
    if not stat.S_ISREG(os.fstat(path_fd).st_mode):
        raise OSError(errno.EINVAL, "not a regular file")
    with open(f"/proc/self/fd/{path_fd}", "rb", buffering=0) as file:
        return file.read(limit_bytes)
