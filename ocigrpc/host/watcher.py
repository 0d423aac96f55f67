"""Ends of processes and creations of files, found without polling, in one thread."""

from __future__ import annotations

import math
import os
import select
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Generic, TypeVar

from ocigrpc.host.files.inotify import CREATE, IGNORED, Inotify
from ocigrpc.host.processes.process import Process
from ocigrpc.waiting import EventFd

T = TypeVar("T")

_DELAY_S = 0.2


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
        # Of a directory, by the pidfd of the process with which it ends.
        self._watches: dict[int, int] = {}
        self._delayed: list[T] = []
        self._due_s = math.inf
        self._stopped = False

    def watch(self, process: Process, for_: T) -> None:
        """Yield an item when a process ends; soon, if it has ended already.

        From now on the watcher closes the process: then, or in :meth:`close`.
        """
        with self._lock:
            self._epoll.register(process.pidfd, select.EPOLLIN | select.EPOLLONESHOT)
            self._processes[process.pidfd] = (process, for_)

    def watch_file(self, path: str, process: Process, for_: T) -> None:
        """Yield an item when a file, the only one watched in its directory, is created.

        That is until the end of a ``process``, which is to be watched next. Raises
        ``HostFailed`` when the directory can't be watched.
        """
        with self._lock:
            directory, name = os.path.split(path)
            watch = self._inotify.add(directory, CREATE)
            self._files[watch] = (name, for_)
            self._watches[process.pidfd] = watch

    def delay(self, item: T) -> None:
        """Yield an item in a moment, with all others that are delayed by then."""
        with self._lock:
            first = not self._delayed
            if first:
                self._due_s = time.monotonic() + _DELAY_S
            self._delayed.append(item)
        if first:
            self._wake.set()

    def stop(self) -> None:
        """End the iteration, once what is delayed is yielded; what is watched yields nothing."""
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
        while not self._stopped:
            for fd, _ in self._epoll.poll(self._timeout_s()):
                if fd == self._wake.fileno():
                    self._wake.clear()
                elif fd != self._inotify.fileno():
                    yield self._ended(fd)
                if self._stopped:
                    break
            # In any case: the end of a watch is an event as well.
            yield from self._made()
            yield from self._due()
        self._due_s = -math.inf
        yield from self._due()

    def _timeout_s(self) -> float | None:
        with self._lock:
            if self._due_s == math.inf:
                return None
            return max(0.0, self._due_s - time.monotonic())

    def _ended(self, fd: int) -> T:
        with self._lock:
            process, item = self._processes.pop(fd)
            self._epoll.unregister(fd)
            watch = self._watches.pop(fd, None)
            if watch is not None:
                # From now on others make files there.
                self._inotify.remove(watch)
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

    def _due(self) -> Iterator[T]:
        with self._lock:
            if self._due_s > time.monotonic():
                return
            items, self._delayed, self._due_s = self._delayed, [], math.inf
        yield from items
