"""Files inside a root that is not trusted, as programs with that root would find them.

openat2(2) resolves a path and all links on it as if the root were "/", so that a container's
path never leads out of the container. Python has no call for it, so this is the C library's.
"""

from __future__ import annotations

import ctypes
import errno
import os
from contextlib import suppress

from ocigrpc.errors import HostFailed
from ocigrpc.host.descriptors import closing_fd
from ocigrpc.host.libc import last_error, libc
from ocigrpc.host.processes.process import Process

_OPENAT2 = 437  # The same number on every architecture.
_RESOLVE_NO_MAGICLINKS = 0x02
_RESOLVE_IN_ROOT = 0x10

_DIRECTORY = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC

# The kernel gives up when directories are renamed meanwhile; then the call is repeated.
_ATTEMPTS = 8


class _OpenHow(ctypes.Structure):
    _fields_ = (
        ("flags", ctypes.c_uint64),
        ("mode", ctypes.c_uint64),
        ("resolve", ctypes.c_uint64),
    )


def open_in_root(root_fd: int, path: str, flags: int = 0) -> int:
    """An ``O_PATH`` descriptor of ``path``, resolved as if ``root_fd`` were "/".

    Opening it does nothing to a FIFO or a device. ``flags`` may have ``O_NOFOLLOW`` and
    ``O_DIRECTORY``. The kernel's own links, as in /proc/PID/fd, are not followed (ELOOP).
    Raises ``OSError``.
    """
    how = _OpenHow(
        flags=os.O_PATH | os.O_CLOEXEC | flags,
        resolve=_RESOLVE_IN_ROOT | _RESOLVE_NO_MAGICLINKS,
    )
    encoded = os.fsencode(path)
    for _ in range(_ATTEMPTS):
        fd: int = libc.syscall(
            _OPENAT2, root_fd, encoded, ctypes.byref(how), ctypes.c_size_t(ctypes.sizeof(how))
        )
        if fd >= 0:
            return fd
        error = last_error(path)
        if error.errno not in (errno.EAGAIN, errno.EINTR):
            break
    raise error


def make_in_root(
    root_fd: int, path: str, *, is_directory: bool, owner: tuple[int, int] = (0, 0)
) -> None:
    """Make a directory or an empty file inside a root, and the directories above that are missing.

    All belong to ``owner``, and everybody may read them. What is there already stays as it is.
    Raises ``OSError``.
    """
    *parents, name = path.strip("/").split("/")
    at = "/"
    for each in parents:
        _make(root_fd, at, each, owner, is_directory=True)
        at = f"{at}{each}/"
    _make(root_fd, at, name, owner, is_directory=is_directory)


def _make(
    root_fd: int, parent: str, name: str, owner: tuple[int, int], *, is_directory: bool
) -> None:
    with (
        closing_fd(open_in_root(root_fd, parent, os.O_DIRECTORY)) as directory,
        suppress(FileExistsError),
    ):
        mode = 0o755 if is_directory else 0o644
        if is_directory:
            os.mkdir(name, mode, dir_fd=directory)
        else:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            os.close(os.open(name, flags, mode, dir_fd=directory))
        # Whatever our umask is, and that of the group that the directory may pass on.
        os.chown(name, *owner, dir_fd=directory, follow_symlinks=False)
        os.chmod(name, mode, dir_fd=directory)


def open_root_of(process: Process) -> int:
    """An ``O_PATH`` descriptor of "/" in the mount namespace of a process.

    Below it are the files that a program sees which enters the namespace, with all present
    mounts, whatever root the process itself has changed to. Raises ``HostFailed`` when the
    process has ended.
    """
    try:
        root = os.open(f"/proc/{process.pid}/root", _DIRECTORY)
    except OSError as error:
        raise _ended(process) from error
    try:
        while True:
            # ".." leads out of a root that a process has changed to; the last root is its own "..".
            above = os.open("..", _DIRECTORY, dir_fd=root)
            is_last = os.path.samestat(os.fstat(above), os.fstat(root))
            root, inner = above, root
            os.close(inner)
            if is_last:
                break
        if not process.alive():
            raise _ended(process)  # The number may be another process's by now.
    except BaseException:
        os.close(root)
        raise
    return root


def _ended(process: Process) -> HostFailed:
    path = f"/proc/{process.pid}/root"
    return HostFailed(f"can't open {path}: the process has ended", path=path)
