"""A copy of a store, made while it is used.

SQLite copies some pages at a time, and whoever waits for the store comes in between. What is
written meanwhile is written to the copy as well, which so is the store as it is at the end.

The copy is marked as one: what had begun when it was made goes on without it, and ends one way or
another. So a service that starts with it neither finishes nor undoes that.
"""

from __future__ import annotations

import errno
import os
import sqlite3
import struct
import threading
from collections.abc import Generator
from contextlib import ExitStack, closing, suppress
from pathlib import Path

from ocigrpc.engine.store.database import BACKUP_ID
from ocigrpc.host.descriptors import closing_fd
from ocigrpc.waiting import Deadline

_PIECE_BYTES = 256 << 10

# Where SQLite has the application id, as 4 bytes; https://sqlite.org/fileformat2.html, 1.3.17.
_ID_OFFSET = 68

# Pages that are copied while everybody waits, which takes under a millisecond, and how long they
# have then: without a pause this thread would mostly be the next one to get the lock.
_PAGES = 64
_PAUSE_S = 0.001


def copied(
    db: sqlite3.Connection, lock: threading.Lock, path: Path, deadline: Deadline
) -> Generator[bytes]:
    """The content of a copy of ``db``, the file at ``path``; ``lock`` is that of its users.

    Raises ``OSError``, ``sqlite3.Error``, and ``Timeout`` or ``Cancelled``.
    """
    with ExitStack() as undo:
        with lock:
            copy, fd = _unnamed(path, _size_bytes(db), undo)
            with closing(copy):
                _fill(copy, db, lock, deadline)
        os.pwrite(fd, struct.pack(">I", BACKUP_ID), _ID_OFFSET)
        position = 0
        while piece := os.pread(fd, _PIECE_BYTES, position):
            yield piece
            position += len(piece)


def _size_bytes(db: sqlite3.Connection) -> int:
    """The size of a database, with what is in its write-ahead log alone."""
    (pages,) = db.execute("PRAGMA page_count").fetchone()
    (page_bytes,) = db.execute("PRAGMA page_size").fetchone()
    return int(pages) * int(page_bytes)


def _unnamed(path: Path, size_bytes: int, undo: ExitStack) -> tuple[sqlite3.Connection, int]:
    """An empty database on the same disk, and a descriptor of it for ``undo`` to close.

    It has no name any more, so that nothing is left of it, however the service ends.
    """
    disk = os.statvfs(path.parent)
    # The copy must not be what fills the disk.
    if disk.f_bavail * disk.f_frsize < 2 * size_bytes:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    name = path.with_name(f"{path.name}.copy")
    # Left by a service that was killed at this moment.
    with suppress(FileNotFoundError):
        name.unlink()
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    fd = undo.enter_context(closing_fd(os.open(name, flags, 0o600)))
    try:
        # The lock passes through the threads that use it, not the connection.
        copy = sqlite3.connect(name, isolation_level=None, check_same_thread=False)
    finally:
        name.unlink()
    # Its content is needed only if all goes well.
    copy.execute("PRAGMA journal_mode = OFF")
    copy.execute("PRAGMA synchronous = OFF")
    return copy, fd


def _fill(
    copy: sqlite3.Connection, db: sqlite3.Connection, lock: threading.Lock, deadline: Deadline
) -> None:
    """Copy all of ``db``, which others use between its parts; the lock is held."""

    def let_in(*_: int) -> None:
        lock.release()
        try:
            deadline.wait(timeout_s=_PAUSE_S)
        finally:
            lock.acquire()

    db.backup(copy, pages=_PAGES, progress=let_in)
