"""Where conmon writes a container's log, which a client may have chosen.

conmon opens the path by itself and follows links. So the service makes the file beforehand,
or sees that what is there is a file and no link. Whoever can write to the directory can trade
it for something else afterwards, or plant what conmon makes it anew from: a directory of
everybody's is no place for a log, not even a sticky one.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from ocigrpc.errors import InvalidArgument

_NAME_LIMIT_BYTES = 255 - len(".tmp")  # conmon puts this behind it to reopen the log.


def check_log_path(path: str) -> None:
    """Raise ``InvalidArgument`` unless an absolute path is one to write a log to.

    Refused are a directory that is missing (LOG_DIRECTORY_MISSING), that everybody can write
    to, or that leads through a file system of the kernel's own, as /proc is, and what is
    there and is no regular file (INVALID_LOG_PATH).
    """
    directory, name = os.path.split(path)
    if not os.path.isdir(directory):
        raise InvalidArgument.of(
            "log_path", "its directory does not exist", reason="LOG_DIRECTORY_MISSING"
        )
    problem = _problem(path, name)
    if problem:
        raise InvalidArgument.of("log_path", problem, reason="INVALID_LOG_PATH")


def place_of_log(path: str) -> str:
    """The path of a log without links, double slashes and dots on the way to it."""
    directory, name = os.path.split(path)
    return os.path.join(os.path.realpath(directory), name)


def _problem(path: str, name: str) -> str:
    if name in ("", ".", ".."):
        return "names no file"
    if len(name.encode()) > _NAME_LIMIT_BYTES:
        return f"has a name of more than {_NAME_LIMIT_BYTES} bytes"
    # To write to its files does something, and its links lead each process elsewhere; only
    # there is no block to store anything.
    if not all(os.statvfs(parent).f_blocks for parent in Path(path).parents):
        return "is in, or leads through, a file system of the kernel's own"
    if os.stat(os.path.dirname(path)).st_mode & stat.S_IWOTH:
        return "is in a directory that everybody can write to"
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return ""
    except OSError as error:
        return f"can't be looked at: {error.strerror}"
    return "" if stat.S_ISREG(mode) else "is there already, and is no regular file"
