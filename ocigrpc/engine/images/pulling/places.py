"""Places that are taken with a deadline, as many as the settings allow at that moment."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ocigrpc.waiting import Deadline, Waitable


class Places(Waitable):
    """A number of places that may change; whoever finds none free waits for one."""

    def __init__(self, limit: Callable[[], int]) -> None:
        super().__init__()
        self._limit = limit
        self._taken = 0

    @contextmanager
    def taken(self, deadline: Deadline) -> Iterator[None]:
        """Have a place in a ``with``; raises ``Timeout`` or ``Cancelled`` before the block."""
        while not self._take():
            deadline.wait(self)
        try:
            yield
        finally:
            with self._lock:
                self._taken -= 1
                self._wake()

    def look_again(self) -> None:
        """Wake who waits, since there may be more places."""
        with self._lock:
            self._wake()

    def is_ready(self) -> bool:
        """Whether one is free."""
        return self._taken < self._limit()

    def _take(self) -> bool:
        with self._lock:
            is_free = self.is_ready()
            self._taken += is_free
            return is_free
