"""Trees of files, removed without ever crossing a mount point.

What is mounted below a directory of ours is not ours to remove. Each directory is opened by
its name in the one above, without following links, and checked once it is open: whatever is
swapped meanwhile, nothing is removed but what was checked.

A container can make trees of any depth, and directories of any size: of the directories on the way
down only the last one is open, the way back is by "..", and few names are held at a time.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import NamedTuple

from ocigrpc.errors import PreconditionFailed
from ocigrpc.host.descriptors import closing_fd
from ocigrpc.host.files.names import names_from
from ocigrpc.host.files.statx import statx

_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

# Each removes half at least of the directories that the one before has not come to.
_PASSES_LIMIT = 32


class _Directory(NamedTuple):
    """An open directory, and the mount that it is on."""

    fd: int
    mount_id: int


def mounts_at(top: str, *paths: str) -> Sequence[str]:
    """The mount points at and below ``paths``, and on the way to them from ``top``.

    ``top`` is an ancestor of each. Nothing behind a mount point is searched. Raises ``OSError``.
    """
    mounts: list[str] = []
    with ExitStack() as opened:
        for directory, path in _parents(top, paths, mounts, opened):
            _find(directory, path, mounts)
    return mounts


def refuse_mounts(top: str, *paths: str) -> None:
    """Raise ``PreconditionFailed`` (MOUNT_IN_THE_WAY) for the first of :func:`mounts_at`."""
    for mount_point in mounts_at(top, *paths):
        raise mount_in_the_way(mount_point)


def mount_in_the_way(path: str) -> PreconditionFailed:
    """The error for a mount that is not ours to unmount."""
    return PreconditionFailed(
        f"something is mounted at {path}; it has to be unmounted first",
        reason="MOUNT_IN_THE_WAY",
        path=path,
    )


def remove_tree(top: str, *paths: str) -> None:
    """Remove ``paths``, files or directories with all below them; no error for missing ones.

    ``top`` is an ancestor that is trusted, and no directory between the two may be a mount
    point. With a mount point at or below any of ``paths`` nothing is removed: raises
    ``PreconditionFailed`` (MOUNT_IN_THE_WAY). Otherwise as much as possible is removed, and
    ``OSError`` raised for the first file that can't be.
    """
    mounts: list[str] = []
    with ExitStack() as opened:
        found = _parents(top, paths, mounts, opened)
        for directory, path in found:
            _find(directory, path, mounts)
        for mount_point in mounts:
            raise mount_in_the_way(mount_point)
        failures = [_remove(directory, path) for directory, path in found]
    for failure in filter(None, failures):
        raise failure


def entries(path: str) -> Iterator[Entry]:
    """All below a path, and the path itself at last; each directory after what is in it.

    Nothing on other mounts, and nothing that is gone meanwhile. Raises ``OSError``, also for a
    directory that is moved meanwhile.
    """
    with closing_fd(os.open(os.path.dirname(path), _FLAGS & ~os.O_NOFOLLOW)) as parent:
        yield from _Walk(_Directory(parent, statx("", parent).mount_id), path, [], _raise)


def remove_at(parent: int, path: str) -> None:
    """Remove what has the last name of ``path`` in the open directory ``parent``, with all below.

    Raises what :func:`remove_tree` raises, whose errors have the path.
    """
    directory = _Directory(parent, statx("", parent).mount_id)
    mounts: list[str] = []
    _find(directory, path, mounts)
    for mount_point in mounts:
        raise mount_in_the_way(mount_point)
    if failure := _remove(directory, path):
        raise failure


def _parents(
    top: str, paths: Sequence[str], mounts: list[str], opened: ExitStack
) -> Sequence[tuple[_Directory, str]]:
    """The open parent directory of each path; none that is missing, or behind a mount."""
    try:
        fd = opened.enter_context(closing_fd(os.open(top, _FLAGS & ~os.O_NOFOLLOW)))
    except FileNotFoundError:
        return []
    first = _Directory(fd, statx("", fd).mount_id)
    found: list[tuple[_Directory, str]] = []
    for path in paths:
        here: _Directory | None = first
        at = top
        for name in path.removeprefix(top).strip("/").split("/")[:-1]:
            at = f"{at}/{name}"
            if here is not None and (here := _open(here, name, at, mounts)) is not None:
                opened.callback(os.close, here.fd)
        if here is not None:
            found.append((here, path))
    return found


def _open(directory: _Directory, name: str, path: str, mounts: list[str]) -> _Directory | None:
    """A directory in an open one; None if there is none, or if it is a mount point, then noted."""
    try:
        fd = os.open(name, _FLAGS, dir_fd=directory.fd)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise OSError(error.errno, error.strerror, path) from error
    with ExitStack() as undo:
        undo.callback(os.close, fd)
        if statx("", fd).mount_id == directory.mount_id:
            undo.pop_all()
            return _Directory(fd, directory.mount_id)
    mounts.append(path)
    return None


def _find(directory: _Directory, path: str, mounts: list[str]) -> None:
    for _ in _Walk(directory, path, mounts, _raise):
        pass


def _raise(error: OSError) -> None:
    raise error


def _remove(directory: _Directory, path: str) -> OSError | PreconditionFailed | None:
    """Remove as much as possible; what has failed first, if anything has."""
    failure: OSError | PreconditionFailed | None = None
    for _ in range(_PASSES_LIMIT):
        failure = _removed_once(directory, path)
        # Some file systems, as tmpfs was and overlays are, count the entries of a directory: as
        # those that are gone do not count, some are passed over when it is opened again.
        if not isinstance(failure, OSError) or failure.errno != errno.ENOTEMPTY:
            break
    return failure


def _removed_once(directory: _Directory, path: str) -> OSError | PreconditionFailed | None:
    mounts: list[str] = []
    # The first one alone: a container can have as many fail as it has files.
    errors: list[OSError] = []

    def note(error: OSError) -> None:
        if not errors:
            errors.append(error)

    walk = _Walk(directory, path, mounts, note)
    for entry in walk:
        try:
            # The kernel does not remove a mount point.
            if entry.is_directory:
                os.rmdir(entry.name, dir_fd=entry.parent)
            else:
                os.unlink(entry.name, dir_fd=entry.parent)
        except FileNotFoundError:
            pass
        except OSError as error:
            note(OSError(error.errno, error.strerror, walk.path(entry.name)))
    if mounts:
        # It was mounted after the search.
        return mount_in_the_way(mounts[0])
    return errors[0] if errors else None


class Entry(NamedTuple):
    """A file or directory, by its name in the open directory ``parent``."""

    parent: int
    name: str
    is_directory: bool


@dataclass(slots=True)
class _Level:
    """A directory on the way down: its name, what it is, and how far its entries are done."""

    name: str
    identity: tuple[int, int]
    place: int = 0


def _identity(fd: int) -> tuple[int, int]:
    found = os.fstat(fd)
    return found.st_dev, found.st_ino


class _Walk:
    """All below a path, and the path itself at last; each directory after what is in it.

    Nothing is searched behind mount points, which are noted in ``mounts``. What can't be looked at
    is passed to ``failed``.
    """

    def __init__(
        self,
        parent: _Directory,
        path: str,
        mounts: list[str],
        failed: Callable[[OSError], None],
    ) -> None:
        self._mount_id = parent.mount_id
        self._mounts = mounts
        self._failed = failed
        top, self._name = os.path.split(path)
        self._top = parent.fd
        self._here = -1
        self._levels = [_Level(top, _identity(parent.fd))]
        # Those of the present directory that are still to do.
        self._names: Iterator[tuple[str, int]] = iter(())

    def path(self, name: str) -> str:
        """The path of an entry of the present directory."""
        return "/".join([*(each.name for each in self._levels), name])

    def __iter__(self) -> Iterator[Entry]:
        self._here = os.dup(self._top)
        try:
            yield from self._entered(self._name)
            while len(self._levels) > 1:
                name = self._next()
                yield from self._entered(name) if name else [self._left()]
        finally:
            os.close(self._here)

    def _next(self) -> str:
        """The next name in the present directory; empty if there is none."""
        level = self._levels[-1]
        try:
            name, level.place = next(self._names, ("", level.place))
            return name
        except FileNotFoundError:
            # It was removed meanwhile.
            return ""
        except OSError as error:
            path = "/".join(each.name for each in self._levels)
            self._failed(OSError(error.errno, error.strerror, path))
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
        fd = os.open(name, _FLAGS, dir_fd=self._here)
        with ExitStack() as undo:
            undo.callback(os.close, fd)
            if statx("", fd).mount_id != self._mount_id:
                self._mounts.append(self.path(name))
                return
            self._levels.append(_Level(name, _identity(fd)))
            undo.pop_all()
        self._stand(fd)

    def _left(self) -> Entry:
        """The present directory, whose parent is the present one now."""
        name = self._levels.pop().name
        above = os.open("..", _FLAGS, dir_fd=self._here)
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
