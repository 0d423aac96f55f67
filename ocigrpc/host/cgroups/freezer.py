"""Freezing a cgroup, and its state, which is read more often than anything else of it."""

from __future__ import annotations

import itertools
import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence

from ocigrpc.errors import CgroupFailed
from ocigrpc.host.cgroups.controller import GONE, ControllerGroup, failed
from ocigrpc.waiting import Deadline

_LIMIT_BYTES = 256

# The pauses between polls of a group that is about to be frozen.
_POLL_FIRST_S = 0.00005
_POLL_MOST_S = 0.005

# Every so many polls, a v1 group that is still not frozen is thawed first.
_THAW_EVERY = 16


class Freezer(ABC):
    """The frozen state of a group in one hierarchy.

    Opening a file costs several times as much as reading it, so the files that :meth:`frozen`
    reads can be held open.
    """

    __slots__ = ("_files", "_group", "unified")

    def __init__(self, group: ControllerGroup, *files: _File) -> None:
        """``files`` are those that :meth:`frozen` reads."""
        self._group = group
        self._files = files
        self.unified = group.unified
        """Whether it is that of cgroup2."""

    def freeze(self, deadline: Deadline) -> None:
        """Freeze the group, and wait until nothing in it runs.

        Raises ``Timeout``, ``Cancelled``, or ``CgroupFailed`` when it is gone or thawed meanwhile.
        """
        self._group.set_frozen(True)
        for poll in polls(deadline):
            if not self.freezing():
                break
            self._insist(poll)
        if not self.frozen():
            path = self._group.directory
            raise CgroupFailed(f"{path} was thawed while it was being frozen", path=path)

    @abstractmethod
    def _insist(self, poll: int) -> None:
        """Do what helps when it is not frozen by now."""

    def hold(self) -> None:
        """Hold its files open from the next read on, until :meth:`release`."""
        for file in self._files:
            file.hold()

    def release(self) -> None:
        """Close its files, and open them again for each read."""
        for file in self._files:
            file.release()

    @abstractmethod
    def frozen(self) -> bool | None:
        """Whether it is frozen or about to be; None when that can't be read."""

    @abstractmethod
    def freezing(self) -> bool:
        """Whether it is about to be frozen, and something in it may still run."""


def freezers(groups: Sequence[ControllerGroup]) -> Sequence[Freezer]:
    """The freezers of a group, one for each hierarchy that can freeze."""
    freezable = [group for group in groups if group.freezable]
    alone = all(group.unified for group in freezable)
    return [_Unified(group, alone) if group.unified else _Legacy(group) for group in freezable]


def polls(deadline: Deadline) -> Iterator[int]:
    """Numbers from 0, the first at once and each further one after a pause that grows.

    For states that the kernel reports late, or not at all: v1 has no event for them, and those of
    cgroup2 may come 10 ms late (CGROUP_FILE_NOTIFY_MIN_INTV). Raises ``Timeout`` or ``Cancelled``.
    """
    pause_s = _POLL_FIRST_S
    for poll in itertools.count():
        yield poll
        deadline.wait(timeout_s=pause_s)
        pause_s = min(pause_s * 2, _POLL_MOST_S)


class _Legacy(Freezer):
    """The freezer of cgroup v1."""

    __slots__ = ("_state",)

    def __init__(self, group: ControllerGroup) -> None:
        self._state = _File(f"{group.directory}/freezer.state")
        super().__init__(group, self._state)

    def frozen(self) -> bool | None:
        text = self._state.read()
        return None if text is None else text in (b"FROZEN\n", b"FREEZING\n")

    def freezing(self) -> bool:
        return self._state.read() == b"FREEZING\n"

    def _insist(self, poll: int) -> None:
        # The kernel may miss processes that are being forked, or moved into the group, and
        # freezes them when it is told again; some only after all have run for a moment.
        if poll % _THAW_EVERY == _THAW_EVERY - 1:
            self._group.set_frozen(False)
        self._group.set_frozen(True)


class _Unified(Freezer):
    """The freezer of cgroup2. ``alone``: there is none of v1, which runtimes use otherwise."""

    __slots__ = ("_alone", "_events", "_freeze")

    def __init__(self, group: ControllerGroup, alone: bool) -> None:
        self._freeze = _File(f"{group.directory}/cgroup.freeze")
        self._events = _File(f"{group.directory}/cgroup.events")
        self._alone = alone
        super().__init__(group, *((self._freeze, self._events) if alone else (self._events,)))

    def frozen(self) -> bool | None:
        # Beside a v1 freezer, no runtime uses this one: seeing a group that is about to be
        # frozen a moment sooner is not worth a file.
        if self._alone:
            text = self._freeze.read()
            if text != b"0\n":
                return None if text is None else True
        # A frozen ancestor freezes it as well, which its own file does not show.
        text = self._events.read()
        return None if text is None else b"frozen 1" in text

    def freezing(self) -> bool:
        return self._freeze.read() == b"1\n" and b"frozen 1" not in (self._events.read() or b"")

    def _insist(self, poll: int) -> None:
        """It needs no help."""


class _File:
    """A file of a group, each time read from its beginning."""

    __slots__ = ("_fd", "_held", "_lock", "_path")

    def __init__(self, path: str) -> None:
        self._path = path
        # So that no thread reads what another one has just closed.
        self._lock = threading.Lock()
        self._held = False
        self._fd = -1

    def hold(self) -> None:
        """Stay open from the next read on."""
        with self._lock:
            self._held = True

    def release(self) -> None:
        """Be opened for each read."""
        with self._lock:
            self._held = False
            self._close()

    def read(self) -> bytes | None:
        """Its content; None when there is no such group. Raises ``CgroupFailed``."""
        with self._lock:
            try:
                if self._fd >= 0:
                    try:
                        return os.pread(self._fd, _LIMIT_BYTES, 0)
                    except OSError as error:
                        if error.errno not in GONE:
                            raise
                        # That group is gone, but another may have its place.
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
