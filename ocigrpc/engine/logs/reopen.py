"""Has conmon begin a new log file, when the old one has been renamed away.

conmon makes the new file under another name and renames it to the log's: a log that still
has its name would lose all its lines. And when it can't make the file it ends, and leaves the
container without a monitor. So everything that could fail is checked before it is asked.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from ocigrpc.conmon.control import ControlFifo
from ocigrpc.engine.containers.container import Container
from ocigrpc.engine.model.values import State
from ocigrpc.errors import Cancelled, MonitorFailed, PreconditionFailed, Timeout, WrongState
from ocigrpc.failing import host_failing
from ocigrpc.host.files.watch import FileWatch, Waiter
from ocigrpc.host.processes.process import Process
from ocigrpc.waiting import Deadline

# Longest that conmon may take to make a new log file.
REOPEN_TIMEOUT_S = 10.0

# Longest that it is waited for once more after that, if it has begun.
_BEGUN_TIMEOUT_S = 2.0


def reopen_log(container: Container, file_watch: FileWatch, deadline: Deadline) -> None:
    """Have a new log made in place of one renamed away; it waits for no verb.

    Raises ``WrongState``, ``PreconditionFailed`` (MONITOR_LOST, LOG_DIRECTORY_MISSING,
    LOG_NOT_ROTATED), ``Timeout`` (LOG_REOPEN_TIMEOUT) or ``Cancelled``: then no new file
    is made, now or later. ``MonitorFailed`` (LOG_REOPEN_UNCERTAIN) when it still may be.
    """
    with container.log_lock.held(deadline):
        monitor = _require_monitor(container)
        log_path = container.record.log_path
        directory, stem = os.path.split(log_path)
        _require_directory(directory)
        with (
            _control(container) as control,
            file_watch.waiter(directory, lambda event: event.name == stem) as waiter,
        ):
            present = _present(log_path)
            if present is not None and (present.st_size or monitor.has_open(present)):
                raise PreconditionFailed(
                    f"the log {log_path} has to be renamed away first",
                    reason="LOG_NOT_ROTATED",
                    path=log_path,
                )
            request = _Request(container, control, waiter, monitor, present)
            request.run(deadline.within(REOPEN_TIMEOUT_S))


def _require_monitor(container: Container) -> Process:
    """The conmon that writes the log."""
    state = container.record.state
    if state is State.CREATING:
        raise WrongState.of(container.container_id, state, "created, running or paused")
    monitor = container.monitor
    if monitor is None or not monitor.alive():
        raise _monitor_lost(container)
    return monitor


def _require_directory(directory: str) -> None:
    """Raise unless a file can be made there, which is tried without a visible name."""
    if not os.path.isdir(directory):
        raise PreconditionFailed(
            f"the log's directory {directory} is missing",
            reason="LOG_DIRECTORY_MISSING",
            path=directory,
        )
    with host_failing("make a new log in", directory):
        try:
            os.close(os.open(directory, os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC, 0o600))
        except OSError as error:
            # Some file systems can't make a file without a name, and are usable all the same.
            if error.errno not in (errno.EOPNOTSUPP, errno.EISDIR):
                raise


@contextmanager
def _control(container: Container) -> Iterator[ControlFifo]:
    path = container.paths.control_fifo
    with host_failing("write to", path):
        try:
            with ControlFifo(path) as control:
                yield control
        except (ConnectionError, FileNotFoundError):
            raise _monitor_lost(container) from None


@dataclass(frozen=True)
class _Request:
    """One line to conmon; ``present`` is an empty file with the log's name that is not conmon's."""

    container: Container
    control: ControlFifo
    waiter: Waiter
    monitor: Process
    present: os.stat_result | None

    def run(self, deadline: Deadline) -> None:
        """Send it, and wait until the new log is there; or take it back."""
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
                    self._await_file(late.within(_BEGUN_TIMEOUT_S))
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
                # It was not there before the request, so it is new.
                found = _present(self.container.record.log_path)
                if found and not (self.present and os.path.samestat(found, self.present)):
                    return
                if ended in deadline.wait(self.waiter, ended):
                    raise _monitor_lost(self.container)


def _present(log_path: str) -> os.stat_result | None:
    """The file that has the log's name; None when there is none."""
    try:
        return os.lstat(log_path)
    except FileNotFoundError:
        return None


def _monitor_lost(container: Container) -> WrongState | PreconditionFailed:
    """The error when no conmon writes the log, which mostly is that the container has ended."""
    container_id = container.container_id
    if container.init is None or not container.init.alive():
        return WrongState.of(container_id, State.STOPPED, "created, running or paused")
    return PreconditionFailed(
        f"container {container_id!r} has no monitor any more, so nobody writes its log",
        reason="MONITOR_LOST",
        container_id=container_id,
    )
