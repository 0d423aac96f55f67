"""Quotas of projects: what trees of files take on their disk, and may take at most; quotactl(2).

Each inode is in one project, by its number; 0 is that of all that nobody has put into another. A
directory can pass its project on to what is made in it. ext4 and xfs have these quotas, when they
are mounted so; they are asked through an open file of theirs, which takes Linux 5.14.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import struct
from collections.abc import Set as AbstractSet
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from ocigrpc.host.descriptors import closing_fd
from ocigrpc.host.libc import last_error, libc

# As linux/fs.h has them for most architectures; struct fsxattr: flags, two of extents, project.
_FS_IOC_FSGETXATTR, _FS_IOC_FSSETXATTR = 0x801C581F, 0x401C5820
_FS_XFLAG_PROJINHERIT = 0x200
_FSXATTR = struct.Struct("=IIII12s")

# The same on every architecture that is younger than the table of all.
_SYS_QUOTACTL_FD = 443
_PRJQUOTA = 2
_Q_GETQUOTA, _Q_SETQUOTA, _Q_XGETQSTAT = 0x800007, 0x800008, 0x5805
# struct if_dqblk, in which limits are in KiB, and what of it is to be set: the limits of blocks.
_DQBLK = struct.Struct("=8QI4x")
_BLOCK_BYTES = 1024
_QIF_BLIMITS = 1
# struct fs_quota_stat: a version, and the flags. It is 80 bytes long.
_QSTAT = struct.Struct("@bH")
_QSTAT_BYTES = 80
_FS_QUOTA_PDQ_ACCT, _FS_QUOTA_PDQ_ENFD = 0x10, 0x20

# Where people note their projects: projid(5), projects(5).
_NAMES, _TREES = "/etc/projid", "/etc/projects"


class Support(NamedTuple):
    """Whether a file system counts what projects take, and whether it holds them to limits."""

    counts: bool = False
    limits: bool = False


class ProjectUsage(NamedTuple):
    """What all files of a project take, also those that are not on the disk yet; 0: no limit."""

    bytes: int
    inodes: int
    limit_bytes: int


def support(path: str) -> Support:
    """What the file system of a directory has, for this process; raises nothing."""
    with suppress(OSError), closing_fd(_opened(path)) as directory:
        state = ctypes.create_string_buffer(_QSTAT_BYTES)
        _quotactl(directory, _Q_XGETQSTAT, 0, state)
        # Not every user namespace may.
        _usage(directory, 0)
        _, flags = _QSTAT.unpack_from(state)
        counts = bool(flags & _FS_QUOTA_PDQ_ACCT)
        return Support(counts, counts and bool(flags & _FS_QUOTA_PDQ_ENFD))
    return Support()


def project_of(path: str) -> int:
    """The project of a directory; raises ``OSError``."""
    with closing_fd(_opened(path)) as directory:
        return _attributes(directory, path)[3]


def set_project(path: str, project_id: int) -> None:
    """Put a directory, and what is made in it from now on, into a project; raises ``OSError``."""
    with closing_fd(_opened(path)) as directory:
        flags, extent_size, extents, _, rest = _attributes(directory, path)
        wanted = flags | _FS_XFLAG_PROJINHERIT, extent_size, extents, project_id, rest
        _ioctl(directory, _FS_IOC_FSSETXATTR, _FSXATTR.pack(*wanted), path)


def usage(path: str, project_id: int) -> ProjectUsage:
    """What a project takes on the file system of a directory; raises ``OSError``."""
    with closing_fd(_opened(path)) as directory:
        return _usage(directory, project_id)


def set_limit(path: str, project_id: int, limit_bytes: int) -> None:
    """Limit a project on the file system of a directory, to whole KiB; 0: no more.

    Raises ``OSError``.
    """
    record = _DQBLK.pack(limit_bytes // _BLOCK_BYTES, 0, 0, 0, 0, 0, 0, 0, _QIF_BLIMITS)
    buffer = ctypes.create_string_buffer(record, _DQBLK.size)
    with closing_fd(_opened(path)) as directory:
        _quotactl(directory, _Q_SETQUOTA, project_id, buffer)


def noted_projects() -> AbstractSet[int]:
    """The projects that people have noted on this host, whether these have files or not."""
    return _numbers(_NAMES, 1) | _numbers(_TREES, 0)


def _numbers(path: str, column: int) -> set[int]:
    found = set[int]()
    with suppress(OSError):
        for line in Path(path).read_text(errors="replace").splitlines():
            fields = line.split(":")
            if len(fields) > column and fields[column].strip().isdecimal():
                found.add(int(fields[column]))
    return found


def _opened(path: str) -> int:
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)


def _usage(directory: int, project_id: int) -> ProjectUsage:
    buffer = ctypes.create_string_buffer(_DQBLK.size)
    try:
        _quotactl(directory, _Q_GETQUOTA, project_id, buffer)
    except FileNotFoundError:
        # xfs has no record of a project before there is something to count.
        return ProjectUsage(0, 0, 0)
    hard, soft, used_bytes, _, _, inodes, *_ = _DQBLK.unpack(buffer.raw)
    return ProjectUsage(used_bytes, inodes, (hard or soft) * _BLOCK_BYTES)


def _attributes(directory: int, path: str) -> tuple[int, int, int, int, bytes]:
    found = _FSXATTR.unpack(_ioctl(directory, _FS_IOC_FSGETXATTR, bytes(_FSXATTR.size), path))
    flags, extent_size, extents, project_id, rest = found
    return flags, extent_size, extents, project_id, rest


def _ioctl(directory: int, command: int, argument: bytes, path: str) -> bytes:
    try:
        return fcntl.ioctl(directory, command, argument)
    except OSError as error:
        raise OSError(error.errno, error.strerror, path) from error


def _quotactl(
    directory: int, command: int, project_id: int, buffer: ctypes.Array[ctypes.c_char]
) -> None:
    wanted = ctypes.c_uint(command << 8 | _PRJQUOTA)
    if libc.syscall(_SYS_QUOTACTL_FD, directory, wanted, ctypes.c_uint(project_id), buffer):
        raise last_error()
