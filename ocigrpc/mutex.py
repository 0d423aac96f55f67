"""A lock that takes turns, and that a caller waits for no longer than for anything else."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from ocigrpc.waiting import Deadline, Latch


class Mutex:
    """A lock that is acquired with a deadline, or not at all when the caller goes.

    It is had in the order in which it was asked for: whoever releases it, and wants it again at
    once, waits for all that waited before.
    """

    __slots__ = ("_held", "_lock", "_turns")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held = False
        # Of those that wait, the longest first; each is set when the lock is its own.
        self._turns: tuple[Latch, ...] = ()

    def acquire(self, deadline: Deadline) -> None:
        """Wait for the lock and take it; raises ``Timeout`` or ``Cancelled``."""
        with self._lock:
            if not self._held:
                self._held = True
                return
            turn = Latch()
            self._turns += (turn,)
        try:
            deadline.wait(turn)
        except BaseException:
            self._give_up(turn)
            raise

    def _give_up(self, turn: Latch) -> None:
        with self._lock:
            if not turn.is_set():
                self._turns = tuple(each for each in self._turns if each is not turn)
                return
        # It was handed over at the last moment.
        self.release()

    def release(self) -> None:
        """Hand the lock over to the one that has waited for the longest time, if any."""
        with self._lock:
            if self._turns:
                turn, *others = self._turns
                self._turns = tuple(others)
                turn.set()
            else:
                self._held = False

    @contextmanager
    def held(self, deadline: Deadline) -> Iterator[None]:
        """Hold the lock in a ``with``; raises ``Timeout`` or ``Cancelled`` before the block."""
        self.acquire(deadline)
        try:
            yield
        finally:
            self.release()
