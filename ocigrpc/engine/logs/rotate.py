"""Keeps the logs of containers small: a few files of a few bytes each.

For logs in the service's own directory, which nobody else rotates. conmon itself begins a new
file when one is full, also while the service is down or busy; the old ones are kept here, see
:mod:`ocigrpc.conmon.log_numbering`. What a container begins and ends with is done by the thread
that knows of it; another one serves all containers, and wakes when a file takes the place of a log.
"""

from __future__ import annotations

import math
import os
import threading
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from weakref import WeakValueDictionary

from ocigrpc.conmon.log_numbering import keep_log, tidy_log
from ocigrpc.engine.containers.container import Container
from ocigrpc.errors import OcigrpcError
from ocigrpc.failing import host_failure
from ocigrpc.host.files.inotify import (
    IGNORED,
    MOVE_SELF,
    MOVED_TO,
    ONLYDIR,
    OVERFLOW,
    Event,
    Inotify,
)
from ocigrpc.log import get_logger
from ocigrpc.waiting import Deadline, Flag

log = get_logger()

_DIRECTORY = MOVED_TO | MOVE_SELF | ONLYDIR
# Between two attempts, and between two log lines about lost files.
_RETRY_S = 10.0


class Rotation:
    """Keeps the last ``files`` files of each watched log, the log itself among them."""

    def __init__(self, files: int) -> None:
        """Raises ``HostFailed``."""
        self._files = files
        self._inotify = Inotify()
        self._wake = Flag()
        self._closing = False
        # Held while the following are changed, or are compared with events.
        self._lock = threading.Lock()
        # A container that is removed is forgotten with it.
        self._logs = WeakValueDictionary[str, Container]()
        self._directories: dict[int, str] = {}
        self._failed: set[Container] = set()
        self._retry_s = math.inf
        self._lost = 0
        self._warned_s = -math.inf
        self._thread = threading.Thread(target=self._run, name="rotation", daemon=True)
        self._thread.start()

    def watch(self, container: Container) -> None:
        """Keep the files of its log, if the service rotates it; to be called again at its end.

        A failure is logged, and what has failed is done later.
        """
        if container.record.log_limit_bytes:
            self._attempt(container)

    def close(self) -> None:
        """End the thread."""
        self._closing = True
        self._wake.set()
        self._thread.join()
        self._inotify.close()

    def _run(self) -> None:
        # Each step is a call, so that no local variable keeps a removed container alive.
        while not self._closing:
            Deadline().wait(self._inotify, self._wake, timeout_s=self._retry_s - time.monotonic())
            self._wake.clear()
            self._handle(self._inotify.read())
            if self._retry_s <= time.monotonic():
                self._retry()

    def _handle(self, events: list[Event]) -> None:
        for container, count in self._renamed(events):
            self._attempt(container, count)
        for event in events:
            if event.mask & (IGNORED | MOVE_SELF):
                self._restore(event.watch)

    def _renamed(self, events: list[Event]) -> Sequence[tuple[Container, int]]:
        """The containers whose logs were replaced, and how often; all when events are lost."""
        with self._lock:
            renamed = Counter(
                f"{self._directories[event.watch]}/{event.name}"
                for event in events
                if event.mask & MOVED_TO and event.watch in self._directories
            )
            is_lost = any(event.mask & OVERFLOW for event in events)
            paths = list(self._logs) if is_lost else list(renamed)
            found = ((self._logs.get(path), renamed[path]) for path in paths)
            return [(container, count) for container, count in found if container is not None]

    def _restore(self, watch: int) -> None:
        """Make a directory that was removed: conmon ends when it can't make a file there."""
        with self._lock:
            directory = self._directories.pop(watch, "")
            logs = list(self._logs.items())
            found = [each for path, each in logs if os.path.dirname(path) == directory]
        for container in found:
            with suppress(OSError):
                os.mkdir(directory, 0o700)
            self._attempt(container)
        self._inotify.remove(watch)

    def _retry(self) -> None:
        with self._lock:
            failed, self._retry_s = list(self._failed), math.inf
        for container in failed:
            self._attempt(container)

    def _attempt(self, container: Container, renamed: int = 0) -> None:
        """Keep the files of a log, until its container has ended; on failure, retry later."""
        # One thread at a time for each log, so that a slow disk delays no other log.
        with container.log_names() as is_ours:
            try:
                self._keep(container, renamed, is_ours)
            except (OcigrpcError, OSError) as error:
                # It may have been cut off between two numbers.
                container.log_is_rotated = True
                self._note_failed(container, error)
            else:
                with self._lock:
                    self._failed.discard(container)

    def _note_failed(self, container: Container, error: OcigrpcError | OSError) -> None:
        """Have it tried again later; only the first of several failures is logged."""
        with self._lock:
            is_known = container in self._failed
            self._failed.add(container)
            self._retry_s = min(self._retry_s, time.monotonic() + _RETRY_S)
        self._wake.set()
        if not is_known:
            failure = host_failure(error)
            log.error(
                "log.rotation_failed",
                container_id=container.container_id,
                reason=failure.reason,
                error=failure.message,
            )

    def _keep(self, container: Container, renamed: int, is_ours: bool) -> None:
        log_path, kept = container.record.log_path, 0
        if is_ours and not _is_over(container):
            self._add(log_path, container)
            kept = keep_log(log_path, self._files)
            if renamed > kept:
                self._note_lost(container, renamed - kept)
        else:
            self._forget(log_path, container)
            if is_ours:
                kept = tidy_log(log_path, self._files)
        if kept:
            container.log_is_rotated = True

    def _add(self, log_path: str, container: Container) -> None:
        # Even if it is watched already: another directory may have its name by now.
        directory = os.path.dirname(log_path)
        with self._lock:
            self._logs[log_path] = container
            self._directories[self._inotify.add(directory, _DIRECTORY)] = directory

    def _forget(self, log_path: str, container: Container) -> None:
        with self._lock:
            # By now it may be that of another container of the same id.
            if self._logs.get(log_path) is container:
                del self._logs[log_path]

    def _note_lost(self, container: Container, count: int) -> None:
        self._lost += count
        if time.monotonic() - self._warned_s >= _RETRY_S:
            log.warning(
                "log.files_lost", container_id=container.container_id, all_containers=self._lost
            )
            self._warned_s, self._lost = time.monotonic(), 0


def _is_over(container: Container) -> bool:
    return container.record.exit_status is not None or container.record.monitor_lost
