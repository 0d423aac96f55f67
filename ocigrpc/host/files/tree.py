"""Trees of files, removed without ever crossing a mount point.

What is mounted below a directory of ours is not ours to remove. Each directory is opened by
its name in the one above, without following links, and checked once it is open: whatever is
swapped meanwhile, nothing is removed but what was checked.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import NamedTuple

from ocigrpc.errors import PreconditionFailed
from ocigrpc.host.descriptors import closing_fd
from ocigrpc.host.files.statx import statx

_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

# The most levels of a tree that is removed, since each takes a descriptor.
_DEPTH_LIMIT = 128


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
            _find(directory, path, mounts, 0)
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
    errors: list[OSError | PreconditionFailed] = []
    with ExitStack() as opened:
        found = _parents(top, paths, mounts, opened)
        for directory, path in found:
            _find(directory, path, mounts, 0)
        for mount_point in mounts:
            raise mount_in_the_way(mount_point)
        for directory, path in found:
            _remove(directory, path, errors, 0)
    for error in errors:
        raise error


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


def _find(directory: _Directory, path: str, mounts: list[str], depth: int) -> None:
    try:
        found = statx(os.path.basename(path), directory.fd)
    except FileNotFoundError:
        return
    if found.mount_id != directory.mount_id:
        mounts.append(path)
    elif stat.S_ISDIR(found.mode):
        for opened, each in _entries(directory, path, mounts, depth):
            _find(opened, each, mounts, depth + 1)


def _remove(
    directory: _Directory, path: str, errors: list[OSError | PreconditionFailed], depth: int
) -> None:
    name = os.path.basename(path)
    try:
        # The kernel does not remove a mount point.
        os.unlink(name, dir_fd=directory.fd)
    except FileNotFoundError:
        pass
    except IsADirectoryError:
        _remove_directory(directory, path, errors, depth)
    except OSError as error:
        errors.append(OSError(error.errno, error.strerror, path))


def _remove_directory(
    directory: _Directory, path: str, errors: list[OSError | PreconditionFailed], depth: int
) -> None:
    mounts: list[str] = []
    try:
        for opened, each in _entries(directory, path, mounts, depth):
            _remove(opened, each, errors, depth + 1)
        # Something was mounted after the search.
        errors += map(mount_in_the_way, mounts)
        os.rmdir(os.path.basename(path), dir_fd=directory.fd)
    except FileNotFoundError:
        pass
    except OSError as error:
        errors.append(OSError(error.errno, error.strerror, path))


def _entries(
    directory: _Directory, path: str, mounts: list[str], depth: int
) -> Iterator[tuple[_Directory, str]]:
    """Each entry of a directory: its parent, which is open until the next one, and its path."""
    if depth > _DEPTH_LIMIT:
        raise OSError(errno.ENAMETOOLONG, "more levels of directories than are removed", path)
    opened = _open(directory, os.path.basename(path), path, mounts)
    if opened is not None:
        with closing_fd(opened.fd):
            for each in os.listdir(opened.fd):
                yield opened, f"{path}/{each}"
