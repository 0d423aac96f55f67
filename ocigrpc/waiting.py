"""How long a call may take, and how it learns that its caller has gone.

A ``Deadline`` goes down the floors with every request. Whoever waits does so in a
``poll`` with :meth:`Deadline.wait`, which also wakes when the caller cancels: of file
descriptors, and of what has none, such as a ``Latch``, for which the wait itself makes an
eventfd, and closes it at its end.
"""

from __future__ import annotations

import math
import os
import select
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from types import TracebackType
from typing import Protocol, Self

from ocigrpc.errors import Cancelled, Timeout

# For poll(2), which takes a C int: as good as for ever, in a loop.
_DAY_MS = 86_400_000
# How often to look at what can't wake us, when no more descriptors can be opened.
_LOOK_MS = 20


class Pollable(Protocol):
    """Anything that can be polled for."""

    def fileno(self) -> int:
        """Its descriptor."""


class EventFd:
    """An eventfd that one thread polls for, and that any thread can ring.

    To be used in a ``with`` by the thread that polls, or closed once that has ended: under a
    poll, which would go on with whatever gets its number next, it must not be.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)

    def set(self) -> None:
        """Wake the one that polls, now or next; nothing once it is closed."""
        with self._lock:
            if self._fd >= 0:
                os.eventfd_write(self._fd, 1)

    def clear(self) -> None:
        """Clear it: what comes from now on rings anew."""
        with suppress(BlockingIOError):
            os.eventfd_read(self._fd)

    def fileno(self) -> int:
        """Descriptor that is readable while it rings."""
        return self._fd

    def close(self) -> None:
        """Close it; whoever rings it may go on. The second time, do nothing."""
        with self._lock:
            if self._fd >= 0:
                os.close(self._fd)
                self._fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class Waitable:
    """Something that is ready or not, and takes no descriptor until somebody waits for it.

    Those that wait bring what wakes them, and take it away again: see :meth:`Deadline.wait`.
    """

    __slots__ = ("__weakref__", "_lock", "_wakers")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._wakers: tuple[Callable[[], None], ...] = ()

    def is_ready(self) -> bool:
        """Whether there is nothing to wait for."""
        raise NotImplementedError

    def add(self, waker: Callable[[], None]) -> None:
        """Call it, from any thread, whenever this may have become ready."""
        with self._lock:
            self._wakers += (waker,)

    def discard(self, waker: Callable[[], None]) -> None:
        """Never call it again, from the moment that this returns."""
        with self._lock:
            self._wakers = tuple(each for each in self._wakers if each != waker)

    def wait(self) -> None:
        """Wait until it is ready, however long that takes, without a descriptor."""
        woken = threading.Event()
        self.add(woken.set)
        try:
            while not self.is_ready():
                woken.wait()
                woken.clear()
        finally:
            self.discard(woken.set)

    def _wake(self) -> None:
        """Wake all that wait; with the lock held."""
        for waker in self._wakers:
            waker()


class Latch(Waitable):
    """A flag that, once set, stays set."""

    __slots__ = ("_set",)

    def __init__(self) -> None:
        super().__init__()
        self._set = False

    def set(self) -> None:
        """Wake everybody that waits, now and later."""
        with self._lock:
            self._set = True
            self._wake()

    def is_set(self) -> bool:
        """Whether :meth:`set` has been called."""
        return self._set

    def is_ready(self) -> bool:
        """Whether it is set."""
        return self._set


class Wakeup(Waitable):
    """A flag that one thread waits for and clears again, and that any thread can set."""

    __slots__ = ("_rings",)

    def __init__(self) -> None:
        super().__init__()
        self._rings = False

    def set(self) -> None:
        """Wake the one that waits, now or next."""
        with self._lock:
            self._rings = True
            self._wake()

    def clear(self) -> None:
        """Clear it: what comes from now on rings anew."""
        self._rings = False

    def is_ready(self) -> bool:
        """Whether it rings."""
        return self._rings


class Deadline:
    """A point in monotonic time, and a flag that the caller may raise before.

    ``timeout_s`` is from now; ``None`` means no limit. The caller's own clock runs for
    ``answer_s`` longer, so that he gets the answer.
    """

    def __init__(self, timeout_s: float | None = None, *, answer_s: float = 0.0) -> None:
        self._expires_s = math.inf if timeout_s is None else time.monotonic() + timeout_s
        self._answer_by_s = self._expires_s + answer_s / 2
        self._gone = Latch()
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
        self._gone.set()

    @property
    def cancelled(self) -> bool:
        """Whether the caller has gone."""
        return any(gone.is_set() for gone in self._signs())

    def _signs(self) -> Iterator[Latch]:
        """What is set when the caller goes, of this deadline and those that it is within."""
        deadline: Deadline | None = self
        while deadline is not None:
            yield deadline._gone
            deadline = deadline._parent

    def remaining_s(self) -> float:
        """Seconds left, never negative; infinite without a limit."""
        return max(0.0, self._expires_s - time.monotonic())

    def check(self) -> None:
        """Raise ``Timeout`` when there is no time left, or ``Cancelled``."""
        if self._expires_s <= time.monotonic():
            raise Timeout("the deadline has passed")
        if self.cancelled:
            raise Cancelled("the caller has gone")

    def wait(
        self, *wanted: int | Pollable | Waitable, timeout_s: float = math.inf
    ) -> Sequence[int | Waitable]:
        """Those that are ready, as soon as one is.

        Of descriptors the numbers of those that are readable, or closed at the other end. Empty
        when ``timeout_s`` passed first. Raises ``Timeout`` at the deadline and ``Cancelled``
        when the caller goes.
        """
        until_s = min(self._expires_s, time.monotonic() + timeout_s)
        poller = select.poll()
        waitables = []
        for each in wanted:
            if isinstance(each, Waitable):
                waitables.append(each)
            else:
                poller.register(each, select.POLLIN)
        if ready := _ready(poller, waitables, 0):
            return ready
        with _alarm((*waitables, *self._signs())) as alarm:
            # Without a descriptor for it, what would ring is looked at now and then.
            longest_ms = _LOOK_MS
            if alarm is not None:
                poller.register(alarm, select.POLLIN)
                longest_ms = _DAY_MS
            while True:
                # Only now that all would ring: nothing is missed.
                at_once = self.cancelled or any(each.is_ready() for each in waitables)
                limit_ms = 0 if at_once else min(_milliseconds(until_s), longest_ms)
                ready = _ready(poller, waitables, limit_ms)
                if alarm is not None and alarm.fileno() in ready:
                    ready.remove(alarm.fileno())
                    alarm.clear()
                if ready:
                    return ready
                self.check()
                if until_s <= time.monotonic():
                    return []


def _milliseconds(until_s: float) -> int:
    """From now until then, as poll(2) takes it."""
    left_ms = max(until_s - time.monotonic(), 0.0) * 1000
    return math.ceil(min(left_ms, _DAY_MS))


def _ready(
    poller: select.poll, waitables: Sequence[Waitable], limit_ms: int
) -> list[int | Waitable]:
    readable = [fd for fd, _ in poller.poll(limit_ms)]
    return [*readable, *(each for each in waitables if each.is_ready())]


@contextmanager
def _alarm(waitables: Sequence[Waitable]) -> Iterator[EventFd | None]:
    """An alarm that all of these ring, in the block and never after it.

    None when this process can open no more: what waits already must not fail for that.
    """
    with ExitStack() as stack:
        alarm = None
        with suppress(OSError):
            alarm = stack.enter_context(EventFd())
        if alarm is not None:
            for each in waitables:
                stack.callback(each.discard, alarm.set)
                each.add(alarm.set)
        yield alarm


@contextmanager
def timed_out(message: str, reason: str, container_id: str) -> Iterator[None]:
    """Say in a ``with`` what was not done in time, where a time-out does not say so itself."""
    try:
        yield
    except Timeout as error:
        if error.reason != Timeout.reason:
            raise
        raise Timeout(message, reason=reason, container_id=container_id) from error


class Mutex(Waitable):
    """A lock that is waited for with a deadline, and left when the caller goes."""

    __slots__ = ("_taken",)

    def __init__(self) -> None:
        super().__init__()
        self._taken = False

    def acquire(self, deadline: Deadline) -> None:
        """Have the turn from now on; raises ``Timeout`` or ``Cancelled`` before that."""
        while not self._try_acquire():
            deadline.wait(self)

    def release(self) -> None:
        """Let the next one have it."""
        with self._lock:
            self._taken = False
            self._wake()

    def is_ready(self) -> bool:
        """Whether nobody has the turn."""
        return not self._taken

    def _try_acquire(self) -> bool:
        with self._lock:
            taken, self._taken = self._taken, True
            return not taken
