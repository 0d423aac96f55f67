"""Walks through trees of files, whatever size and depth they have.

A container can make trees of any depth, and directories of any size: of the directories on the way
down only the last one is open, the way back is by "..", few names are held at a time, and of a way
down that is longer than a limit nothing is remembered.
"""

from __future__ import annotations

import ctypes
import errno
import os
import secrets
import stat
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from struct import Struct
from typing import NamedTuple

from ocigrpc.host.files.statx import statx
from ocigrpc.host.libc import last_error, libc

DIRECTORY_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

# How many directories in each other are searched; some 5 MB with the longest names. No path that is
# written as a whole has as many.
LEVELS_LIMIT = 10_000
# As much of a path is in an error: PATH_MAX, beyond which the kernel takes none.
_PATH_LIMIT = 4096

# Little, so that it costs little to go on at a place: what was read behind it is read again.
_BUFFER_BYTES = 4096

# Before each name: its inode, the place behind it, the length of all that, the type.
_BEFORE_NAME = Struct("=QqHB")


class Directory(NamedTuple):
    """An open directory, and the mount that it is on."""

    fd: int
    mount_id: int


class Entry(NamedTuple):
    """A file or directory, by its name in the open directory ``parent``."""

    parent: int
    name: str
    is_directory: bool


# So many levels there are when the directory at the path itself is the present one.
_FIRST = 2


@dataclass(slots=True)
class _Level:
    """A directory on the way down: its name, what it is, and how far its entries are done."""

    name: str
    identity: tuple[int, int]
    place: int = 0


def _identity(fd: int) -> tuple[int, int]:
    found = os.fstat(fd)
    return found.st_dev, found.st_ino


class Walk:
    """All below a path, and the path itself at last; each directory after what is in it.

    Nothing is searched behind mount points, which are noted in ``mounts``. What can't be looked at
    is passed to ``failed``. A directory that is too deep is passed to ``deeper``, by its name in
    the present one, and is not entered if that answers True.
    """

    def __init__(
        self,
        parent: Directory,
        path: str,
        mounts: list[str],
        failed: Callable[[OSError], None],
        deeper: Callable[[Walk, str], bool],
    ) -> None:
        self._mount_id = parent.mount_id
        self._mounts = mounts
        self._failed = failed
        self._deeper = deeper
        top, self._name = os.path.split(path)
        self._top = parent.fd
        self._here = -1
        self._levels = [_Level(top, _identity(parent.fd))]
        # Those of the present directory that are still to do.
        self._names: Iterator[tuple[str, int]] = iter(())
        # The directory at the path itself, and what was moved into it, by a name that nobody knows.
        self._first = -1
        self._mark = f".{secrets.token_hex(16)}."
        self._moved = self._entered_of_moved = 0

    def path(self, *name: str) -> str:
        """The path of the present directory, or of an entry of it; cut if it is too long."""
        parts, length = list[str](), 0
        for part in (*(each.name for each in self._levels), *name):
            parts.append(part)
            length += len(part) + 1
            if length > _PATH_LIMIT:
                return "/".join(parts)[:_PATH_LIMIT] + "..."
        return "/".join(parts)

    def move_up(self, name: str) -> bool:
        """Move a directory from the present one to the first one, which comes to it later.

        False if that is not possible, as between projects of a quota.
        """
        try:
            to = f"{self._mark}{self._moved}"
            os.rename(name, to, src_dir_fd=self._here, dst_dir_fd=self._first)
        except OSError:
            return False
        self._moved += 1
        return True

    def __iter__(self) -> Iterator[Entry]:
        self._here = os.dup(self._top)
        try:
            yield from self._entered(self._name)
            while len(self._levels) > 1:
                name = self._next()
                yield from self._entered(name) if name else [self._left()]
        finally:
            os.close(self._here)
            if self._first >= 0:
                os.close(self._first)

    def _next(self) -> str:
        """The next name in the present directory; empty if there is none."""
        if len(self._levels) == _FIRST and self._entered_of_moved < self._moved:
            self._entered_of_moved += 1
            return f"{self._mark}{self._entered_of_moved - 1}"
        level = self._levels[-1]
        try:
            name, level.place = next(self._names, ("", level.place))
            return name
        except FileNotFoundError:
            # It was removed meanwhile.
            return ""
        except OSError as error:
            self._failed(OSError(error.errno, error.strerror, self.path()))
            return ""

    def _entered(self, name: str) -> Iterator[Entry]:
        """An entry of the present directory, or none if it has become the present one."""
        try:
            found = statx(name, self._here)
            if found.mount_id != self._mount_id:
                self._mounts.append(self.path(name))
            elif not stat.S_ISDIR(found.mode):
                yield Entry(self._here, name, is_directory=False)
            else:
                self._descend(name)
        except FileNotFoundError:
            pass
        except OSError as error:
            self._failed(OSError(error.errno, error.strerror, self.path(name)))

    def _descend(self, name: str) -> None:
        fd = os.open(name, DIRECTORY_FLAGS, dir_fd=self._here)
        with ExitStack() as undo:
            undo.callback(os.close, fd)
            if statx("", fd).mount_id != self._mount_id:
                self._mounts.append(self.path(name))
                return
            if len(self._levels) > LEVELS_LIMIT and self._deeper(self, name):
                return
            identity = _identity(fd)
            if self._first < 0:
                self._first = os.dup(fd)
            self._levels.append(_Level(name, identity))
            undo.pop_all()
        self._stand(fd)

    def _left(self) -> Entry:
        """The present directory, whose parent is the present one now."""
        name = self._levels.pop().name
        above = os.open("..", DIRECTORY_FLAGS, dir_fd=self._here)
        self._stand(above)
        if _identity(above) != self._levels[-1].identity:
            raise OSError(
                errno.ESTALE, "a directory was moved while it was searched", self.path(name)
            )
        return Entry(above, name, is_directory=True)

    def _stand(self, fd: int) -> None:
        """Let an open directory be the present one, which is the last on the way."""
        os.close(self._here)
        self._here = fd
        self._names = names_from(fd, self._levels[-1].place)


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
