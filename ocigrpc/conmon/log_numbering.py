"""Keeps the files of a log that conmon would delete.

When a log has the size that conmon was given as its limit, conmon opens ``LOG.tmp`` for the
next one and renames it over the log: no log is ever larger, however busy the service is.
That would delete the old file, but for a second name of it, ``LOG.held``. And the next file is
made beforehand, with a second name of its own, ``LOG.next``: so two files are kept before this
has to be called again. conmon can also open it on a disk that takes no more files, where it
would end otherwise.

``LOG.tmp`` is conmon's: it is never renamed or removed under a conmon that may be between its
two steps, as that would end it.
"""

from __future__ import annotations

import errno
import os
from contextlib import suppress

from ocigrpc.conmon.log_names import (
    ROTATED_LIMIT,
    held_path,
    next_path,
    remove_rotated,
    rotated_path,
    spare_path,
)


def keep_log(log_path: str, files: int) -> int:
    """Number the files that conmon has filled, and prepare the next ones; how many those were.

    ``files`` are kept in all, the log itself among them. To be called when conmon has renamed
    a file to the log's name, and before it first may; by one thread at a time. A call that was
    cut off anywhere is completed by the next one. Raises ``OSError``.
    """
    log = _identity(log_path)
    if log is None:
        return 0
    held, following = held_path(log_path), next_path(log_path)
    if not (os.access(held, os.F_OK) or os.access(following, os.F_OK)):
        # A new log. If something comes in between, what follows looks at each name.
        with suppress(FileExistsError, FileNotFoundError):
            _make_spare(log_path)
            os.link(log_path, held)
            os.link(spare_path(log_path), following)
            return 0
        # If conmon has begun the next one by now, that is no name that somebody else has given.
        log = _identity(log_path) or log
    count = _number_filled(log_path, files, log)
    # If the log is another file by now, the event of that rename leads to another call.
    with suppress(FileNotFoundError):
        if _identity(held) != log and _identity(following) == log:
            os.rename(following, held)
        # Before the links, which may lack room: conmon would end without this file.
        if _identity(following) is None:
            _make_spare(log_path)
        if _identity(held) != log:
            os.link(log_path, held)
        if _identity(following) is None:
            os.link(spare_path(log_path), following)
    return count


def tidy_log(log_path: str, files: int) -> int:
    """Number the last files of an ended container's log, and remove the spare ones.

    How many it has numbered. Raises ``OSError``.
    """
    log = _identity(log_path)
    count = 0 if log is None else _number_filled(log_path, files, log)
    for path in (held_path(log_path), next_path(log_path), spare_path(log_path)):
        with suppress(FileNotFoundError):
            os.unlink(path)
    return count


def _make_spare(log_path: str) -> None:
    """Make the next file for conmon, which would end without it; old files make room for it."""
    for number in range(ROTATED_LIMIT, -1, -1):
        try:
            os.close(os.open(spare_path(log_path), os.O_CREAT | os.O_EXCL, 0o600))
        except FileExistsError:
            return
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT) or not number:
                raise
            with suppress(FileNotFoundError):
                os.unlink(rotated_path(log_path, number))
        else:
            return


def _number_filled(log_path: str, files: int, log: tuple[int, int]) -> int:
    """Number the files that were the log before ``log``; how many they were."""
    count = 0
    present = (log, _identity(spare_path(log_path)))
    for path in (held_path(log_path), next_path(log_path)):
        with suppress(FileNotFoundError):
            status = os.lstat(path)
            if (status.st_dev, status.st_ino) in present:
                continue
            if status.st_nlink > 1:
                # Somebody has renamed it to a name of their own.
                os.unlink(path)
            else:
                _shift(log_path, files)
                os.rename(path, rotated_path(log_path, 1))
            count += 1
    return count


def _shift(log_path: str, files: int) -> None:
    """Rename each numbered file to the next number, and remove those beyond the last one."""
    last = files - 1
    # Files behind a free number keep theirs.
    free = (n for n in range(1, last) if not os.path.lexists(rotated_path(log_path, n)))
    for number in range(next(free, last), 1, -1):
        os.replace(rotated_path(log_path, number - 1), rotated_path(log_path, number))
    remove_rotated(log_path, files)


def _identity(path: str) -> tuple[int, int] | None:
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino
