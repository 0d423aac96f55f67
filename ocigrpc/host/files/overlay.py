"""Overlay mounts: directories over each other, and at most one on top that takes what is written.

See the kernel's Documentation/filesystems/overlayfs.rst, fsopen(2) and fsconfig(2).
"""

from __future__ import annotations

import ctypes
import errno
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TypeAlias

from ocigrpc.host.descriptors import closing_fd
from ocigrpc.host.files.mounts import unescape, unmount
from ocigrpc.host.files.statx import statx
from ocigrpc.host.files.tree import mount_in_the_way
from ocigrpc.host.libc import last_error, libc

# The same numbers on every architecture.
_MOVE_MOUNT, _FSOPEN, _FSCONFIG, _FSMOUNT = 429, 430, 431, 432

_FSOPEN_CLOEXEC = _FSMOUNT_CLOEXEC = 1
_SET_STRING, _CREATE = 1, 6
_MOVE_EMPTY_PATH = 0x04
_AT_FDCWD = -100
_CLONE_FS = 0x200

_DIRECTORY = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC

# What mount(8) and /proc/mounts show as its source, by which we know it again.
SOURCE = "ocigrpc"

_UNMOUNTS_LIMIT = 8

# A page, less its NUL: the most that mount(2) takes as options.
_OPTIONS_LIMIT_BYTES = 4095

_Option: TypeAlias = tuple[str, str]


class TooManyLayers(OSError):
    """This kernel's mount(2) can't take the paths of so many layers."""


def mount_overlay(
    lower: Sequence[str],
    target: str,
    *,
    store_dir: str,
    above: Sequence[str] = (),
    upper: str = "",
    work: str = "",
    options: Sequence[str] = (),
) -> None:
    """Mount directories over each other at ``target``, which this process can see.

    ``lower`` are paths below ``store_dir``, topmost first; those of short links keep them short.
    ``above`` are paths of directories above all these. Without ``upper``, for which ``work`` is an
    empty directory of the same file system, nothing can be written, and there must be two
    directories at least. ``options`` are further ones, as in "metacopy=on". Raises ``OSError``, and
    ``TooManyLayers`` where the kernel is older than 6.7.
    """
    with (
        closing_fd(os.open(store_dir, _DIRECTORY)) as store,
        directories(above) as tops,
        directories([upper, work] if upper else []) as writable,
    ):
        layers = [*tops, *lower]
        more = _options(writable, options)
        try:
            _mount_by_steps(layers, target, store, more)
        except _OldKernel:
            _mount_at_once(option_text(layers, writable, options), target, store)


def unmount_overlay(target: str) -> None:
    """Detach what :func:`mount_overlay` has mounted at a directory; no error if it has not.

    Files in it that are open stay usable. Raises ``OSError``, and what
    :func:`refuse_other_mounts` does: those below would be detached with it.
    """
    for _ in range(_UNMOUNTS_LIMIT):
        if not is_mount_point(target):
            return
        refuse_other_mounts(target, target)
        unmount(target)


def refuse_other_mounts(directory: str, target: str) -> None:
    """Refuse every mount at and below a directory, but what is ours at ``target``.

    Raises ``PreconditionFailed`` (MOUNT_IN_THE_WAY), ``OSError``. No file is searched for them:
    the kernel has a list, see proc_pid_mountinfo(5).
    """
    top, own = os.path.realpath(directory), os.path.realpath(target)
    # By lines of its own: names may have other characters that end some.
    for line in os.fsdecode(Path("/proc/self/mountinfo").read_bytes()).split("\n")[:-1]:
        place, _, kind = line.partition(" - ")
        point = unescape(place.split(" ")[4])
        is_ours = point == own and kind.startswith(f"overlay {SOURCE} ")
        if not is_ours and f"{point}/".startswith(f"{top}/"):
            raise mount_in_the_way(point)


def is_mount_point(path: str) -> bool:
    """Whether something is mounted at a directory; false if it is missing. Raises ``OSError``."""
    try:
        return statx(path).mount_id != statx(os.path.dirname(path)).mount_id
    except FileNotFoundError:
        return False


class _OldKernel(Exception):
    """It has not all the calls, or takes no layers one by one."""


def option_text(layers: Sequence[str], writable: Sequence[str], options: Sequence[str]) -> bytes:
    """What mount(2) gets. Raises ``TooManyLayers`` when that is more than it takes."""
    named = [("lowerdir", ":".join(layers)), *_options(writable, options)]
    text = ",".join(f"{name}={value}" for name, value in named).encode()
    if len(text) > _OPTIONS_LIMIT_BYTES:
        raise TooManyLayers(errno.E2BIG, f"{len(layers)} layers are too many for mount(2)")
    return text


def _options(writable: Sequence[str], options: Sequence[str]) -> Sequence[_Option]:
    more = [each.partition("=")[::2] for each in options]
    return [*zip(("upperdir", "workdir"), writable, strict=False), *more]


def _mount_by_steps(
    layers: Sequence[str], target: str, store: int, more: Sequence[_Option]
) -> None:
    fd = libc.syscall(_FSOPEN, b"overlay", _FSOPEN_CLOEXEC)
    if fd < 0:
        raise _OldKernel if ctypes.get_errno() == errno.ENOSYS else last_error("overlay")
    with closing_fd(fd) as context:
        _set(context, "source", SOURCE)
        for index, path in enumerate(layers):
            try:
                _set(context, "lowerdir+", os.path.join(f"/proc/self/fd/{store}", path))
            except OSError as error:
                if index == 0 and error.errno == errno.EINVAL:
                    raise _OldKernel from error
                raise
        for name, value in more:
            _set(context, name, value)
        if libc.syscall(_FSCONFIG, context, _CREATE, None, None, 0):
            raise _explained(context, target)
        mount = libc.syscall(_FSMOUNT, context, _FSMOUNT_CLOEXEC, 0)
        if mount < 0:
            raise _explained(context, target)
        with closing_fd(mount):
            place = os.fsencode(target)
            if libc.syscall(_MOVE_MOUNT, mount, b"", _AT_FDCWD, place, _MOVE_EMPTY_PATH):
                raise last_error(target)


def _set(context: int, name: str, value: str) -> None:
    text = os.fsencode(value)
    if libc.syscall(_FSCONFIG, context, _SET_STRING, os.fsencode(name), text, 0):
        raise _explained(context, value)


def _explained(context: int, path: str) -> OSError:
    """The error of the last call, in the kernel's own words if it has any."""
    error = last_error(path)
    with suppress(OSError):
        words = os.read(context, 1024).decode(errors="replace").strip()
        # Its first letter is the level of the message.
        error.strerror = words.partition(" ")[2] or words
    return error


def _mount_at_once(options: bytes, target: str, store: int) -> None:
    """By mount(2), from a thread whose working directory keeps the paths short."""
    failures = list[OSError]()

    def mount() -> None:
        try:
            # The working directory is the whole process's otherwise.
            if libc.unshare(_CLONE_FS):
                raise last_error(target)
            os.fchdir(store)
            place, source = os.fsencode(target), SOURCE.encode()
            if libc.mount(source, place, b"overlay", ctypes.c_ulong(0), options):
                raise last_error(target)
        except OSError as error:
            failures.append(error)

    thread = threading.Thread(target=mount, name="mount")
    thread.start()
    thread.join()
    if failures:
        raise failures[0]


@contextmanager
def directories(paths: Sequence[str]) -> Iterator[Sequence[str]]:
    """Other paths of directories: short, since fsconfig(2) takes 255 bytes, without commas."""
    with ExitStack() as opened:
        fds = [opened.enter_context(closing_fd(os.open(each, _DIRECTORY))) for each in paths]
        yield [f"/proc/self/fd/{fd}" for fd in fds]
