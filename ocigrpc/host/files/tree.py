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
from contextlib import contextmanager

from ocigrpc.errors import PreconditionFailed
from ocigrpc.host.descriptors import closing_fd
from ocigrpc.host.files.statx import statx

_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

# The most levels of a tree that is removed, since each takes a descriptor.
_DEPTH_LIMIT = 128


def mounts_at(top: str, path: str) -> Sequence[str]:
    """The mount points at and below ``path``, and on the way to it from ``top``, its ancestor.

    Nothing behind a mount point is searched. Raises ``OSError``.
    """
    found: list[str] = []
    with _parent_of(top, path, found) as directory:
        if directory is not None:
            _find(directory, path, found, 0)
    return found


def refuse_mounts(top: str, *paths: str) -> None:
    """Raise ``PreconditionFailed`` (MOUNT_IN_THE_WAY) for the first of :func:`mounts_at`."""
    for path in paths:
        for mount_point in mounts_at(top, path):
            raise mount_in_the_way(mount_point)


def mount_in_the_way(path: str) -> PreconditionFailed:
    """The error for a mount that is not ours to unmount."""
    return PreconditionFailed(
        f"something is mounted at {path}; it has to be unmounted first",
        reason="MOUNT_IN_THE_WAY",
        path=path,
    )


def remove_tree(top: str, path: str) -> None:
    """Remove ``path``, a file or a directory with all below it; no error if it does not exist.

    ``top`` is an ancestor that is trusted, and no directory between the two may be a mount
    point. With a mount point at or below ``path`` nothing is removed: raises
    ``PreconditionFailed`` (MOUNT_IN_THE_WAY). Otherwise as much as possible is removed, and
    ``OSError`` raised for the first file that can't be.
    """
    refuse_mounts(top, path)
    errors: list[OSError | PreconditionFailed] = []
    found: list[str] = []
    with _parent_of(top, path, found) as directory:
        if directory is not None:
            _remove(directory, path, errors, 0)
    if found:
        raise mount_in_the_way(found[0])
    if errors:
        raise errors[0]


@contextmanager
def _parent_of(top: str, path: str, mounts: list[str]) -> Iterator[int | None]:
    """The open parent directory of ``path``; None if it does not exist, or is behind a mount."""
    try:
        here = os.open(top, _FLAGS & ~os.O_NOFOLLOW)
    except FileNotFoundError:
        yield None
        return
    at = top
    try:
        for name in os.path.relpath(path, top).split("/")[:-1]:
            at = f"{at}/{name}"
            if (step := _open(here, name, at, mounts)) is None:
                break
            os.close(here)
            here = step
        else:
            yield here
            return
        yield None
    finally:
        os.close(here)


def _open(directory: int, name: str, path: str, mounts: list[str]) -> int | None:
    """A directory in an open one; None if there is none, or if it is a mount point, then noted."""
    try:
        opened = os.open(name, _FLAGS, dir_fd=directory)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise OSError(error.errno, error.strerror, path) from error
    if statx("", opened).mount_id == statx("", directory).mount_id:
        return opened
    os.close(opened)
    mounts.append(path)
    return None


def _find(directory: int, path: str, mounts: list[str], depth: int) -> None:
    name = os.path.basename(path)
    try:
        found = statx(name, directory)
    except FileNotFoundError:
        return
    if found.mount_id != statx("", directory).mount_id:
        mounts.append(path)
        return
    if stat.S_ISDIR(found.mode):
        for opened, each in _entries(directory, path, mounts, depth):
            _find(opened, each, mounts, depth + 1)


def _remove(
    directory: int, path: str, errors: list[OSError | PreconditionFailed], depth: int
) -> None:
    name = os.path.basename(path)
    try:
        if stat.S_ISDIR(statx(name, directory).mode):
            mounts: list[str] = []
            for opened, each in _entries(directory, path, mounts, depth):
                _remove(opened, each, errors, depth + 1)
            # Something was mounted after the search.
            errors += map(mount_in_the_way, mounts)
            os.rmdir(name, dir_fd=directory)
        else:
            # The kernel does not remove a mount point.
            os.unlink(name, dir_fd=directory)
    except FileNotFoundError:
        pass
    except OSError as error:
        errors.append(OSError(error.errno, error.strerror, path))


def _entries(directory: int, path: str, mounts: list[str], depth: int) -> Iterator[tuple[int, str]]:
    """Each entry of a directory: its parent, which is open until the next one, and its path."""
    if depth > _DEPTH_LIMIT:
        raise OSError(errno.ENAMETOOLONG, "more levels of directories than are removed", path)
    opened = _open(directory, os.path.basename(path), path, mounts)
    if opened is not None:
        with closing_fd(opened):
            for each in os.listdir(opened):
                yield opened, f"{path}/{each}"
