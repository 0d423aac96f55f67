"""One thread that waits for the ends of any number of processes, without polling."""

from __future__ import annotations

import os
import select
import threading
from collections.abc import Callable

from ocigrpc.host.process import Process
from ocigrpc.log import get_logger

log = get_logger()


class Watcher:
    """Calls back, once and in its own thread, when a watched process ends.

    Callbacks must be short: while one runs, no other end is seen.
    """

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._wake = os.eventfd(0, os.EFD_CLOEXEC)
        self._epoll.register(self._wake, select.EPOLLIN)
        self._lock = threading.Lock()
        # Holding the process keeps its pidfd open for as long as it is watched.
        self._watched: dict[int, tuple[Process, Callable[[], None]]] = {}
        self._thread = threading.Thread(target=self._run, name="watcher", daemon=True)
        self._thread.start()

    def watch(self, process: Process, ended: Callable[[], None]) -> None:
        """Call ``ended`` when the process has ended; soon, if it has already."""
        with self._lock:
            self._watched[process.fileno()] = (process, ended)
            self._epoll.register(process, select.EPOLLIN | select.EPOLLONESHOT)

    def close(self) -> None:
        """End the thread; what is still watched is forgotten."""
        os.eventfd_write(self._wake, 1)
        self._thread.join()
        self._epoll.close()
        os.close(self._wake)

    def _run(self) -> None:
        while True:
            for fd, _ in self._epoll.poll():
                if fd == self._wake:
                    return
                # A call, so that no local variable keeps what is watched no more.
                self._call_back(fd)

    def _call_back(self, fd: int) -> None:
        with self._lock:
            process, ended = self._watched.pop(fd)
            self._epoll.unregister(fd)
        try:
            ended()
        except Exception:
            # The thread must outlive any one container's trouble.
            log.exception("watcher.callback_failed", pid=process.pid)
