"""Checks SQLite's write-ahead log for damage; https://sqlite.org/fileformat2.html, section 4.

SQLite reads the log up to the first invalid frame and ignores the rest: so it undoes a write
that was cut off. It would also ignore, without an error, valid frames behind a damaged one.
"""

from __future__ import annotations

import os
import struct
import time
from pathlib import Path

_HEADER_BYTES, _FRAME_HEADER_BYTES = 32, 24

# Magic numbers, and the byte order of the integers that the checksum adds up.
_BYTE_ORDERS = {0x377F0682: "<", 0x377F0683: ">"}


def damage(path: Path) -> str:
    """What is damaged in a log; empty if nothing is, or if only its end was cut off.

    A log that is missing counts as sound, and so does one from before the last boot: a loss of
    power may take any of its last frames. Raises ``OSError`` when it can't be read.
    """
    try:
        content = path.read_bytes()
        booted_s = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
        if len(content) < _HEADER_BYTES or os.stat(path).st_mtime < booted_s:
            return ""
    except FileNotFoundError:
        return ""
    magic, _, page_bytes, _, *salts = struct.unpack_from(">6I", content)
    order = _BYTE_ORDERS.get(magic)
    if order is None or page_bytes not in (1 << shift for shift in range(9, 17)):
        return "its header is damaged"
    total = _checksum(content[: _HEADER_BYTES - 8], order, (0, 0))
    if total != struct.unpack_from(">2I", content, _HEADER_BYTES - 8):
        return "its header is damaged"
    broken = _broken_frame(content, _FRAME_HEADER_BYTES + page_bytes, salts, order, total)
    return f"frame {broken} is damaged, and others follow it" if broken else ""


def _broken_frame(
    content: bytes, frame_bytes: int, salts: list[int], order: str, total: tuple[int, int]
) -> int:
    """The number of the first invalid frame, if a complete write follows it; else 0."""
    broken = 0
    for number, begin in enumerate(range(_HEADER_BYTES, len(content), frame_bytes), 1):
        frame = content[begin : begin + frame_bytes]
        if len(frame) < frame_bytes or list(struct.unpack_from(">2I", frame, 8)) != salts:
            # Left from before the log was restarted, or cut off.
            broken = broken or number
            continue
        # A write that failed has left frames without the size that marks its last one.
        if broken and struct.unpack_from(">I", frame, 4) != (0,):
            return broken
        total = _checksum(frame[:8], order, total)
        total = _checksum(frame[_FRAME_HEADER_BYTES:], order, total)
        if total != struct.unpack_from(">2I", frame, 16):
            broken = broken or number
    return 0


def _checksum(content: bytes, order: str, total: tuple[int, int]) -> tuple[int, int]:
    first, second = total
    for even, odd in struct.iter_unpack(f"{order}2I", content):
        first = (first + even + second) & 0xFFFFFFFF
        second = (second + odd + first) & 0xFFFFFFFF
    return first, second
