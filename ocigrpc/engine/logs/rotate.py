"""Keeps the logs of containers small: a few files of a few bytes each.

For logs in the service's own directory, which nobody else rotates. conmon itself begins a new
file when one is full, also while the service is down or busy; the old ones are kept here, see
:mod:`ocigrpc.conmon.log_numbering`. One thread serves all containers, and wakes when a file
takes the place of a log.
"""

from __future__ import annotations

import math
import os
import queue
import threading
import time
from collections import Counter
from contextlib import suppress

from ocigrpc.conmon.log_names import remove_rotated
from ocigrpc.conmon.log_numbering import keep_log, tidy_log
from ocigrpc.engine.containers.container import Container
from ocigrpc.errors import OcigrpcError, host_failure
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
        self._new: queue.SimpleQueue[Container | None] = queue.SimpleQueue()
        self._wake = Flag()
        self._logs: dict[str, Container] = {}
        self._directories: dict[int, str] = {}
        self._failed: set[str] = set()
        self._retry_s = math.inf
        self._lost = 0
        self._warned_s = -math.inf
        self._thread = threading.Thread(target=self._run, name="rotation", daemon=True)
        self._thread.start()

    def watch(self, container: Container) -> None:
        """Keep the files of its log, if the service rotates it; to be called again at its end."""
        if container.record.log_limit_bytes:
            self._enqueue(container)

    def close(self) -> None:
        """End the thread."""
        self._enqueue(None)
        self._thread.join()
        self._inotify.close()

    def _enqueue(self, container: Container | None) -> None:
        self._new.put(container)
        self._wake.set()

    def _run(self) -> None:
        # Each step is a call, so that no local variable keeps a removed container alive.
        while True:
            Deadline().wait(self._inotify, self._wake, timeout_s=self._retry_s - time.monotonic())
            self._wake.clear()
            if not self._take_new():
                return
            self._handle(self._inotify.read())
            if self._retry_s <= time.monotonic():
                self._retry()

    def _take_new(self) -> bool:
        """Start with the containers that are new; False when it is time to end."""
        while not self._new.empty():
            container = self._new.get()
            if container is None:
                return False
            self._logs[container.record.log_path] = container
            self._attempt(container.record.log_path)
        return True

    def _handle(self, events: list[Event]) -> None:
        if any(event.mask & OVERFLOW for event in events):
            for log_path in list(self._logs):
                self._attempt(log_path)
        renamed = Counter(
            f"{self._directories[event.watch]}/{event.name}"
            for event in events
            if event.mask & MOVED_TO and event.watch in self._directories
        )
        for log_path, count in renamed.items():
            if log_path in self._logs:
                self._attempt(log_path, count)
        for event in events:
            if event.mask & (IGNORED | MOVE_SELF):
                self._restore(self._directories.pop(event.watch, ""))
                self._inotify.remove(event.watch)

    def _restore(self, directory: str) -> None:
        """Make a directory that was removed: conmon ends when it can't make a file there."""
        for log_path in [each for each in self._logs if os.path.dirname(each) == directory]:
            with suppress(OSError):
                os.mkdir(directory, 0o700)
            self._attempt(log_path)

    def _retry(self) -> None:
        failed, self._failed, self._retry_s = self._failed, set(), math.inf
        for log_path in failed & self._logs.keys():
            self._attempt(log_path)

    def _attempt(self, log_path: str, renamed: int = 0) -> None:
        """Keep the files of a log, until its container has ended; on failure, retry later."""
        container = self._logs[log_path]
        try:
            if _is_over(container):
                self._end(log_path, container)
            else:
                self._keep(log_path, container, renamed)
        except (OcigrpcError, OSError) as error:
            self._failed.add(log_path)
            self._retry_s = min(self._retry_s, time.monotonic() + _RETRY_S)
            failure = host_failure(error)
            log.error(
                "log.rotation_failed",
                container_id=container.container_id,
                reason=failure.reason,
                error=failure.message,
            )

    def _keep(self, log_path: str, container: Container, renamed: int) -> None:
        # Even if it is watched already: another directory may have its name by now.
        directory = os.path.dirname(log_path)
        self._directories[self._inotify.add(directory, _DIRECTORY)] = directory
        kept = keep_log(log_path, self._files)
        if renamed > kept:
            self._note_lost(container, renamed - kept)
        if _is_over(container):
            self._end(log_path, container)

    def _end(self, log_path: str, container: Container) -> None:
        if self._logs.get(log_path) is container:
            del self._logs[log_path]
        # A log that is there may be that of another container of the same id by now.
        if not (container.removed.is_set() and os.path.lexists(log_path)):
            tidy_log(log_path, self._files)
        if container.removed.is_set() and not os.path.lexists(log_path):
            remove_rotated(log_path, 1)

    def _note_lost(self, container: Container, count: int) -> None:
        self._lost += count
        if time.monotonic() - self._warned_s >= _RETRY_S:
            log.warning(
                "log.files_lost", container_id=container.container_id, all_containers=self._lost
            )
            self._warned_s, self._lost = time.monotonic(), 0


def _is_over(container: Container) -> bool:
    record = container.record
    ended = record.exit_status is not None or record.monitor_lost
    return ended or container.removed.is_set()
