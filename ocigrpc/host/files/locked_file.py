"""Files that other programs read and write as well, under locks of the kernel."""

from __future__ import annotations

import fcntl
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ocigrpc.host.descriptors import closing_fd
from ocigrpc.waiting import Deadline

# Others may hold a lock for as long as they unpack a layer, and nothing tells when they are done.
_RETRY_S = 0.02

# struct flock, for the whole file: type, whence, start, length and, with OFD locks, no process.
_WHOLE_FILE = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)


@contextmanager
def record_locked(path: Path, deadline: Deadline) -> Iterator[int]:
    """Hold the write lock of a file in a ``with``, which is made if it is missing; its descriptor.

    It keeps out who locks it by fcntl(2), in this process and in others. Raises ``Timeout``,
    ``Cancelled`` and ``OSError``.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW
    with closing_fd(os.open(path, flags, 0o600)) as file:
        while not _try_lock(file):
            deadline.wait(timeout_s=_RETRY_S)
        # Closing it gives the lock back.
        yield file


def _try_lock(file: int) -> bool:
    # Unlike a plain record lock it is the descriptor's: no other close in this process drops it.
    with suppress(BlockingIOError):
        fcntl.fcntl(file, fcntl.F_OFD_SETLK, _WHOLE_FILE)
        return True
    return False


def replace_file(path: Path, content: bytes) -> None:
    """Put another file in the place of one; after a loss of power it is either, and whole.

    The caller holds its lock: what is put in its place has always the same name until then, and is
    that of nobody else, so that one of a process that was killed does not stay. Raises ``OSError``.
    """
    beside = path.with_name(f".{path.name}.ocigrpc")
    try:
        with suppress(FileNotFoundError):
            os.unlink(beside)
        with open(beside, "xb", opener=_private) as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.rename(beside, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(beside)
        raise
    with closing_fd(os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)) as directory:
        os.fsync(directory)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
