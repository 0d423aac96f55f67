"""Where conmon writes a container's log, which a client may have chosen.

conmon opens the path itself and follows links. So the service makes the file beforehand, or
checks that there is a file and no link. Users who can write to the directory could replace it
afterwards, or the file that conmon makes for the next log: a directory that everybody can write
to is refused, even a sticky one.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from ocigrpc.errors import InvalidArgument

# conmon appends a suffix when it reopens the log.
_NAME_LIMIT_BYTES = 255 - len(".tmp")


def check_log_path(path: str) -> None:
    """Raise ``InvalidArgument`` unless a log can be written to an absolute path.

    Refused are a directory that is missing (LOG_DIRECTORY_MISSING), that everybody can write
    to, or that leads through a file system of the kernel's own, such as /proc; and anything
    there that is no regular file (INVALID_LOG_PATH).
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
    """The path of a log, with links, double slashes and dots resolved up to its name."""
    directory, name = os.path.split(path)
    return os.path.join(os.path.realpath(directory), name)


def _problem(path: str, name: str) -> str:
    if name in ("", ".", ".."):
        return "names no file"
    if len(name.encode()) > _NAME_LIMIT_BYTES:
        return f"has a name of more than {_NAME_LIMIT_BYTES} bytes"
    # Writing to its files has effects, and its links lead each process elsewhere. Of all file
    # systems, only those have no blocks to store anything.
    if not all(os.statvfs(parent).f_blocks for parent in Path(path).parents):
        return "is in, or leads through, a file system of the kernel's own"
    if os.stat(os.path.dirname(path)).st_mode & stat.S_IWOTH:
        return "is in a directory that everybody can write to"
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return ""
    except OSError as error:
        return f"can't be inspected: {error.strerror}"
    return "" if stat.S_ISREG(mode) else "is there already, and is no regular file"
