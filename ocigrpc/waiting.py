"""How long a call may take, and what it can wait for.

A ``Deadline`` goes down the floors with every request. Every wait is a :meth:`Deadline.wait`,
which ends as well when the caller cancels. It takes file descriptors, and things that have none,
such as a ``Latch``; for both together it opens one eventfd while it waits.
"""

from __future__ import annotations

import math
import os
import select
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import Protocol

from ocigrpc.closing import Closing
from ocigrpc.errors import Cancelled, Timeout

# poll(2) takes a C int, so a wait without a limit polls again every day.
_DAY_MS = 86_400_000
# How often flags are checked when no descriptor can be opened that they could wake us by.
_CHECK_MS = 20


class Pollable(Protocol):
    """Anything with a descriptor to poll."""

    def fileno(self) -> int:
        """Its descriptor."""


class EventFd(Closing):
    """An eventfd that one thread polls and any thread can set; see eventfd(2).

    The polling thread closes it, or somebody else after that thread has ended. It must not be
    closed during a poll, which would go on with whatever gets its number next.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)

    def set(self) -> None:
        """End the current poll, or the next one; does nothing once it is closed."""
        with self._lock:
            if self._fd >= 0:
                os.eventfd_write(self._fd, 1)

    def clear(self) -> None:
        """Undo :meth:`set`, so that polls wait again."""
        with suppress(BlockingIOError):
            os.eventfd_read(self._fd)

    def fileno(self) -> int:
        """A descriptor that is readable while it is set."""
        return self._fd

    def close(self) -> None:
        """Close it; other threads may still call :meth:`set`. May be called twice."""
        with self._lock:
            if self._fd >= 0:
                os.close(self._fd)
                self._fd = -1


class _Bell:
    """What ends the waits of one thread without a descriptor; any thread may ring it."""

    __slots__ = ("_silence",)

    def __init__(self) -> None:
        # A lock costs a tenth of an eventfd and a poll.
        self._silence = threading.Lock()
        self._silence.acquire()

    def ring(self) -> None:
        """End the current wait, or the next one."""
        # It has been rung already, and the wait has not ended yet.
        with suppress(RuntimeError):
            self._silence.release()

    def wait(self, limit_s: float) -> Sequence[int]:
        """Wait until it is rung, or ``limit_s`` have passed; no descriptors."""
        self._silence.acquire(timeout=min(limit_s, threading.TIMEOUT_MAX))
        return ()


class Waitable(ABC):
    """Something that is ready or not, and needs no descriptor.

    A waiting thread adds a function that wakes it, and discards it after the wait; see
    :meth:`Deadline.wait`.
    """

    __slots__ = ("__weakref__", "_lock", "_wakers")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._wakers: tuple[Callable[[], None], ...] = ()

    @abstractmethod
    def is_ready(self) -> bool:
        """Whether there is nothing to wait for."""

    def add(self, waker: Callable[[], None]) -> None:
        """Have it called, from any thread, whenever this may have become ready."""
        with self._lock:
            self._wakers += (waker,)

    def discard(self, waker: Callable[[], None]) -> None:
        """Have it called no more, from the moment that this returns."""
        with self._lock:
            self._wakers = tuple(each for each in self._wakers if each != waker)

    def _wake(self) -> None:
        """Wake all waiting threads; the caller holds the lock."""
        for waker in self._wakers:
            waker()


class Latch(Waitable):
    """A flag that, once set, stays set."""

    __slots__ = ("_set",)

    def __init__(self) -> None:
        super().__init__()
        self._set = False

    def set(self) -> None:
        """Wake all waiting threads, and all that wait later."""
        with self._lock:
            self._set = True
            self._wake()

    def is_set(self) -> bool:
        """Whether it is set."""
        return self._set

    is_ready = is_set


class Flag(Latch):
    """A flag that can be cleared again, by one thread at a time."""

    __slots__ = ()

    def clear(self) -> None:
        """Undo :meth:`set`, so that threads wait again."""
        self._set = False

    def put(self, wanted: bool) -> None:
        """Set or clear it, if it is not so yet."""
        if wanted != self._set:
            (self.set if wanted else self.clear)()


class Deadline:
    """A point in monotonic time, and a latch that is set when the caller cancels before it.

    ``timeout_s`` is from now; ``None`` means no limit. The caller waits for ``answer_s``
    longer, in which the answer reaches it. Deadlines that are made of others have the same
    caller, and are cancelled together.
    """

    def __init__(self, timeout_s: float | None = None, *, answer_s: float = 0.0) -> None:
        self._expires_s = math.inf if timeout_s is None else time.monotonic() + timeout_s
        self._answer_by_s = self._expires_s + answer_s / 2
        self._gone = Latch()

    def within(self, timeout_s: float) -> Deadline:
        """The earlier of this deadline and ``timeout_s`` from now."""
        return self._until(min(time.monotonic() + timeout_s, self._expires_s))

    def for_answer(self) -> Deadline:
        """When the answer has to be sent, even if it is the error that this deadline has passed.

        That is when half of ``answer_s`` is used up.
        """
        return self._until(self._answer_by_s)

    def _until(self, expires_s: float) -> Deadline:
        """One of the same caller."""
        other = object.__new__(Deadline)
        other._expires_s = expires_s
        other._answer_by_s = self._answer_by_s
        other._gone = self._gone
        return other

    def cancel(self) -> None:
        """The caller has gone. May be called from any thread, and more than once."""
        self._gone.set()

    @property
    def cancelled(self) -> bool:
        """Whether the caller has gone."""
        return self._gone.is_set()

    def remaining_s(self) -> float:
        """Seconds until then, never negative; infinite without a limit."""
        return max(0.0, self._expires_s - time.monotonic())

    def check(self) -> None:
        """Raise ``Timeout`` when it has passed, or ``Cancelled``."""
        if self._expires_s <= time.monotonic():
            raise Timeout("the deadline has passed")
        if self.cancelled:
            raise Cancelled("the caller has gone")

    def wait(
        self, *wanted: int | Pollable | Waitable, timeout_s: float = math.inf
    ) -> Sequence[int | Waitable]:
        """Those of ``wanted`` that are ready, as soon as one is.

        A descriptor is ready when it is readable or closed at its other end, and is returned
        as its number; they are looked at in the order that they are given in. Empty if
        ``timeout_s`` passes first. Raises ``Timeout`` at the deadline and ``Cancelled`` when the
        caller goes.
        """
        until_s = min(self._expires_s, time.monotonic() + timeout_s)
        waitables = [each for each in wanted if isinstance(each, Waitable)]
        wakers = (*waitables, self._gone)
        if len(waitables) == len(wanted):
            bell = _Bell()
            with _woken(wakers, bell.ring):
                return self._wait_until(until_s, waitables, bell.wait)
        poller = select.poll()
        for each in wanted:
            if not isinstance(each, Waitable):
                poller.register(each, select.POLLIN)
        try:
            alarm = EventFd()
        except OSError:
            # No descriptor can be opened: a wait must not fail because of that.
            return self._wait_until(until_s, waitables, partial(_polled, poller, None))
        with alarm, _woken(wakers, alarm.set):
            poller.register(alarm, select.POLLIN)
            return self._wait_until(until_s, waitables, partial(_polled, poller, alarm))

    def _wait_until(
        self, until_s: float, waitables: Sequence[Waitable], sleep: Callable[[float], Sequence[int]]
    ) -> Sequence[int | Waitable]:
        """Wait by ``sleep``, which takes the longest time in seconds, and returns descriptors."""
        while True:
            # Only after all can end the sleep, so that none is missed.
            is_ready = self.cancelled or any(each.is_ready() for each in waitables)
            limit_s = 0.0 if is_ready else max(until_s - time.monotonic(), 0.0)
            ready: list[int | Waitable] = [*sleep(limit_s)]
            ready += (each for each in waitables if each.is_ready())
            if ready:
                return ready
            self.check()
            if until_s <= time.monotonic():
                return []


@contextmanager
def _woken(waitables: Sequence[Waitable], waker: Callable[[], None]) -> Iterator[None]:
    """Have each of these call ``waker`` in a ``with``, and never after that."""
    for each in waitables:
        each.add(waker)
    try:
        yield
    finally:
        for each in waitables:
            each.discard(waker)


def _polled(poller: select.poll, alarm: EventFd | None, limit_s: float) -> Sequence[int]:
    """The descriptors that are ready in ``limit_s`` or, without an alarm, soon."""
    longest_ms = _CHECK_MS if alarm is None else _DAY_MS
    ready = [fd for fd, _ in poller.poll(min(limit_s * 1000, longest_ms))]
    if alarm is not None and alarm.fileno() in ready:
        ready.remove(alarm.fileno())
        alarm.clear()
    return ready
