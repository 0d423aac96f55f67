"""Making conmon begin a new log file, when the old one has been renamed away.

conmon makes the new file under another name and renames it to the log's: a log that still
has its name would lose all it holds. And when it can't make the file it ends, which leaves
the container alone. So all that could go wrong is looked at before it is asked.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from weakref import WeakValueDictionary

from ocigrpc.conmon.control import ControlFifo
from ocigrpc.engine.containers.container import Container
from ocigrpc.engine.model.values import State
from ocigrpc.errors import (
    Cancelled,
    MonitorFailed,
    PreconditionFailed,
    Timeout,
    WrongState,
    host_failing,
)
from ocigrpc.host.files.watch import FileWatch, Waiter
from ocigrpc.host.processes.process import Process
from ocigrpc.waiting import Deadline, Mutex

REOPEN_TIMEOUT_S = 10.0
"""Longest that conmon may take to make a new log file."""

_TAKEN_TIMEOUT_S = 2.0


class Reopening:
    """Has new log files made, one at a time for each container."""

    def __init__(self, file_watch: FileWatch) -> None:
        self._file_watch = file_watch
        self._lock = threading.Lock()
        self._turns: WeakValueDictionary[str, Mutex] = WeakValueDictionary()

    @contextmanager
    def turn(self, container: Container, deadline: Deadline) -> Iterator[None]:
        """Be the only one to rename or reopen the container's log; it waits for no verb.

        Raises ``Timeout`` or ``Cancelled``.
        """
        with self._lock:
            turn = self._turns.setdefault(container.container_id, Mutex())
        turn.acquire(deadline)
        try:
            yield
        finally:
            turn.release()

    def check(self, container: Container) -> Process:
        """The conmon that is to do it; see :meth:`reopen` for what is raised."""
        record, container_id = container.record, container.container_id
        if record.state is State.CREATING:
            raise WrongState.of(container_id, record.state, "created, running or paused")
        monitor = container.monitor
        if monitor is None or not monitor.alive():
            raise _monitor_lost(container)
        directory = os.path.dirname(record.log_path)
        if not os.path.isdir(directory):
            raise PreconditionFailed(
                f"the log's directory {directory} is not there",
                reason="LOG_DIRECTORY_MISSING",
                path=directory,
            )
        _require_room(directory)
        return monitor

    def reopen(self, container: Container, deadline: Deadline) -> None:
        """Have a new log made in place of one renamed away; the turn must be ours.

        Raises ``WrongState``, ``PreconditionFailed`` (MONITOR_LOST, LOG_DIRECTORY_MISSING,
        LOG_NOT_ROTATED), ``Timeout`` (LOG_REOPEN_TIMEOUT) or ``Cancelled``: then no new file
        is made, now or later. ``MonitorFailed`` (LOG_REOPEN_UNCERTAIN) when it still may be.
        """
        monitor = self.check(container)
        log_path = container.record.log_path
        with self._control(container) as control:
            directory, stem = os.path.split(log_path)
            with self._file_watch.waiter(directory, lambda event: event.name == stem) as waiter:
                present = _present(log_path)
                if present is not None and (present.st_size or monitor.has_open(present)):
                    raise PreconditionFailed(
                        f"the log {log_path} has to be renamed away first",
                        reason="LOG_NOT_ROTATED",
                        path=log_path,
                    )
                request = _Request(container, control, waiter, monitor, present)
                request.ask(deadline.within(REOPEN_TIMEOUT_S))

    @contextmanager
    def _control(self, container: Container) -> Iterator[ControlFifo]:
        path = container.paths.control_fifo
        with host_failing("write to", path):
            try:
                with ControlFifo(path) as control:
                    yield control
            except (ConnectionError, FileNotFoundError):
                raise _monitor_lost(container) from None


def _require_room(directory: str) -> None:
    """Raise ``HostFailed`` unless a file can be made there, without a name that others see."""
    with host_failing("make a new log in", directory):
        try:
            os.close(os.open(directory, os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC, 0o600))
        except OSError as error:
            # Not every file system can make a file without a name.
            if error.errno not in (errno.EOPNOTSUPP, errno.EISDIR):
                raise


@dataclass(frozen=True)
class _Request:
    """What is asked of conmon; ``present`` is what has the log's name, empty and not its own."""

    container: Container
    control: ControlFifo
    waiter: Waiter
    monitor: Process
    present: os.stat_result | None

    def ask(self, deadline: Deadline) -> None:
        """Ask, and wait until it is done; or take it back."""
        sent = False
        try:
            self.control.reopen_log(deadline)
            sent = True
            self._await_file(deadline)
        except (Timeout, Cancelled) as error:
            if sent and not self.control.take_back():
                # conmon has read it, and is making the file now.
                late = Deadline() if isinstance(error, Cancelled) else deadline.for_answer()
                try:
                    self._await_file(late.within(_TAKEN_TIMEOUT_S))
                except Timeout:
                    raise MonitorFailed(
                        "conmon was asked for a new log, and has not made it yet",
                        reason="LOG_REOPEN_UNCERTAIN",
                        path=self.container.record.log_path,
                    ) from error
                return
            if isinstance(error, Cancelled):
                raise
            raise Timeout(
                "conmon does not answer; no new log was made",
                reason="LOG_REOPEN_TIMEOUT",
                container_id=self.container.container_id,
            ) from error

    def _await_file(self, deadline: Deadline) -> None:
        with self.monitor.watched() as ended:
            while True:
                self.waiter.take()
                # It was not there when we asked, so what is there now is new.
                found = _present(self.container.record.log_path)
                if found and not (self.present and os.path.samestat(found, self.present)):
                    return
                if ended in deadline.wait(self.waiter, ended):
                    raise _monitor_lost(self.container)


def _present(log_path: str) -> os.stat_result | None:
    """What has the log's name; None when nothing has."""
    try:
        return os.lstat(log_path)
    except FileNotFoundError:
        return None


def _monitor_lost(container: Container) -> WrongState | PreconditionFailed:
    """What there is to say when nobody writes the log: mostly, that there is nothing to write."""
    container_id = container.container_id
    if container.init is None or not container.init.alive():
        return WrongState.of(container_id, State.STOPPED, "created, running or paused")
    return PreconditionFailed(
        f"container {container_id!r} has no monitor any more, so nobody writes its log",
        reason="MONITOR_LOST",
        container_id=container_id,
    )
