"""A bounded queue between two threads, either end of which can be waited for."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from typing import Generic, TypeVar

from ocigrpc.waiting import Deadline, Flag

T = TypeVar("T")


class PollableQueue(Generic[T]):
    """Items in order, from a thread that puts to a thread that takes.

    It has room while its items weigh less than ``limit_bytes`` together. ``filled`` is set
    while there is an item to take, and from the end on; ``room`` while there is room, and once
    it is closed.
    """

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._lock = threading.Lock()
        self._items: deque[tuple[T, int]] = deque()
        self._weight_bytes = 0
        self._error: BaseException | None = None
        self._finished = False
        self._closed = False
        self.filled = Flag()
        self.room = Flag()
        self.room.put(True)

    def put(self, item: T, weight_bytes: int = 0) -> bool:
        """Put an item in; False once it is closed. Never waits: see ``room``."""
        with self._lock:
            if self._closed:
                return False
            self._items.append((item, weight_bytes))
            self._weight_bytes += weight_bytes
            self._set_flags()
            return True

    def finish(self, error: BaseException | None = None) -> None:
        """Put nothing more in; :meth:`take` raises ``error`` after the last item."""
        with self._lock:
            if not self._finished:
                self._finished = True
                self._error = None if self._closed else error
            self._set_flags()

    def close(self) -> None:
        """Take nothing more, and drop all items."""
        with self._lock:
            self._closed = True
            # Its traceback would keep alive all objects of the call that failed.
            self._error = None
            self._items.clear()
            self._weight_bytes = 0
            self._set_flags()

    @property
    def weight_bytes(self) -> int:
        """How much its items weigh together."""
        return self._weight_bytes

    def take(self) -> T | None:
        """The next item; None if there is none now. Raises the error of :meth:`finish`."""
        with self._lock:
            if self._items:
                item, weight_bytes = self._items.popleft()
                self._weight_bytes -= weight_bytes
                self._set_flags()
                return item
            if self._error is not None:
                raise self._error
            return None

    def accepts(self) -> bool:
        """Whether it has not been finished."""
        return not self._finished

    def is_empty(self) -> bool:
        """Whether there is no item to take now."""
        return not self._items

    def ended(self) -> bool:
        """Whether there is no item, and will be none any more."""
        with self._lock:
            return self._finished and not self._items

    def each(self, deadline: Deadline | None = None) -> Iterator[T]:
        """All items as they come, until the deadline; raises the error of :meth:`finish`."""
        deadline = deadline or Deadline()
        while True:
            deadline.wait(self.filled)
            item = self.take()
            if item is not None:
                yield item
            elif self.ended():
                deadline.check()
                return

    def _set_flags(self) -> None:
        self.filled.put(bool(self._items) or self._finished)
        self.room.put(self._closed or self._weight_bytes < self._limit_bytes)
