"""Ends of processes and creations of files, found without polling, in one thread."""

from __future__ import annotations

import math
import select
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Generic, TypeVar

from ocigrpc.host.files.inotify import CREATE, IGNORED, Inotify
from ocigrpc.host.processes.process import Process
from ocigrpc.waiting import EventFd

T = TypeVar("T")

_AGAIN_S = 0.2


class Watcher(Generic[T]):
    """Events of processes and files, to be iterated over by one thread.

    An event is the item that its process or file is watched ``for_``. The iteration ends with
    :meth:`stop`; it keeps no reference to an item that it has yielded.
    """

    def __init__(self) -> None:
        """Raises ``HostFailed``."""
        with ExitStack() as undo:
            self._epoll = undo.enter_context(select.epoll())
            self._wake = undo.enter_context(EventFd())
            self._epoll.register(self._wake, select.EPOLLIN)
            self._inotify = Inotify()
            undo.callback(self._inotify.close)
            self._epoll.register(self._inotify, select.EPOLLIN)
            self._held = undo.pop_all()
        self._lock = threading.Lock()
        self._files: dict[int, tuple[str, T]] = {}
        self._processes: dict[int, tuple[Process, T]] = {}
        self._again: list[T] = []
        self._again_at_s = math.inf
        self._stopped = False

    def watch(self, process: Process, for_: T) -> None:
        """Yield an item when a process ends; soon, if it has ended already.

        From now on the watcher closes the process: then, or in :meth:`close`.
        """
        with self._lock:
            self._epoll.register(process.pidfd, select.EPOLLIN | select.EPOLLONESHOT)
            self._processes[process.pidfd] = (process, for_)

    def watch_file(self, path: Path, for_: T) -> None:
        """Yield an item when a file, the only one watched in its directory, is created.

        Raises ``HostFailed`` when the directory can't be watched.
        """
        with self._lock:
            self._files[self._inotify.add(str(path.parent), CREATE)] = (path.name, for_)

    def put_back(self, item: T) -> None:
        """Yield this again, in a moment: with all others that are put back by then."""
        with self._lock:
            if not self._again:
                self._again_at_s = time.monotonic() + _AGAIN_S
            self._again.append(item)
        self._wake.set()

    def stop(self) -> None:
        """End the iteration; what is still watched yields nothing any more."""
        self._stopped = True
        self._wake.set()

    def close(self) -> None:
        """Close all that is held, and what is still watched, after the iteration has ended."""
        self._held.close()
        for process, _ in self._processes.values():
            process.close()
        self._processes.clear()

    def __iter__(self) -> Iterator[T]:
        # Items are yielded from calls, so that no local variable keeps one.
        while True:
            for fd, _ in self._epoll.poll(self._timeout_s()):
                if fd == self._wake.fileno():
                    self._wake.clear()
                elif fd == self._inotify.fileno():
                    yield from self._made()
                else:
                    yield self._ended(fd)
                if self._stopped:
                    return
            yield from self._put_back_before()

    def _timeout_s(self) -> float | None:
        with self._lock:
            if self._again_at_s == math.inf:
                return None
            return max(0.0, self._again_at_s - time.monotonic())

    def _ended(self, fd: int) -> T:
        with self._lock:
            process, item = self._processes.pop(fd)
            self._epoll.unregister(fd)
        process.close()
        return item

    def _made(self) -> Iterator[T]:
        for event in self._inotify.read():
            with self._lock:
                name, *items = self._files.get(event.watch, ("",))
                if event.mask & IGNORED:
                    self._files.pop(event.watch, None)
            if event.name == name:
                yield from items

    def _put_back_before(self) -> Iterator[T]:
        with self._lock:
            if self._again_at_s > time.monotonic():
                return
            items, self._again, self._again_at_s = self._again, [], math.inf
        yield from items
