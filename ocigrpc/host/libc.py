"""The C library, for calls that Python does not have."""

from __future__ import annotations

import ctypes
import os

libc = ctypes.CDLL(None, use_errno=True)

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8

# Large responses consist of such blocks; smaller ones are soon used again.
_LARGE_BYTES = 256 << 10
_ARENAS = 2


def last_error(path: str | None = None) -> OSError:
    """The error of the call that has just failed in this thread, with the path that it was for."""
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number), path)


def give_back_large_blocks() -> None:
    """Have the C library map each large block separately, so that freeing it unmaps it.

    glibc does so at first, but raises its threshold to the largest block that was ever freed;
    see mallopt(3). Must be called before there are threads; does nothing with other C libraries.
    """
    mallopt = getattr(libc, "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _LARGE_BYTES)
        mallopt(_M_TRIM_THRESHOLD, _LARGE_BYTES)
        mallopt(_M_ARENA_MAX, _ARENAS)
