"""Keeps the logs of containers small: a few files of a few bytes each.

For logs in the service's own directory, which nobody else rotates. One thread serves all
containers. It hears of the first write to a log, and then lets it be for a moment; so a
container that never writes costs nothing, and one that writes all the time little.
"""

from __future__ import annotations

import heapq
import itertools
import os
import queue
import select
import threading
import time
from contextlib import suppress

from ocigrpc.deadline import Alarm, Deadline
from ocigrpc.engine.container import Container
from ocigrpc.engine.log_reopening import Reopening
from ocigrpc.errors import HostFailed, MonitorFailed, OcigrpcError
from ocigrpc.host.inotify import MODIFY, ONESHOT, Inotify
from ocigrpc.log import get_logger
from ocigrpc.oci.log_names import remove_log, rotated_path

log = get_logger()

_REST_S = 0.1
_SHORT_REST_S = 0.01
_RETRY_S = 10.0
# Others wait meanwhile.
_TIMEOUT_S = 2.0


class _Log:
    """A container's log, and how large it was when it was looked at."""

    def __init__(self, container: Container) -> None:
        self.container = container
        self.path = container.record.log_path
        self.size_bytes = 0
        self.resting = False
        # Missing later on, it is with whoever took it away.
        self.cut_off = True
        self._seen_s = time.monotonic()
        self._bytes_per_s = 0.0

    def size_now(self) -> int | None:
        """How large it is; None when it is not there."""
        try:
            return os.stat(self.path).st_size
        except OSError:
            return None

    def note(self, size_bytes: int) -> None:
        """Remember how large it is, and how fast it grows."""
        now_s = time.monotonic()
        rate = (size_bytes - self.size_bytes) / max(now_s - self._seen_s, _SHORT_REST_S)
        # What has written fast may do so again.
        self._bytes_per_s = max(rate, self._bytes_per_s / 2)
        self.size_bytes, self._seen_s = size_bytes, now_s

    def rest_s(self, limit_bytes: int) -> float:
        """How long it may be let be before it is too large."""
        # Half the time, since it may grow faster.
        room_bytes = (limit_bytes - self.size_bytes) / 2
        if room_bytes > self._bytes_per_s * _REST_S:
            return _REST_S
        return max(_SHORT_REST_S, room_bytes / self._bytes_per_s)


class Rotation:
    """Rotates the logs that it is given, and mends those whose rotation was cut off.

    ``limit_bytes`` is how large a log grows, 0 for any size; ``files`` how many files are
    kept, the log itself among them.
    """

    def __init__(self, reopening: Reopening, limit_bytes: int, files: int) -> None:
        """Raises ``HostFailed``."""
        self._reopening = reopening
        self._limit_bytes = limit_bytes
        self._files = files
        self._inotify = Inotify()
        self._new: queue.SimpleQueue[Container | None] = queue.SimpleQueue()
        self._wake = Alarm()
        self._known: dict[str, _Log] = {}
        self._armed: dict[int, _Log] = {}
        self._resting: list[tuple[float, int, _Log]] = []
        self._count = itertools.count()
        self._thread = threading.Thread(target=self._run, name="rotation", daemon=True)
        self._thread.start()

    def watch(self, container: Container) -> None:
        """Rotate its log from now on, if it is for us to do; again when its file was changed."""
        record = container.record
        if record.log_is_ours and not record.log_size_max_bytes:
            self._tell(container)

    def close(self) -> None:
        """End the thread."""
        self._tell(None)
        self._thread.join()
        self._wake.close()
        self._inotify.close()

    def _tell(self, container: Container | None) -> None:
        self._new.put(container)
        self._wake.ring()

    def _run(self) -> None:
        poller = select.poll()
        poller.register(self._inotify, select.POLLIN)
        poller.register(self._wake, select.POLLIN)
        # Each step is a call, so that no local variable keeps a container that is removed.
        while True:
            poller.poll(self._pause_ms())
            self._wake.silence()
            if not self._begin_new():
                return
            self._hear()
            while self._resting and self._resting[0][0] <= time.monotonic():
                self._arm(heapq.heappop(self._resting)[2])

    def _begin_new(self) -> bool:
        """Take up the containers that there are new; false when it is time to end."""
        while not self._new.empty():
            container = self._new.get()
            if container is None:
                return False
            self._begin(container)
        return True

    def _hear(self) -> None:
        for event in self._inotify.read():
            # Whatever it is, even the end of the watch.
            written = self._armed.pop(event.watch, None)
            if written is not None and not written.resting:
                self._look(written)

    def _begin(self, container: Container) -> None:
        found = self._known.get(container.container_id)
        if found is None or found.container is not container:
            found = self._known[container.container_id] = _Log(container)
        if not found.resting:
            self._look(found)

    def _pause_ms(self) -> int | None:
        if not self._resting:
            return None
        return max(0, round((self._resting[0][0] - time.monotonic()) * 1000))

    def _arm(self, rested: _Log) -> None:
        """Hear of the next write; if there was one already, look."""
        rested.resting = False
        with suppress(HostFailed):
            if rested.size_now() == rested.size_bytes:
                watch = self._inotify.add(rested.path, MODIFY | ONESHOT)
                if rested.size_now() == rested.size_bytes:
                    self._armed[watch] = rested
                    return
        self._look(rested)

    def _look(self, found: _Log) -> None:
        """Rotate or mend it if it has to be, and let it rest; forget it when it is over."""
        container, rest_s = found.container, None
        try:
            if not self._is_over(container):
                rest_s = self._tended(found)
        except OcigrpcError as error:
            rest_s = _RETRY_S
            found.cut_off = True
            log.error(
                "log.rotation_failed",
                container_id=container.container_id,
                reason=error.reason,
                error=error.message,
            )
        if rest_s is not None:
            found.resting = True
            due_s = time.monotonic() + rest_s
            heapq.heappush(self._resting, (due_s, next(self._count), found))
        elif self._known.get(container.container_id) is found:
            del self._known[container.container_id]

    def _is_over(self, container: Container) -> bool:
        record = container.record
        ended = record.exit_status is not None or record.monitor_lost
        return ended or container.removed.is_set()

    def _tended(self, found: _Log) -> float | None:
        """How long it may rest, now that it is as it has to be; None when for ever."""
        size_bytes = found.size_now()
        if size_bytes is None:
            if not found.cut_off:
                return None
            self._mend(found.container)
            size_bytes = 0
        found.note(size_bytes)
        if self._limit_bytes and size_bytes >= self._limit_bytes:
            self._rotate(found.container)
            found.size_bytes = 0
        found.cut_off = False
        return found.rest_s(self._limit_bytes) if self._limit_bytes else None

    def _mend(self, container: Container) -> None:
        """Have the log made that is missing, as when the service ended between two steps."""
        deadline = Deadline(_TIMEOUT_S)
        with self._reopening.turn(container, deadline):
            if not os.path.lexists(container.record.log_path):
                self._reopening.reopen(container, deadline)

    def _rotate(self, container: Container) -> None:
        log_path = container.record.log_path
        deadline = Deadline(_TIMEOUT_S)
        with self._reopening.turn(container, deadline):
            self._reopening.check(container)
            try:
                self._shift(log_path)
                self._reopening.reopen(container, deadline)
            except OSError as error:
                raise HostFailed(
                    f"can't rotate {log_path}: {error.strerror}",
                    path=log_path,
                    error=error.strerror,
                ) from error
            except MonitorFailed:
                # The new file may come yet, in place of what has its name by then.
                raise
            except OcigrpcError:
                with suppress(OSError):
                    os.rename(rotated_path(log_path, 1), log_path)
                raise
            finally:
                if container.removed.is_set():
                    remove_log(log_path)
        log.debug("log.rotated", container_id=container.container_id)

    def _shift(self, log_path: str) -> None:
        """Rename each file to the next number; what is beyond the last one is gone."""
        last = self._files - 1
        # A number that is free spares those behind it.
        free = (n for n in range(1, last) if not os.path.lexists(rotated_path(log_path, n)))
        for number in range(next(free, last), 0, -1):
            os.replace(rotated_path(log_path, number - 1), rotated_path(log_path, number))
        remove_log(log_path, self._files)
