"""Whether a cgroup is frozen: the one thing of it that is asked again and again."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence

from ocigrpc.host.cgroups.controller import GONE, ControllerGroup, failed

_LIMIT_BYTES = 256


class Freezer:
    """What one hierarchy tells of a group.

    To open a file costs several times what it costs to read it: so those that :meth:`frozen`
    reads can be held open.
    """

    def hold(self) -> None:
        """Hold its files open from the next question on, until :meth:`let_go`."""
        for file in self._asked():
            file.hold()

    def let_go(self) -> None:
        """Close its files; they are opened anew for each question."""
        for file in self._asked():
            file.let_go()

    def frozen(self) -> bool | None:
        """Whether it is frozen or about to be; None when that can't be read."""
        raise NotImplementedError

    def freezing(self) -> bool:
        """Whether it is about to be frozen, and something in it may still run."""
        raise NotImplementedError

    def _asked(self) -> Sequence[_File]:
        raise NotImplementedError


def freezers(groups: Sequence[ControllerGroup]) -> Sequence[Freezer]:
    """Those of a group, of all its hierarchies."""
    freezable = [group for group in groups if group.freezable]
    alone = all(group.unified for group in freezable)
    return [_Unified(group, alone) if group.unified else _Legacy(group) for group in freezable]


class _Legacy(Freezer):
    """The freezer of cgroup v1."""

    def __init__(self, group: ControllerGroup) -> None:
        self._state = _File(f"{group.directory}/freezer.state")

    def frozen(self) -> bool | None:
        told = self._state.read()
        return None if told is None else told.strip() in (b"FROZEN", b"FREEZING")

    def freezing(self) -> bool:
        return self._state.read() == b"FREEZING\n"

    def _asked(self) -> Sequence[_File]:
        return (self._state,)


class _Unified(Freezer):
    """cgroup2. ``alone``: there is no freezer of v1, which is the one that runtimes use."""

    def __init__(self, group: ControllerGroup, alone: bool) -> None:
        self._freeze = _File(f"{group.directory}/cgroup.freeze")
        self._events = _File(f"{group.directory}/cgroup.events")
        self._alone = alone

    def frozen(self) -> bool | None:
        # Where nobody freezes but by hand, it is not worth a file that what is about to be
        # frozen is seen a moment sooner.
        if self._alone:
            told = self._freeze.read()
            if told != b"0\n":
                return None if told is None else True
        # Not by its own file, yet a frozen ancestor holds it just the same.
        told = self._events.read()
        return None if told is None else b"frozen 1" in told

    def freezing(self) -> bool:
        return self._freeze.read() == b"1\n" and b"frozen 1" not in (self._events.read() or b"")

    def _asked(self) -> Sequence[_File]:
        return (self._freeze, self._events) if self._alone else (self._events,)


class _File:
    """A file of a group, which is read from its beginning whenever it is asked."""

    def __init__(self, path: str) -> None:
        self._path = path
        # Nobody reads what another thread has just closed.
        self._lock = threading.Lock()
        self._held = False
        self._fd = -1

    def hold(self) -> None:
        """Stay open from the next reading on."""
        with self._lock:
            self._held = True

    def let_go(self) -> None:
        """Be opened for each reading."""
        with self._lock:
            self._held = False
            self._close()

    def read(self) -> bytes | None:
        """What it says now; None when there is no such group. Raises ``CgroupFailed``."""
        with self._lock:
            try:
                if self._fd >= 0:
                    try:
                        return os.pread(self._fd, _LIMIT_BYTES, 0)
                    except OSError as error:
                        if error.errno not in GONE:
                            raise
                        # That group is gone; but there may be another in its place.
                        self._close()
                return self._opened()
            except OSError as error:
                if error.errno in GONE:
                    return None
                raise failed("read", self._path, error) from error

    def _opened(self) -> bytes:
        self._fd = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return os.pread(self._fd, _LIMIT_BYTES, 0)
        finally:
            if not self._held:
                self._close()

    def _close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
