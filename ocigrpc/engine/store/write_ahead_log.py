"""SQLite's write-ahead log, looked at for damage; https://sqlite.org/fileformat2.html, 4.

SQLite reads such a log up to the first frame that is not right, and then forgets the rest:
that is how it undoes a write that was cut off. What comes behind a damaged frame would be
lost without a word, though it was written and is there.
"""

from __future__ import annotations

import os
import struct
import time
from pathlib import Path

_HEADER_BYTES, _FRAME_HEADER_BYTES = 32, 24
_MAGIC = {0x377F0682: "<", 0x377F0683: ">"}
"""With the order of the bytes in the words that are summed up."""


def damage(path: Path) -> str:
    """What is wrong with a log that was not cut off at its end; nothing for one that is sound.

    So is one that is not there, and one of before the node was started anew: a loss of power
    may take any of its last frames. Raises ``OSError`` when it can't be read.
    """
    try:
        content = path.read_bytes()
        booted_s = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
        if len(content) < _HEADER_BYTES or os.stat(path).st_mtime < booted_s:
            return ""
    except FileNotFoundError:
        return ""
    magic, _, page_bytes, _, *salts = struct.unpack_from(">6I", content)
    order = _MAGIC.get(magic)
    if order is None or page_bytes not in (1 << shift for shift in range(9, 17)):
        return "its header is damaged"
    total = _summed(content[: _HEADER_BYTES - 8], order, (0, 0))
    if total != struct.unpack_from(">2I", content, _HEADER_BYTES - 8):
        return "its header is damaged"
    broken = _broken_frame(content, _FRAME_HEADER_BYTES + page_bytes, salts, order, total)
    return f"frame {broken} is damaged, and others come behind it" if broken else ""


def _broken_frame(
    content: bytes, frame_bytes: int, salts: list[int], order: str, total: tuple[int, int]
) -> int:
    """The first frame that is not right, if a write that ended comes behind it; else 0."""
    broken = 0
    for number, begin in enumerate(range(_HEADER_BYTES, len(content), frame_bytes), 1):
        frame = content[begin : begin + frame_bytes]
        if len(frame) < frame_bytes or list(struct.unpack_from(">2I", frame, 8)) != salts:
            # Older, of before the log was begun anew; or cut off.
            broken = broken or number
            continue
        # What a write that failed has left behind has no mark of an end.
        if broken and struct.unpack_from(">I", frame, 4) != (0,):
            return broken
        total = _summed(frame[:8], order, total)
        total = _summed(frame[_FRAME_HEADER_BYTES:], order, total)
        if total != struct.unpack_from(">2I", frame, 16):
            broken = broken or number
    return 0


def _summed(content: bytes, order: str, total: tuple[int, int]) -> tuple[int, int]:
    first, second = total
    for even, odd in struct.iter_unpack(f"{order}2I", content):
        first = (first + even + second) & 0xFFFFFFFF
        second = (second + odd + first) & 0xFFFFFFFF
    return first, second
