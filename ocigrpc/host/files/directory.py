"""Directories and files of the service's own: safe from other users and from a second service."""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from ocigrpc.errors import HostFailed
from ocigrpc.failing import host_failing
from ocigrpc.host.descriptors import closing_fd


def make_directory(path: Path | str) -> None:
    """Make a directory that only its owner may read; raises ``HostFailed`` with the path."""
    with host_failing("make", path):
        os.mkdir(path, 0o700)


def write_new_file(path: Path | str, content: bytes = b"") -> None:
    """Make a file that only its owner may read; raises ``HostFailed`` with the path.

    Whatever has the name already is refused, even a dangling link.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    with host_failing("make", path), open(os.open(path, flags, 0o600), "wb") as file:
        file.write(content)


def trust_problem(path: str, owners: Collection[int]) -> str:
    """Why others than ``owners`` could write to a directory; empty if they can't.

    They could make links there that the service, as root, would follow. Raises ``OSError`` if
    the directory can't be examined.
    """
    found = os.lstat(path)
    if stat.S_ISLNK(found.st_mode):
        return "is a symbolic link"
    if not stat.S_ISDIR(found.st_mode):
        return "is not a directory"
    if found.st_uid not in owners:
        return f"belongs to user {found.st_uid}, not to {' or '.join(map(str, owners))}"
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return f"can be written by others: mode {stat.S_IMODE(found.st_mode):04o}"
    return ""


def is_open_to_others(mode: int, *, may_be_searched: bool) -> bool:
    """Whether others can read a directory of this mode, or search it unless they may."""
    mask = stat.S_IRWXG | stat.S_IRWXO
    return bool(mode & (mask & ~(stat.S_IXGRP | stat.S_IXOTH) if may_be_searched else mask))


@contextmanager
def locked(path: str) -> Iterator[None]:
    """Keep the directory ``path`` from other services during the block.

    It is a lock of the kernel on the directory itself: it ends with the process, however that
    ends, and leaves no file. Raises ``HostFailed`` at once if another process has it, with its
    ``pid`` if the kernel shows it.
    """
    with host_failing("lock", path):
        directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    with closing_fd(directory):
        try:
            fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            pid = lock_holder(path)
            known: dict[str, object] = {"path": path} if pid is None else {"path": path, "pid": pid}
            other = "another service" if pid is None else f"another service, process {pid},"
            problem = f"{other} has directory {path!r}"
            raise HostFailed(problem, reason="DIRECTORY_IN_USE", **known) from error
        yield


def lock_holder(path: str) -> int | None:
    """The process that has a directory by :func:`locked`, if the kernel shows it; proc_locks(5).

    Some file systems have other device numbers there. Raises ``OSError``.
    """
    found = os.lstat(path)
    place = f"{os.major(found.st_dev):02x}:{os.minor(found.st_dev):02x}:{found.st_ino}"
    try:
        with open("/proc/locks") as locks:
            rows = [line.split() for line in locks]
    except OSError:
        return None
    pids = [row[4] for row in rows if row[1] == "FLOCK" and row[5] == place]
    # A process in another pid namespace is shown as 0, or not at all.
    return int(pids[0]) if pids and pids[0].isdigit() and pids[0] != "0" else None
