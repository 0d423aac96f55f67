"""The last number that an event got in this boot of the node, kept beside the containers.

A store can be replaced by an older one, a backup, while containers live on. Then this file has the
greater number: it tells that the store lacks what has happened since, and keeps numbers from being
given twice.
"""

from __future__ import annotations

import os
from pathlib import Path

from ocigrpc.host.processes.process import boot_id
from ocigrpc.log import get_logger

log = get_logger()

# Always as many bytes, so that a write neither needs room on the disk nor leaves digits behind it.
_DIGITS = 20

# Numbers are microseconds since 1970, and what is not below this is damage: SQLite has 64 bits.
_LIMIT = 1 << 62

_READ_BYTES = 128


def noted(path: Path) -> int:
    """The number in the file at ``path``, which may be missing; 0 if none is known."""
    try:
        with path.open("rb") as file:
            return _number(file.read(_READ_BYTES))
    except FileNotFoundError:
        return 0


def _number(content: bytes) -> int:
    found = content.decode(errors="replace").split()
    if len(found) != 2 or found[0] != boot_id() or not found[1].isdecimal():
        return 0
    number = int(found[1])
    return number if number < _LIMIT else 0


class LastNumber:
    """The file at ``path``, open until :meth:`close`; an error of its disk is logged, no more."""

    def __init__(self, path: Path) -> None:
        self._boot_id = boot_id()
        self._fd: int | None = None
        self._is_failing = False
        try:
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
            self._fd = os.open(path, flags, 0o600)
        except OSError as error:
            self._failed(error)

    def read(self) -> int:
        """The number; 0 if none is known, as after a start of the node."""
        if self._fd is None:
            return 0
        try:
            return _number(os.pread(self._fd, _READ_BYTES, 0))
        except OSError as error:
            self._failed(error)
            return 0

    def write(self, number: int) -> None:
        """Replace it."""
        if self._fd is None:
            return
        try:
            os.pwrite(self._fd, f"{self._boot_id} {number:0{_DIGITS}}\n".encode(), 0)
            self._is_failing = False
        except OSError as error:
            self._failed(error)

    def close(self) -> None:
        """Close the file."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def _failed(self, error: OSError) -> None:
        if not self._is_failing:
            log.warning("store.last_number_failed", error=str(error))
        self._is_failing = True
