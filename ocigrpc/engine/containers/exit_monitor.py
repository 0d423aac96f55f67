"""Notices how containers end, and records their exit statuses with their provenance.

Two processes of each container are watched, its first one and its monitor. Once the monitor
has ended, its exit file is final: if there is none, the exit code is unknown.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import NamedTuple

from ocigrpc.conmon.exit_file import read_exit_file
from ocigrpc.engine.containers.container import Container
from ocigrpc.engine.containers.context import Context
from ocigrpc.engine.containers.ending import exit_class, exit_of
from ocigrpc.engine.containers.kill import kill
from ocigrpc.engine.containers.teardown import attempt
from ocigrpc.engine.model.values import ExitStatus, Provenance, State
from ocigrpc.errors import Busy, CgroupFailed
from ocigrpc.host.descriptors import is_out_of_descriptors
from ocigrpc.host.processes.process import Process, boot_id
from ocigrpc.host.watcher import Watcher
from ocigrpc.log import get_logger
from ocigrpc.metrics import EXITS, MONITORS_LOST
from ocigrpc.settings.values import MonitorLostPolicy
from ocigrpc.waiting import Deadline, Latch

log = get_logger()

# How long removing the cgroup of one container's monitor waits for that container's lock.
_LOCK_S = 1.0

# How long removing it may delay other containers; a removal does what is left.
_TIDY_S = 5.0

# Most containers that are killed at a time because they have lost their monitors.
_KILLERS = 4


class Happening(NamedTuple):
    """An event of a container, and what records it; ``unread`` if that has failed before."""

    note: Callable[[Container], None]
    container: Container
    unread: bool = False


class ExitMonitor:
    """Watches containers, and records how they end.

    ``remove`` is called with those that are to be removed then, and in how many seconds; it must
    not take long.
    """

    def __init__(self, context: Context, remove: Callable[[Container, float], None]) -> None:
        self._context = context
        self._remove = remove
        # Called once a container's log is complete, and a moment has passed since.
        self.when_over: Callable[[Container], None] = lambda container: None
        # Removing cgroups takes time, which must not delay the thread that watches.
        self._janitor = ThreadPoolExecutor(1, thread_name_prefix="janitor")
        self._tidying = Deadline()
        # Killing has its own pool: a container that does not die must not delay the clean-up
        # of others.
        self._killers = ThreadPoolExecutor(_KILLERS, thread_name_prefix="killer")
        self._killing = Deadline()
        self._watcher = Watcher[Happening]()
        self._thread = threading.Thread(target=self._run, name="watcher", daemon=True)
        self._thread.start()

    def watch(self, container: Container) -> None:
        """Watch the container's processes; the end of one that is gone is recorded at once."""
        record = container.record
        if record.init is not None and record.init.boot_id != boot_id():
            status = container.ending.unknown(Provenance.REBOOT)
            self._finish(container, status, record.oom_kills)
            return
        # Every status of a container that lives reads whether it is frozen.
        container.cgroups.container.hold()
        monitor_ended = Happening(self._monitor_ended, container)
        if container.monitor is None:
            self._note(monitor_ended)
        else:
            self._watcher.watch(container.monitor, monitor_ended)
        if container.init is None:
            timeout_s = self._context.settings.timeouts.kill_s
            container.ending.expect_exit_file(timeout_s)
            self._remove_if_wanted(container, timeout_s)
        elif container.record.exit_status is None:
            self._watch_oom_file(container, container.init)
            self._watcher.watch(container.init, Happening(self._init_ended, container))
        else:
            container.init.close()

    def tidy(self, container: Container) -> None:
        """Tidy up after a container whose end was recorded by a service that died since."""
        if container.cgroups.monitor.exists():
            self._submit(self._janitor, self._tidy, container)
        self._remove_if_wanted(container)

    def _watch_oom_file(self, container: Container, init: Process) -> None:
        made, path = Happening(self._oom_file_made, container), container.paths.oom_file
        # If that fails, OOM kills are counted only when the container ends.
        attempt(lambda: self._watcher.watch_file(path, init, made))

    def close(self) -> None:
        """End the threads, soon even if a cgroup stays busy; containers live on, unwatched."""
        self._watcher.stop()
        self._thread.join()
        self._watcher.close()
        # The next service finds these containers without their monitors, and kills them.
        self._killing.cancel()
        self._killers.shutdown(cancel_futures=True)
        tidied = Latch()
        self._janitor.submit(tidied.set)
        if not Deadline().wait(tidied, timeout_s=self._context.settings.timeouts.undo_s):
            self._tidying.cancel()
        self._janitor.shutdown(cancel_futures=True)

    def _run(self) -> None:
        for happening in self._watcher:
            # An error of one container must not end the thread.
            with _logged(happening.container):
                self._note(happening)
            # Else the variable keeps a removed container alive until the next one.
            del happening

    @staticmethod
    def _submit(
        pool: ThreadPoolExecutor, work: Callable[[Container], None], container: Container
    ) -> None:
        """Do work in a pool, which would keep to itself what goes wrong."""

        def do() -> None:
            with _logged(container):
                work(container)

        pool.submit(do)

    def _note(self, happening: Happening) -> None:
        """Record what has happened; later, if no file can be opened for that now."""
        container = happening.container
        try:
            happening.note(container)
        except (OSError, CgroupFailed) as error:
            if not is_out_of_descriptors(error):
                raise
            if not happening.unread:
                log.error("exit.unread", container_id=container.container_id, error=str(error))
            self._watcher.delay(happening._replace(unread=True))

    def _init_ended(self, container: Container) -> None:
        timeout_s = self._context.settings.timeouts.kill_s
        container.ending.begin(timeout_s)
        # A monitor that hangs never reports the end; a removal does not wait for it any more then.
        self._remove_if_wanted(container, timeout_s)
        if container.record.monitor_lost:
            status = container.ending.unknown(Provenance.MONITOR_LOST)
            self._finish(container, status, self._oom_kills(container))

    def _monitor_ended(self, container: Container) -> None:
        if container.init is not None and container.init.alive():
            self._monitor_lost(container)
            return
        oom_kills = self._oom_kills(container)
        exit_file = read_exit_file(container.paths.exit_file, container.paths.exit_copy)
        if exit_file is not None:
            # A process that we have killed was not killed by the OOM killer.
            status = exit_of(exit_file, oom_kills > 0 and not container.ending.killed_by_us)
        else:
            status = container.ending.without_exit_file()
        self._finish(container, status, oom_kills)

    def _monitor_lost(self, container: Container) -> None:
        policy = container.record.monitor_lost_policy
        log.error(
            "container.monitor_lost", container_id=container.container_id, policy=policy.value
        )
        if not container.record.monitor_lost:
            # Else a service before this one has counted it.
            MONITORS_LOST.add()
        container.update(monitor_lost=True)
        if policy is MonitorLostPolicy.KILL:
            self._submit(self._killers, self._kill, container)
        self._watcher.delay(Happening(self._over, container))
        if container.ending.init_ended_ns:
            # Another thread has recorded that end just now, before the monitor was known lost.
            self._init_ended(container)

    def _kill(self, container: Container) -> None:
        deadline = self._killing.within(self._context.settings.timeouts.kill_s)
        attempt(lambda: kill(container, deadline))

    def _oom_kills(self, container: Container) -> int:
        """How many of its processes the OOM killer has killed."""
        # conmon 2.1.6 misses some on cgroup v1; the kernel's count is lost with the group.
        reported = os.path.exists(container.paths.oom_file)
        counted = container.cgroups.container.oom_kills() or 0
        return max(container.record.oom_kills, int(reported), counted)

    def _oom_file_made(self, container: Container) -> None:
        oom_kills = self._oom_kills(container)
        if container.record.exit_status is None and oom_kills > container.record.oom_kills:
            log.info("container.oom", container_id=container.container_id, oom_kills=oom_kills)
            container.update(oom_kills=oom_kills)

    def _finish(self, container: Container, status: ExitStatus, oom_kills: int) -> None:
        # A stop that waits for this alone ends with it: one change of the store instead of two.
        ended = "stop" if container.ending.killed_all else ""
        container.update(ended, state=State.STOPPED, exit_status=status, oom_kills=oom_kills)
        container.cgroups.container.release()
        container.exited.set()
        EXITS.add(*exit_class(status))
        log.info(
            "container.exited",
            container_id=container.container_id,
            exit_code=status.exit_code,
            provenance=status.provenance.value,
            oom_killed=status.oom_killed,
        )
        # Most containers are removed right after their end, with all that there is to tidy.
        self._watcher.delay(Happening(self._over, container))

    def _over(self, container: Container) -> None:
        """Tidy up after a container that has ended, or its monitor; not if it is removed by now."""
        if not container.removed.is_set():
            # Not in this thread: the log's disk may hang, and then no other end would be noticed.
            self._submit(self._janitor, self._tidy, container)
            if container.record.exit_status is not None:
                self._remove_if_wanted(container)

    def _remove_if_wanted(self, container: Container, in_s: float = 0.0) -> None:
        if container.record.auto_remove:
            self._remove(container, in_s)

    def _tidy(self, container: Container) -> None:
        self.when_over(container)
        status = container.record.exit_status
        if status is not None and status.provenance is Provenance.REBOOT:
            # What has the names of its groups now is not of that boot.
            return
        deadline = self._tidying.within(self._context.settings.timeouts.undo_s)

        def remove_monitor() -> None:
            # If a verb holds the lock for longer, the removal of the container does it.
            with suppress(Busy), container.lock("tidy", deadline.within(_LOCK_S)):
                # After a removal the group may be that of another container of the same id. One
                # with processes holds what programs of Exec need while they live.
                if not (container.removed.is_set() or container.cgroups.monitor.populated()):
                    container.cgroups.remove_monitor(deadline.within(_TIDY_S))

        attempt(remove_monitor)


@contextmanager
def _logged(container: Container) -> Iterator[None]:
    """Log what goes wrong in a ``with`` and is expected nowhere."""
    try:
        yield
    except Exception:
        log.exception("exit.unhandled", container_id=container.container_id)
