"""How long a call may take, and how it learns that its caller has gone.

A ``Deadline`` goes down the floors with every request. Whoever waits does so in a
``poll`` of its own file descriptors with :meth:`Deadline.wait`, which also wakes when
the caller cancels.
"""

from __future__ import annotations

import math
import os
import select
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Protocol

from ocigrpc.errors import Cancelled, Timeout


class Pollable(Protocol):
    """Anything that can be polled for."""

    def fileno(self) -> int:
        """Its descriptor."""


class Latch:
    """A flag that, once set, stays set, and that any number of threads can poll for.

    An eventfd that is written once and never read: readable for ever after.
    """

    def __init__(self) -> None:
        self._fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)

    def set(self) -> None:
        """Wake everybody who polls, now and later."""
        os.eventfd_write(self._fd, 1)

    def is_set(self) -> bool:
        """Whether :meth:`set` has been called."""
        poller = select.poll()
        poller.register(self._fd, select.POLLIN)
        return bool(poller.poll(0))

    def fileno(self) -> int:
        """Descriptor that is readable from the moment :meth:`set` is called."""
        return self._fd

    def __del__(self) -> None:
        # Only when nobody can poll any more: closing a descriptor under a poll
        # would leave it waiting for whoever gets the number next.
        os.close(self._fd)


class Bell:
    """A flag that one thread polls for and clears again, and that any thread can set."""

    def __init__(self) -> None:
        self._fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)

    def ring(self) -> None:
        """Wake who polls, now or next."""
        os.eventfd_write(self._fd, 1)

    def silence(self) -> None:
        """Clear it: what comes from now on rings anew."""
        with suppress(BlockingIOError):
            os.eventfd_read(self._fd)

    def fileno(self) -> int:
        """Descriptor that is readable while it rings."""
        return self._fd

    def __del__(self) -> None:
        os.close(self._fd)


class Deadline:
    """A point in monotonic time, and a flag that the caller may raise before.

    ``timeout_s`` is from now; ``None`` means no limit. The caller's own clock runs for
    ``answer_s`` longer, so that he gets the answer.
    """

    def __init__(self, timeout_s: float | None = None, *, answer_s: float = 0.0) -> None:
        self._expires_s = math.inf if timeout_s is None else time.monotonic() + timeout_s
        self._answer_by_s = self._expires_s + answer_s / 2
        self._lock = threading.Lock()
        self._cancelled = False
        self._wake: Latch | None = None
        self._parent: Deadline | None = None

    def within(self, timeout_s: float) -> Deadline:
        """The sooner of this deadline and ``timeout_s`` from now, cancelled with this one."""
        child = Deadline(timeout_s)
        child._expires_s = min(child._expires_s, self._expires_s)
        child._parent = self
        child._answer_by_s = self._answer_by_s
        return child

    def for_answer(self) -> Deadline:
        """When the answer has to leave, be it only the error that this deadline has passed.

        That is when half of ``answer_s`` is used up. Cancelled with this one.
        """
        later = Deadline()
        later._expires_s = self._answer_by_s
        later._parent = self
        return later

    def cancel(self) -> None:
        """Say that the caller has gone. Safe from any thread, and more than once."""
        with self._lock:
            self._cancelled = True
            if self._wake is not None:
                self._wake.set()

    @property
    def cancelled(self) -> bool:
        """Whether the caller has gone."""
        return self._cancelled or (self._parent is not None and self._parent.cancelled)

    def remaining_s(self) -> float:
        """Seconds left, never negative; infinite without a limit."""
        return max(0.0, self._expires_s - time.monotonic())

    def check(self) -> None:
        """Raise ``Timeout`` when there is no time left, or ``Cancelled``."""
        if self._expires_s <= time.monotonic():
            raise Timeout("the deadline has passed")
        if self.cancelled:
            raise Cancelled("the caller has gone")

    def wait(self, *descriptors: int | Pollable, timeout_s: float = math.inf) -> Sequence[int]:
        """The descriptors that are readable or closed at the other end, as soon as one is.

        Empty when ``timeout_s`` passed first. Raises ``Timeout`` at the deadline and
        ``Cancelled`` when the caller goes.
        """
        wake = self._waker()
        poller = select.poll()
        for descriptor in (wake, *descriptors):
            poller.register(descriptor, select.POLLIN)
        until_s = min(self._expires_s, time.monotonic() + timeout_s)
        while True:
            left_s = until_s - time.monotonic()
            # poll() takes a C int of milliseconds; a day is as good as for ever, in a loop.
            limit_ms = math.ceil(min(max(left_s, 0.0), 86400.0) * 1000)
            ready = [fd for fd, _ in poller.poll(limit_ms)]
            if ready and ready != [wake.fileno()]:
                return [fd for fd in ready if fd != wake.fileno()]
            self.check()
            if until_s <= time.monotonic():
                return []

    def _waker(self) -> Latch:
        if self._parent is not None:
            return self._parent._waker()
        with self._lock:
            if self._wake is None:
                self._wake = Latch()
                if self._cancelled:
                    self._wake.set()
            return self._wake


class Turn:
    """A lock that is waited for with a deadline, and left when the caller goes."""

    def __init__(self) -> None:
        # A semaphore of one: readable while nobody has the turn.
        self._fd = os.eventfd(1, os.EFD_CLOEXEC | os.EFD_NONBLOCK | os.EFD_SEMAPHORE)

    def take(self, deadline: Deadline) -> None:
        """Have the turn from now on; raises ``Timeout`` or ``Cancelled`` before that."""
        while not self._take():
            deadline.wait(self._fd)

    def give(self) -> None:
        """Let the next one have it."""
        os.eventfd_write(self._fd, 1)

    def _take(self) -> bool:
        try:
            os.eventfd_read(self._fd)
        except BlockingIOError:
            return False
        return True

    def __del__(self) -> None:
        os.close(self._fd)
