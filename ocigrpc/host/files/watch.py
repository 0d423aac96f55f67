"""Files and directories watched for any number of waiters, with one inotify instance.

Waiters cost nothing while nothing happens: no thread of their own, no timer.
"""

from __future__ import annotations

import select
import threading
from collections.abc import Callable
from contextlib import ExitStack

from ocigrpc.closing import Closing
from ocigrpc.host.files.inotify import (
    CREATE,
    DELETE,
    IGNORED,
    MODIFY,
    MOVED_FROM,
    MOVED_TO,
    ONESHOT,
    ONLYDIR,
    OVERFLOW,
    Event,
    Inotify,
)
from ocigrpc.waiting import EventFd, Flag

_DIRECTORY = MOVED_FROM | MOVED_TO | CREATE | DELETE | ONLYDIR
_FILE = MODIFY | ONESHOT


class FileWatch:
    """The inotify instance that all waiters of one service share, and its thread."""

    def __init__(self) -> None:
        """Raises ``HostFailed``."""
        with ExitStack() as undo:
            self._end = undo.enter_context(EventFd())
            self._inotify = Inotify()
            undo.pop_all()
        self.lock = threading.Lock()
        """Held while events are handled."""
        self._waiters: dict[int, set[Waiter]] = {}
        self._thread = threading.Thread(target=self._run, name="file-watch", daemon=True)
        self._thread.start()

    def waiter(self, directory: str, handle: Callable[[Event], bool]) -> Waiter:
        """A waiter for what is renamed, made and removed in a directory; for a ``with``.

        Raises ``HostFailed`` when the directory can't be watched.
        """
        return Waiter(self, directory, handle)

    def close(self) -> None:
        """End the thread; waiters get no events any more."""
        self._end.set()
        self._thread.join()
        self._end.close()
        self._inotify.close()

    def add(self, waiter: Waiter, path: str, mask: int) -> int:
        """Notify the waiter of the events at a path; for :class:`Waiter`."""
        with self.lock:
            watch = self._inotify.add(path, mask)
            self._waiters.setdefault(watch, set()).add(waiter)
        return watch

    def discard(self, waiter: Waiter, *watches: int) -> None:
        """Notify it no more, and end watches that no other waiter has."""
        with self.lock:
            for watch in watches:
                others = self._waiters.get(watch, set())
                others.discard(waiter)
                if not others and self._waiters.pop(watch, None) is not None:
                    self._inotify.remove(watch)

    def position(self) -> int:
        """Where the events so far end, handled or not; see ``Event.position``."""
        return self._inotify.position()

    def dispatch(self) -> None:
        """Notify all waiters of the events up to now."""
        with self.lock:
            while events := self._inotify.read():
                for event in events:
                    self._dispatch(event)

    def _run(self) -> None:
        poller = select.poll()
        for source in (self._inotify, self._end):
            poller.register(source, select.POLLIN)
        while all(fd != self._end.fileno() for fd, _ in poller.poll()):
            self.dispatch()

    def _dispatch(self, event: Event) -> None:
        if event.mask & OVERFLOW:
            for waiter in {each for waiters in self._waiters.values() for each in waiters}:
                waiter.notify(event)
            return
        for waiter in self._waiters.get(event.watch, ()):
            waiter.notify(event)
        if event.mask & IGNORED:
            # The kernel has ended the watch: after its one event, or with its file.
            self._waiters.pop(event.watch, None)


class Waiter(Flag, Closing):
    """A flag that an event sets, until :meth:`take`.

    ``handle`` gets each event of the directory, and the one for lost events, at
    once and in their order, in any thread and under ``lock``; it returns whether to set the flag.
    """

    def __init__(self, watch: FileWatch, directory: str, handle: Callable[[Event], bool]) -> None:
        super().__init__()
        self._file_watch = watch
        self._handle = handle
        self.lock = watch.lock
        self._modified = -1
        self._directory = watch.add(self, directory, _DIRECTORY)

    def expect_change(self, fd: int) -> None:
        """Set the flag when the open file is next written to; earlier writes don't count."""
        if self._modified >= 0:
            self._file_watch.discard(self, self._modified)
        self._modified = self._file_watch.add(self, f"/proc/self/fd/{fd}", _FILE)

    def take(self) -> None:
        """Handle all events from before the call, and clear the flag for later ones."""
        self._file_watch.dispatch()
        self.clear()

    def notify(self, event: Event) -> None:
        """Handle an event; for its :class:`FileWatch`."""
        if not event.mask & (_DIRECTORY | OVERFLOW) or self._handle(event):
            self.set()

    def close(self) -> None:
        """Watch no longer."""
        self._file_watch.discard(self, self._directory, self._modified)
