"""The ends of containers: seen at once, and told with where the knowledge comes from.

Two processes are watched for each container, its first one and its monitor. When the
monitor has ended, its exit file is final: if there is none, nobody knows the exit code.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from ocigrpc.conmon.exit_file import ExitFile, exit_signal, read_exit_file
from ocigrpc.engine.containers.container import Container
from ocigrpc.engine.containers.context import Context, attempt
from ocigrpc.engine.containers.kill import kill
from ocigrpc.engine.model.values import ExitStatus, MonitorLostPolicy, Provenance, State
from ocigrpc.errors import Busy, CgroupFailed
from ocigrpc.host.descriptors import is_want_of_descriptors
from ocigrpc.host.processes.process import boot_id
from ocigrpc.host.watcher import Watcher
from ocigrpc.log import get_logger
from ocigrpc.waiting import Deadline, Latch

log = get_logger()

_LOOK_AGAIN_S = 0.2
_SIGKILL_CODE = 128 + 9

_TURN_S = 1.0
"""How long tidying up after one container waits for what else is done with it."""

_TIDY_S = 5.0
"""How long it may hold up others; what it does not come to, a removal does."""

_KILLERS = 4
"""Containers that are killed at once for want of their monitors."""

_MESSAGES = {
    Provenance.PENDING: "the container has ended; its monitor has not said how yet",
    Provenance.FILE_MISSING: "the monitor ended without writing an exit file",
    Provenance.FILE_EMPTY: "the exit file is empty",
    Provenance.FILE_INVALID: "the exit file holds no exit code",
    Provenance.MONITOR_LOST: "the monitor was gone before the container ended",
    Provenance.REBOOT: "the node was started anew while the container lived",
    Provenance.MONITOR_HUNG: "the monitor hung, and was killed before it said how",
}


class ExitMonitor:
    """Watches containers, and notes how they end."""

    def __init__(self, node: Context) -> None:
        self._node = node
        self._watcher = Watcher()
        self.when_over: Callable[[Container], None] = lambda container: None
        """Called when nobody writes a container's log any more; it must not wait."""
        # Removing cgroups can take a moment; the watching thread has none to spare.
        self._janitor = ThreadPoolExecutor(1, thread_name_prefix="janitor")
        self._tidying = Deadline()
        # Nor has the janitor: what will not die must not hold up what would.
        self._killers = ThreadPoolExecutor(_KILLERS, thread_name_prefix="killer")
        self._killing = Deadline()
        self._closing = threading.Event()
        self._lock = threading.Lock()
        self._unread: list[tuple[Callable[[Container], None], Container]] = []

    def watch(self, container: Container) -> None:
        """From now on, note the ends of the container's processes; of those gone, at once."""
        record = container.record
        if record.init is not None and record.init.boot_id != boot_id():
            status = unknown_exit(Provenance.REBOOT, time.time_ns())
            self._finish(container, status, record.oom_kills)
            return
        # Whether it is frozen is asked with every status of one that lives.
        container.cgroups.container.hold()
        if container.monitor is None:
            self._look(self._monitor_ended, container)
        else:
            self._watcher.watch(
                container.monitor, lambda: self._look(self._monitor_ended, container)
            )
        if container.init is None:
            self._monitors_turn(container)
        elif container.record.exit_status is None:
            self._watcher.watch(container.init, lambda: self._look(self._init_ended, container))
            oom_file = self._node.paths(container.container_id).oom_file
            # Its end tells of it all the same, only later.
            attempt(lambda: self._watcher.watch_file(oom_file, lambda: self._oom_told(container)))
        else:
            container.init.close()

    def close(self) -> None:
        """End the threads, soon even if tidying hangs; containers live on unwatched."""
        self._watcher.close()
        # The next service finds them without their monitors, and kills them.
        self._killing.cancel()
        self._killers.shutdown(cancel_futures=True)
        self._closing.set()
        tidied = Latch()
        self._janitor.submit(tidied.set)
        if not Deadline().wait(tidied, timeout_s=self._node.settings.timeouts.undo_s):
            self._tidying.cancel()
        self._janitor.shutdown(cancel_futures=True)

    def _init_ended(self, container: Container) -> None:
        container.init_ended_ns = container.init_ended_ns or time.time_ns()
        self._monitors_turn(container)
        if container.record.monitor_lost:
            status = unknown_exit(Provenance.MONITOR_LOST, container.init_ended_ns)
            self._finish(container, status, self._oom_kills(container))

    def _monitors_turn(self, container: Container) -> None:
        container.monitor_time = Deadline(self._node.settings.timeouts.kill_s)

    def _monitor_ended(self, container: Container) -> None:
        paths = self._node.paths(container.container_id)
        if container.init is not None and container.init.alive():
            self._monitor_lost(container)
            return
        oom_kills = self._oom_kills(container)
        exit_file = read_exit_file(paths.exit_file, paths.exit_copy)
        if exit_file is not None:
            # What we have killed, the kernel has not, whatever else it did.
            oom = oom_kills > 0 and not container.killed_by_us
            self._finish(container, told_exit(exit_file, oom), oom_kills)
            return
        # The monitor saw the end if the end came first; then it had its chance to write.
        seen = container.init_ended_ns > 0
        why = Provenance.FILE_MISSING if seen else Provenance.MONITOR_LOST
        if container.monitor_hung:
            why = Provenance.MONITOR_HUNG
        status = unknown_exit(why, container.init_ended_ns or time.time_ns())
        self._finish(container, status, oom_kills)

    def _monitor_lost(self, container: Container) -> None:
        policy = container.record.monitor_lost_policy
        log.error(
            "container.monitor_lost", container_id=container.container_id, policy=policy.value
        )
        container.update(monitor_lost=True)
        self.when_over(container)
        if policy is MonitorLostPolicy.KILL:
            self._killers.submit(self._kill, container)
        self._janitor.submit(self._tidy, container)
        if container.init_ended_ns:
            # Seen by the other thread just now, when this was not known yet.
            self._init_ended(container)

    def _kill(self, container: Container) -> None:
        deadline = self._killing.within(self._node.settings.timeouts.kill_s)
        attempt(lambda: kill(container, deadline))

    def _look(
        self, at: Callable[[Container], None], container: Container, *, again: bool = False
    ) -> None:
        """Look at an end; again later, if nothing can be opened now: that says nothing of it."""
        try:
            at(container)
        except (OSError, CgroupFailed) as error:
            if not is_want_of_descriptors(error):
                raise
            if not again:
                log.error("exit.unread", container_id=container.container_id, error=str(error))
            with self._lock:
                self._unread.append((at, container))
                if len(self._unread) == 1:
                    self._janitor.submit(self._look_again)

    def _look_again(self) -> None:
        """Look again at all ends that could not be read, after one wait for all."""
        if self._closing.wait(_LOOK_AGAIN_S):
            return
        with self._lock:
            unread, self._unread = self._unread, []
        for at, container in unread:
            self._janitor.submit(self._look, at, container, again=True)

    def _oom_kills(self, container: Container) -> int:
        """How many of its processes the kernel killed for want of memory."""
        # conmon 2.1.6 misses some on cgroup v1; the kernel's own count goes with the group.
        said = self._node.paths(container.container_id).oom_file.exists()
        counted = container.cgroups.container.oom_kills() or 0
        return max(container.record.oom_kills, int(said), counted)

    def _oom_told(self, container: Container) -> None:
        oom_kills = self._oom_kills(container)
        if container.record.exit_status is None and oom_kills > container.record.oom_kills:
            log.warning("container.oom", container_id=container.container_id, oom_kills=oom_kills)
            container.update(oom_kills=oom_kills)

    def _finish(self, container: Container, status: ExitStatus, oom_kills: int) -> None:
        container.update(state=State.STOPPED, exit_status=status, oom_kills=oom_kills)
        container.cgroups.container.let_go()
        container.exited.set()
        self.when_over(container)
        log.info(
            "container.exited",
            container_id=container.container_id,
            exit_code=status.exit_code,
            provenance=status.provenance.value,
            oom_killed=status.oom_killed,
        )
        if status.provenance is not Provenance.REBOOT:
            self._janitor.submit(self._tidy, container)

    def _tidy(self, container: Container) -> None:
        deadline = self._tidying.within(self._node.settings.timeouts.undo_s)

        def remove_monitor() -> None:
            # Who has the turn for long will be followed by a removal, which does it as well.
            with suppress(Busy), container.lock("tidy", deadline.within(_TURN_S)):
                # Once it is removed, the group may be that of another of the same id.
                if not container.removed.is_set():
                    container.cgroups.remove_monitor(deadline.within(_TIDY_S))

        attempt(remove_monitor)


def told_exit(exit_file: ExitFile, oom: bool) -> ExitStatus:
    """What an exit file tells. ``oom`` is whether a process was killed for want of memory."""
    exit_code = exit_file.exit_code
    if exit_code is None:
        why = Provenance.FILE_INVALID if exit_file.text else Provenance.FILE_EMPTY
        return unknown_exit(why, exit_file.written_ns)
    return ExitStatus(
        provenance=Provenance.EXIT_FILE,
        finished_ns=exit_file.written_ns,
        exit_code=exit_code,
        signal=exit_signal(exit_code),
        # Another process may have been the victim, and the first one ended otherwise.
        oom_killed=oom and exit_code == _SIGKILL_CODE,
    )


def unknown_exit(why: Provenance, finished_ns: int) -> ExitStatus:
    """An exit that nobody saw, or not yet."""
    return ExitStatus(provenance=why, finished_ns=finished_ns, message=_MESSAGES[why])
