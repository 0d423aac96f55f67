"""Overlays whose layers are id-mapped: what a layer's file has as owner, a user namespace has.

See mount_setattr(2) and open_tree(2). An overlay takes layers only from mounts of the mount
namespace that it is made in, so that each layer is mounted somewhere at first. This is done in a
mount namespace that one thread has to itself: no other process sees these mounts, and whatever
ends the thread takes them away.
"""

from __future__ import annotations

import ctypes
import errno
import os
import threading
from collections.abc import Sequence
from contextlib import ExitStack

from ocigrpc.host.descriptors import closing_fd
from ocigrpc.host.files.overlay import SOURCE, directories, option_text
from ocigrpc.host.libc import last_error, libc

# The same numbers on every architecture.
_OPEN_TREE, _MOVE_MOUNT, _MOUNT_SETATTR = 428, 429, 442

_OPEN_TREE_CLONE = 1
_MOVE_EMPTY_PATH = 0x04
_AT_FDCWD = -100
_AT_EMPTY_PATH = 0x1000
_ATTR_IDMAP = 0x00100000
_CLONE_NEWNS = 0x00020000
_MS_REC, _MS_SLAVE = 0x4000, 0x80000

_DIRECTORY = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC

# Where the overlay is at first, beside the layers, whose names are numbers.
_MERGED = "merged"
# A second layer, for an overlay of one.
_EMPTY = "empty"


class NotIdMapped(OSError):
    """The kernel, or the file system of a layer, has no id-mapped mounts that overlay takes."""


class _MountAttr(ctypes.Structure):
    """``struct mount_attr`` of linux/mount.h."""

    _fields_ = (
        ("set", ctypes.c_uint64),
        ("clear", ctypes.c_uint64),
        ("propagation", ctypes.c_uint64),
        ("user_namespace", ctypes.c_uint64),
    )


def mount_idmapped_overlay(
    lower: Sequence[str],
    target: str,
    *,
    namespace: int,
    store_dir: str,
    above: Sequence[str] = (),
    upper: str = "",
    work: str = "",
    options: Sequence[str] = (),
) -> None:
    """Like ``mount_overlay``, with the files of ``lower`` owned as ``namespace`` has them.

    ``namespace`` is a descriptor of a user namespace. The other directories are as they are on
    disk, with what the namespace's users have on the host. Raises ``NotIdMapped``,
    ``TooManyLayers``, ``OSError``.
    """
    made, failures = list[int](), list[OSError]()

    def make() -> None:
        try:
            _enter_own_mounts()
            with ExitStack() as opened:
                # Opened in here: those of another mount namespace can be no layers.
                layers = _cloned(lower, store_dir, namespace, opened)
                tops = opened.enter_context(directories(above))
                writable = opened.enter_context(directories([upper, work] if upper else []))
                text = option_text([*tops, *_attach(layers, target)], writable, options)
                paths = [f"{store_dir}/{each}" for each in lower]
                made.append(_overlay(text, target, paths))
        except OSError as error:
            failures.append(error)

    thread = threading.Thread(target=make, name="mount")
    thread.start()
    thread.join()
    if failures:
        raise failures[0]
    with closing_fd(made[0]) as mount:
        _move(mount, target)


def _enter_own_mounts() -> None:
    if libc.unshare(_CLONE_NEWNS):
        raise last_error()
    # What is mounted here is nowhere else; what the host unmounts is gone here as well.
    if libc.mount(None, b"/", None, ctypes.c_ulong(_MS_REC | _MS_SLAVE), None):
        raise last_error("/")


def _cloned(
    lower: Sequence[str], store_dir: str, namespace: int, opened: ExitStack
) -> Sequence[int]:
    """A new, id-mapped mount of each layer, that is nowhere yet."""
    store = opened.enter_context(closing_fd(os.open(store_dir, _DIRECTORY)))
    attributes = _MountAttr(set=_ATTR_IDMAP, user_namespace=namespace)
    found = list[int]()
    for each in lower:
        path = f"{store_dir}/{each}"
        flags = _OPEN_TREE_CLONE | os.O_CLOEXEC
        mount = libc.syscall(_OPEN_TREE, store, os.fsencode(each), flags)
        if mount < 0:
            raise _refused(path, errno.ENOSYS)
        found.append(opened.enter_context(closing_fd(mount)))
        size = ctypes.c_size_t(ctypes.sizeof(attributes))
        if libc.syscall(_MOUNT_SETATTR, mount, b"", _AT_EMPTY_PATH, ctypes.byref(attributes), size):
            raise _refused(path, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP)
    return found


def _attach(layers: Sequence[int], place: str) -> Sequence[str]:
    """Mount each layer below ``place`` by its number, where the working directory is then."""
    if libc.mount(b"tmpfs", os.fsencode(place), b"tmpfs", ctypes.c_ulong(0), None):
        raise last_error(place)
    os.chdir(place)
    os.mkdir(_MERGED)
    names = [str(index) for index in range(len(layers))]
    for name, mount in zip(names, layers, strict=True):
        os.mkdir(name)
        _move(mount, name)
    return names


def _overlay(options: bytes, target: str, layers: Sequence[str]) -> int:
    """An overlay that is nowhere yet; ``layers`` are where its id-mapped ones come from."""
    if libc.mount(SOURCE.encode(), _MERGED.encode(), b"overlay", ctypes.c_ulong(0), options):
        raise _explained(last_error(target), layers)
    mount: int = libc.syscall(
        _OPEN_TREE, _AT_FDCWD, _MERGED.encode(), _OPEN_TREE_CLONE | os.O_CLOEXEC
    )
    if mount < 0:
        raise last_error(target)
    return mount


def _move(mount: int, place: str) -> None:
    if libc.syscall(_MOVE_MOUNT, mount, b"", _AT_FDCWD, os.fsencode(place), _MOVE_EMPTY_PATH):
        raise last_error(place)


def _refused(path: str, *refusals: int) -> OSError:
    """The error of the last call; ``refusals`` are those of kernels and file systems without it."""
    error = last_error(path)
    return NotIdMapped(error.errno, error.strerror, path) if error.errno in refusals else error


def _explained(error: OSError, layers: Sequence[str]) -> OSError:
    """The error of an overlay, which before Linux 5.19 takes no id-mapped layer.

    That is EINVAL, as wrong options are: so the first layer is tried with none, both ways.
    """
    if error.errno != errno.EINVAL or not layers:
        return error
    os.mkdir(_EMPTY)
    with directories(layers[:1]) as [plain]:
        if _overlays("0") or not _overlays(plain):
            return error
    return NotIdMapped(error.errno, error.strerror, layers[0])


def _overlays(layer: str) -> bool:
    """Whether there can be an overlay of a layer, by itself."""
    options = option_text([layer, _EMPTY], [], [])
    place = _MERGED.encode()
    return not libc.mount(SOURCE.encode(), place, b"overlay", ctypes.c_ulong(0), options)
