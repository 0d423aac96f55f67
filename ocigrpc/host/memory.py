"""Memory that goes back to the kernel when it is free; mallopt(3)."""

from __future__ import annotations

import ctypes

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8

# Large answers are made of such blocks; smaller ones are soon used again.
_LARGE_BYTES = 256 << 10
_ARENAS = 2


def give_back_large_blocks() -> None:
    """Have the C library map each large block separately, so that freeing it unmaps it.

    glibc does so at first, but raises its threshold to the largest block that was ever freed.
    Must be called before there are threads; does nothing with other C libraries.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _LARGE_BYTES)
        mallopt(_M_TRIM_THRESHOLD, _LARGE_BYTES)
        mallopt(_M_ARENA_MAX, _ARENAS)
