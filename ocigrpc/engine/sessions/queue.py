"""A bounded queue between two threads, either end of which can be waited for."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from typing import Generic, TypeVar

from ocigrpc.waiting import Flag

T = TypeVar("T")


class PollableQueue(Generic[T]):
    """Things in order, from a thread that puts to a thread that takes.

    It has room while what it holds weighs less than ``limit_bytes``. ``filled`` is set when
    there is something to take, or never will be any more; ``room`` when there is room, or
    nobody takes any more.
    """

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._lock = threading.Lock()
        self._things: deque[tuple[T, int]] = deque()
        self._weight_bytes = 0
        self._error: BaseException | None = None
        self._finished = False
        self._closed = False
        self.filled = Flag()
        self.room = Flag()
        self.room.put(True)

    def put(self, thing: T, weight_bytes: int = 0) -> bool:
        """Put a thing in; false when nobody takes any more. Never waits: see ``room``."""
        with self._lock:
            if self._closed:
                return False
            self._things.append((thing, weight_bytes))
            self._weight_bytes += weight_bytes
            self._tell()
            return True

    def finish(self, error: BaseException | None = None) -> None:
        """Nothing more comes; who takes gets ``error`` after the last thing."""
        with self._lock:
            if not self._finished:
                self._finished = True
                self._error = None if self._closed else error
            self._tell()

    def close(self) -> None:
        """Nothing more is taken."""
        with self._lock:
            self._closed = True
            # Its traceback would keep all that the call which failed had.
            self._error = None
            self._things.clear()
            self._weight_bytes = 0
            self._tell()

    @property
    def weight_bytes(self) -> int:
        """How much what it holds weighs."""
        return self._weight_bytes

    def has_room(self) -> bool:
        """Whether it is worth putting something in."""
        return self._weight_bytes < self._limit_bytes

    def take(self) -> T | None:
        """The next thing; None if there is none now. Raises the error that is the end."""
        with self._lock:
            if self._things:
                thing, weight_bytes = self._things.popleft()
                self._weight_bytes -= weight_bytes
                self._tell()
                return thing
            if self._error is not None:
                raise self._error
            return None

    def accepts(self) -> bool:
        """Whether it has not been finished."""
        return not self._finished

    def is_empty(self) -> bool:
        """Whether there is nothing to take now."""
        return not self._things

    def ended(self) -> bool:
        """Whether there is nothing, and never will be any more."""
        with self._lock:
            return self._finished and not self._things

    def each(self) -> Iterator[T]:
        """Everything, as it comes; raises the error that is the end."""
        while True:
            self.filled.wait()
            thing = self.take()
            if thing is not None:
                yield thing
            elif self.ended():
                return

    def _tell(self) -> None:
        self.filled.put(bool(self._things) or self._finished)
        self.room.put(self._closed or self._weight_bytes < self._limit_bytes)
