"""Trees of files, removed without ever crossing a mount point.

What is mounted below a directory of ours is not ours to remove. Each directory is opened by
its name in the one above, without following links, and checked once it is open: whatever is
swapped meanwhile, nothing is removed but what was checked.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack

from ocigrpc.errors import PreconditionFailed
from ocigrpc.host.descriptors import closing_fd
from ocigrpc.host.files.statx import statx
from ocigrpc.host.files.walk import DIRECTORY_FLAGS, LEVELS_LIMIT, Directory, Entry, Walk

# Each removes half at least of the directories that the one before has not come to.
_PASSES_LIMIT = 32


def mounts_at(top: str, *paths: str) -> Sequence[str]:
    """The mount points at and below ``paths``, and on the way to them from ``top``.

    ``top`` is an ancestor of each. Nothing behind a mount point is searched, and nothing below so
    many directories that no path leads there. Raises ``OSError``.
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


def remove_tree(top: str, *paths: str, check: Callable[[], None] = lambda: None) -> None:
    """Remove ``paths``, files or directories with all below them; no error for missing ones.

    ``top`` is an ancestor that is trusted, and no directory between the two may be a mount
    point. With a mount point at or below any of ``paths`` nothing is removed, unless it is too deep
    for a path that leads there: raises ``PreconditionFailed`` (MOUNT_IN_THE_WAY). Otherwise as much
    as possible is removed, and ``OSError`` raised for the first file that can't be. ``check`` is
    called for each file, and ends it at any moment by what it raises.
    """
    mounts: list[str] = []
    with ExitStack() as opened:
        found = _parents(top, paths, mounts, opened)
        for directory, path in found:
            _find(directory, path, mounts, check)
        for mount_point in mounts:
            raise mount_in_the_way(mount_point)
        failures = [_remove(directory, path, check) for directory, path in found]
    for failure in filter(None, failures):
        raise failure


def entries(path: str) -> Iterator[Entry]:
    """All below a path, and the path itself at last; each directory after what is in it.

    Nothing on other mounts, and nothing that is gone meanwhile. Raises ``OSError``, also for a
    directory that is moved meanwhile, and (ENAMETOOLONG) for one that is too deep.
    """
    with closing_fd(os.open(os.path.dirname(path), DIRECTORY_FLAGS & ~os.O_NOFOLLOW)) as parent:
        directory = Directory(parent, statx("", parent).mount_id)
        yield from Walk(directory, path, [], _raise, _give_up)


def remove_at(parent: int, path: str) -> None:
    """Remove what has the last name of ``path`` in the open directory ``parent``, with all below.

    Raises what :func:`remove_tree` raises, whose errors have the path.
    """
    directory = Directory(parent, statx("", parent).mount_id)
    mounts: list[str] = []
    _find(directory, path, mounts)
    for mount_point in mounts:
        raise mount_in_the_way(mount_point)
    if failure := _remove(directory, path):
        raise failure


def _parents(
    top: str, paths: Sequence[str], mounts: list[str], opened: ExitStack
) -> Sequence[tuple[Directory, str]]:
    """The open parent directory of each path; none that is missing, or behind a mount."""
    try:
        fd = opened.enter_context(closing_fd(os.open(top, DIRECTORY_FLAGS & ~os.O_NOFOLLOW)))
    except FileNotFoundError:
        return []
    first = Directory(fd, statx("", fd).mount_id)
    found: list[tuple[Directory, str]] = []
    for path in paths:
        here: Directory | None = first
        at = top
        for name in path.removeprefix(top).strip("/").split("/")[:-1]:
            at = f"{at}/{name}"
            if here is not None and (here := _open(here, name, at, mounts)) is not None:
                opened.callback(os.close, here.fd)
        if here is not None:
            found.append((here, path))
    return found


def _open(directory: Directory, name: str, path: str, mounts: list[str]) -> Directory | None:
    """A directory in an open one; None if there is none, or if it is a mount point, then noted."""
    try:
        fd = os.open(name, DIRECTORY_FLAGS, dir_fd=directory.fd)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise OSError(error.errno, error.strerror, path) from error
    with ExitStack() as undo:
        undo.callback(os.close, fd)
        if statx("", fd).mount_id == directory.mount_id:
            undo.pop_all()
            return Directory(fd, directory.mount_id)
    mounts.append(path)
    return None


def _find(
    directory: Directory, path: str, mounts: list[str], check: Callable[[], None] = lambda: None
) -> None:
    # Of what is deeper, the removal looks whether it is a mount point.
    for _ in Walk(directory, path, mounts, _raise, lambda walk, name: True):
        check()


def _raise(error: OSError) -> None:
    raise error


def _give_up(walk: Walk, name: str) -> bool:
    raise OSError(errno.ENAMETOOLONG, f"it is deeper than {LEVELS_LIMIT} directories")


def _remove(
    directory: Directory, path: str, check: Callable[[], None] = lambda: None
) -> OSError | PreconditionFailed | None:
    """Remove as much as possible; what has failed first, if anything has."""
    failure: OSError | PreconditionFailed | None = None
    for _ in range(_PASSES_LIMIT):
        failure = _removed_once(directory, path, check)
        # Some file systems, as tmpfs was and overlays are, count the entries of a directory: as
        # those that are gone do not count, some are passed over when it is opened again.
        if not isinstance(failure, OSError) or failure.errno != errno.ENOTEMPTY:
            break
    return failure


def _removed_once(
    directory: Directory, path: str, check: Callable[[], None]
) -> OSError | PreconditionFailed | None:
    mounts: list[str] = []
    # The first one alone: a container can have as many fail as it has files.
    errors: list[OSError] = []

    def note(error: OSError) -> None:
        if not errors:
            errors.append(error)

    walk = Walk(directory, path, mounts, note, Walk.move_up)
    for entry in walk:
        check()
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
