"""Output that no client wants any more: read and dropped, by one thread for all programs.

A pipe that is not read would block them, and one that is closed would end them.
"""

from __future__ import annotations

import os
import select
import threading
from collections.abc import Sequence
from contextlib import ExitStack

_CHUNK_BYTES = 1 << 20

# Between two rounds: programs that write without end must not take a whole CPU of ours.
_PAUSE_S = 0.01


class Drain:
    """Takes descriptors, and closes each when nobody writes to it any more."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._epoll: select.epoll | None = None
        # The program that each descriptor is of, by its number.
        self._owners: dict[int, int] = {}
        self._last_owner = 0
        self._pause = threading.Event()

    @property
    def programs(self) -> int:
        """How many programs, or what they have started, still hold their output open."""
        with self._lock:
            return len(set(self._owners.values()))

    def take(self, outputs: Sequence[int]) -> None:
        """Own the descriptors of one program from now on. Raises ``OSError``, with all closed."""
        if not outputs:
            return
        with self._lock, ExitStack() as undo:
            for fd in outputs:
                undo.callback(os.close, fd)
            epoll = self._epoll
            if epoll is None:
                epoll = undo.enter_context(select.epoll())
            for fd in outputs:
                epoll.register(fd, select.EPOLLIN)
            undo.pop_all()
            self._last_owner += 1
            self._owners |= dict.fromkeys(outputs, self._last_owner)
            if self._epoll is None:
                self._epoll = epoll
                run = threading.Thread(target=self._run, args=(epoll,), name="drain", daemon=True)
                run.start()

    def _run(self, epoll: select.epoll) -> None:
        while True:
            for fd, _ in epoll.poll():
                if not self._drop(fd):
                    with self._lock:
                        epoll.unregister(fd)
                        os.close(fd)
                        del self._owners[fd]
            with self._lock:
                if not self._owners:
                    self._epoll = None
                    epoll.close()
                    return
            self._pause.wait(_PAUSE_S)

    @staticmethod
    def _drop(fd: int) -> bool:
        """Read and drop what was written; False when nothing more can be."""
        try:
            return bool(os.read(fd, _CHUNK_BYTES))
        except BlockingIOError:
            return True
        except OSError:
            # EIO: a terminal that no process holds open.
            return False
