"""One file of a container's log, read in blocks from either end."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator
from typing import NamedTuple

# Longer ones are no lines of conmon's, which writes at most 8 KiB of text in one.
LINE_LIMIT_BYTES = 1 << 16

_BLOCK_BYTES = 1 << 16


class Block(NamedTuple):
    """Whole lines without their newlines; ``dropped`` counts those that were too long."""

    lines: list[bytes]
    dropped: int = 0


class LogFile:
    """An open log file, which stays the same one when it is renamed."""

    def __init__(self, path: str) -> None:
        """Raises ``OSError``, EINVAL for what is no regular file."""
        self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        status = os.fstat(self._fd)
        if not stat.S_ISREG(status.st_mode):
            os.close(self._fd)
            raise OSError(errno.EINVAL, "not a regular file", path)
        self.identity = (status.st_dev, status.st_ino)
        self.size_bytes = status.st_size
        self._position = 0
        self._rest = b""
        self._dropping = False

    def fileno(self) -> int:
        """Its descriptor."""
        return self._fd

    def seek(self, position: int) -> None:
        """Go to the beginning of a line."""
        self._position = position
        self._rest = b""
        self._dropping = False

    def cut_short(self) -> bool:
        """Whether it was emptied while we read it; then reading starts again at its beginning."""
        if os.fstat(self._fd).st_size >= self._position:
            return False
        self.seek(0)
        return True

    def read(self, limit: int | None = None) -> Block | None:
        """The next lines, none beyond the byte ``limit``; None when there are no more yet.

        A line that lacks its newline yet is kept for the next call.
        """
        size = _BLOCK_BYTES if limit is None else min(_BLOCK_BYTES, limit - self._position)
        data = os.pread(self._fd, size, self._position) if size > 0 else b""
        if not data:
            return None
        self._position += len(data)
        lines = (self._rest + data).split(b"\n")
        self._rest = lines.pop()
        dropped = 0
        if lines and (self._dropping or len(lines[0]) > LINE_LIMIT_BYTES):
            # Only the first can be that long; it was counted when its beginning was dropped.
            dropped += not self._dropping
            self._dropping = False
            del lines[0]
        if len(self._rest) > LINE_LIMIT_BYTES:
            dropped += not self._dropping
            self._dropping = True
        if self._dropping:
            self._rest = b""
        return Block(lines, dropped)

    def tail(self, counts: Callable[[bytes], bool], wanted: int) -> tuple[int, int]:
        """Where the last ``wanted`` lines that count begin, and how many were found, up to that.

        Lines that were written after it was opened are ignored.
        """
        found = 0
        for position, line in self._backwards():
            if not wanted:
                return position + len(line) + 1, 0
            found += counts(line)
            if found == wanted:
                return position, found
        return 0, found

    def _backwards(self) -> Iterator[tuple[int, bytes]]:
        """Its whole lines and their positions, from the last to the first."""
        start, rest, whole = self.size_bytes, b"", False
        while start > 0:
            block_start = max(0, start - _BLOCK_BYTES)
            data = os.pread(self._fd, start - block_start, block_start) + rest
            start = block_start
            end = len(data)
            while (newline := data.rfind(b"\n", 0, end)) >= 0:
                if whole and end - newline <= LINE_LIMIT_BYTES + 1:
                    yield start + newline + 1, data[newline + 1 : end]
                # What follows the last newline is no line yet.
                whole, end = True, newline
            # Of a line that is too long, a piece that is too long is enough.
            rest = data[: min(end, LINE_LIMIT_BYTES + 1)]
        if whole and len(rest) <= LINE_LIMIT_BYTES:
            yield 0, rest

    def close(self) -> None:
        """Close it."""
        os.close(self._fd)
