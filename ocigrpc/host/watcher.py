"""One thread that waits for processes to end and files to be made, without polling."""

from __future__ import annotations

import select
import threading
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from ocigrpc.host.files.inotify import CREATE, IGNORED, Inotify
from ocigrpc.host.processes.process import Process
from ocigrpc.log import get_logger
from ocigrpc.waiting import EventFd

log = get_logger()


class Watcher:
    """Calls back in its own thread, once: when a process ends, or when a file is made.

    Callbacks must be short: while one runs, nothing else is seen.
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
        self._files: dict[int, tuple[str, Callable[[], None]]] = {}
        self._watched: dict[int, tuple[Process, Callable[[], None]]] = {}
        self._thread = threading.Thread(target=self._run, name="watcher", daemon=True)
        self._thread.start()

    def watch(self, process: Process, ended: Callable[[], None]) -> None:
        """Call ``ended`` when the process has ended; soon, if it has already.

        From now on it is the watcher that closes the process: then, or at its own end.
        """
        with self._lock:
            self._epoll.register(process.pidfd, select.EPOLLIN | select.EPOLLONESHOT)
            self._watched[process.pidfd] = (process, ended)

    def watch_file(self, path: Path, made: Callable[[], None]) -> None:
        """Call ``made`` when the file, the only one watched in its directory, is made.

        Raises ``HostFailed`` when the directory can't be watched.
        """
        with self._lock:
            self._files[self._inotify.add(str(path.parent), CREATE)] = (path.name, made)

    def close(self) -> None:
        """End the thread; what is still watched is closed and forgotten."""
        self._wake.set()
        self._thread.join()
        self._held.close()
        for process, _ in self._watched.values():
            process.close()
        self._watched.clear()

    def _run(self) -> None:
        while True:
            for fd, _ in self._epoll.poll():
                if fd == self._wake.fileno():
                    return
                # Calls, so that no local variable keeps what is watched no more.
                if fd == self._inotify.fileno():
                    self._hear()
                else:
                    self._see_end(fd)

    def _see_end(self, fd: int) -> None:
        with self._lock:
            process, ended = self._watched.pop(fd)
            self._epoll.unregister(fd)
        process.close()
        _call(ended, pid=process.pid)

    def _hear(self) -> None:
        for event in self._inotify.read():
            with self._lock:
                name, made = self._files.get(event.watch, ("", None))
                if event.mask & IGNORED:
                    self._files.pop(event.watch, None)
            if made is not None and event.name == name:
                _call(made, name=name)


def _call(callback: Callable[[], None], **fields: object) -> None:
    try:
        callback()
    except Exception:
        # The thread must outlive any one container's trouble.
        log.exception("watcher.callback_failed", **fields)
