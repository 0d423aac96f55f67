"""Memory that goes back to the kernel when it is free; mallopt(3)."""

from __future__ import annotations

import ctypes

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8

# What a large answer is made of; smaller blocks are used again soon.
_LARGE_BYTES = 256 << 10
_ARENAS = 2


def give_back_large_blocks() -> None:
    """Have each large block be mapped by itself, so that it is unmapped once it is free.

    glibc begins so, but goes over to keeping what is as large as the largest block that was
    ever freed. To be called before there are threads; other C libraries are left alone.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _LARGE_BYTES)
        mallopt(_M_TRIM_THRESHOLD, _LARGE_BYTES)
        mallopt(_M_ARENA_MAX, _ARENAS)
