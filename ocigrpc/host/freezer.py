"""Whether a cgroup is frozen: the one thing of it that is asked again and again."""

from __future__ import annotations

import os

from ocigrpc.host.cgroup_part import GONE, Part, failed

_LIMIT_BYTES = 256


class Freezer:
    """What one hierarchy tells of a group; its files are held open from the first question on.

    To open a file costs several times what it costs to read it.
    """

    def __init__(self, part: Part) -> None:
        names = ("cgroup.freeze", "cgroup.events") if part.unified else ("freezer.state",)
        self._files = tuple(_HeldFile(f"{part.directory}/{name}") for name in names)
        self._unified = part.unified

    def frozen(self) -> bool | None:
        """Whether it is frozen or about to be; None when that can't be read."""
        told = self._files[0].read()
        if told is None:
            return None
        if not self._unified:
            return told.strip() in (b"FROZEN", b"FREEZING")
        # Not by its own file, yet a frozen ancestor holds it just the same.
        return told != b"0\n" or self._all_stopped()

    def freezing(self) -> bool:
        """Whether it is about to be frozen, and something in it may still run."""
        told = self._files[0].read()
        if not self._unified:
            return told == b"FREEZING\n"
        return told == b"1\n" and not self._all_stopped()

    def _all_stopped(self) -> bool:
        return b"frozen 1" in (self._files[1].read() or b"")


class _HeldFile:
    """A file of a group, which is read from its beginning whenever it is asked."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._opened: _Opened | None = None

    def read(self) -> bytes | None:
        """What it says now; None when there is no such group. Raises ``CgroupFailed``."""
        # Other threads may replace it meanwhile; what this one reads stays open for as long.
        opened = self._opened
        try:
            if opened is not None and (text := opened.read()) is not None:
                return text
            # That group is gone; but there may be another in its place.
            self._opened = opened = _Opened(self._path)
            return opened.read()
        except OSError as error:
            if error.errno in GONE:
                return None
            raise failed("read", self._path, error) from error


class _Opened:
    """The file of one very group, open for as long as somebody has this."""

    def __init__(self, path: str) -> None:
        self._fd = -1
        self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def read(self) -> bytes | None:
        """What it says now; None once the group is gone. Raises ``OSError``."""
        try:
            return os.pread(self._fd, _LIMIT_BYTES, 0)
        except OSError as error:
            if error.errno in GONE:
                return None
            raise

    def __del__(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
