"""Mounts of this mount namespace: what they show, and the end of one."""

from __future__ import annotations

import ctypes
import os
import re
from pathlib import Path

_MNT_DETACH = 2

_libc = ctypes.CDLL(None, use_errno=True)


def source_of(mount_point: str) -> str:
    """The path, in its own file system, of what is mounted last at a path; "" if nothing is.

    See proc_pid_mountinfo(5).
    """
    real = os.path.realpath(mount_point)
    source = ""
    text = Path("/proc/self/mountinfo").read_text(errors="surrogateescape")
    for line in text.splitlines():
        _, _, _, root, point, *_ = line.split(" ")
        if _unescape(point) == real:
            source = _unescape(root)
    return source


def unmount(mount_point: str) -> None:
    """Take away the mount that is at a path last; who uses it keeps it as long. ``OSError``.

    It is held open first, so that no other can be meant.
    """
    directory = os.open(os.path.dirname(mount_point), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        name = os.path.basename(mount_point)
        opened = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
    finally:
        os.close(directory)
    try:
        held = f"/proc/self/fd/{opened}"
        if _libc.umount2(held.encode(), _MNT_DETACH):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), mount_point)
    finally:
        os.close(opened)


def _unescape(field: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), field)
