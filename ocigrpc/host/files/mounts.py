"""Mounts in this mount namespace: finding, making and removing them."""

from __future__ import annotations

import ctypes
import os
import re
from pathlib import Path

from ocigrpc.host.descriptors import closing_fd
from ocigrpc.host.libc import last_error, libc

_MS_BIND = 0x1000
_MS_REC = 0x4000
_MS_PRIVATE = 0x40000
_MNT_DETACH = 2


def source_of(mount_point: str) -> str:
    """The path within its file system of what was mounted last at a path; "" if nothing is.

    See proc_pid_mountinfo(5).
    """
    real = os.path.realpath(mount_point)
    source = ""
    text = Path("/proc/self/mountinfo").read_text(errors="surrogateescape")
    for line in text.splitlines():
        _, _, _, root, point, *_ = line.split(" ")
        if unescape(point) == real:
            source = unescape(root)
    return source


def bind_directory(source_fd: int, mount_point: str, *, recursive: bool) -> None:
    """Bind a directory to a path, with or without the mounts below it; raises ``OSError``.

    Later mounts at one of the two do not appear at the other.
    """
    flags = _MS_BIND | (_MS_REC if recursive else 0)
    _mount(f"/proc/self/fd/{source_fd}", mount_point, flags)
    _mount("", mount_point, _MS_PRIVATE | _MS_REC)


def bind_file(source: str, target_fd: int) -> None:
    """Bind a file over another, which is open by ``O_PATH``; raises ``OSError``."""
    _mount(source, f"/proc/self/fd/{target_fd}", _MS_BIND)


def _mount(source: str, target: str, flags: int) -> None:
    if libc.mount(os.fsencode(source), os.fsencode(target), None, ctypes.c_ulong(flags), None):
        raise last_error(target)


def unmount(mount_point: str) -> None:
    """Detach the last mount at a path; it lasts as long as it is in use. Raises ``OSError``.

    It is held open first, so that no other one is detached.
    """
    parent, name = os.path.split(mount_point)
    with (
        closing_fd(os.open(parent, os.O_PATH | os.O_DIRECTORY)) as directory,
        closing_fd(os.open(name, os.O_PATH | os.O_NOFOLLOW, dir_fd=directory)) as held,
    ):
        if libc.umount2(f"/proc/self/fd/{held}".encode(), _MNT_DETACH):
            raise last_error(mount_point)


def unescape(field: str) -> str:
    """The path in a field of a mountinfo, which has octal numbers for white space in it."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), field)
