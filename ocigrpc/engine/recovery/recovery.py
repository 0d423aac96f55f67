"""The start of the service: what the store remembers, compared with what there is.

A create and a change of limits that were cut off are undone; a start, a stop and a remove
are finished, and what has ended is removed if it is to be; programs of Exec, whose clients are
gone, are ended; a pause and a resume are as far as the kernel says, but a pause that does not come
to its end is undone.
Exit codes of containers that ended meanwhile come from their exit files.
"""

from __future__ import annotations

from collections.abc import Set

from ocigrpc.engine.containers.container import Container
from ocigrpc.engine.containers.context import Context
from ocigrpc.engine.containers.exit_monitor import ExitMonitor
from ocigrpc.engine.containers.registry import ContainerRegistry
from ocigrpc.engine.containers.resources.update import undo_update
from ocigrpc.engine.containers.status import observe
from ocigrpc.engine.containers.teardown import attempt, claim_cgroups
from ocigrpc.engine.model.values import Condition, State
from ocigrpc.engine.recovery.orphans import bundled_ids, has_made, orphan_record
from ocigrpc.engine.recovery.unfinished import UnfinishedWork
from ocigrpc.engine.sessions.exec_workspace import cut_off_execs
from ocigrpc.host.processes.process import Process
from ocigrpc.host.processes.provenance import end_leftovers
from ocigrpc.log import get_logger
from ocigrpc.waiting import Deadline

log = get_logger()


class Recovery:
    """Finds every container again, and what has no record; ``unfinished`` ends what was cut off."""

    def __init__(self, context: Context, registry: ContainerRegistry, exits: ExitMonitor) -> None:
        self._context = context
        self._registry = registry
        self._exits = exits
        self.unfinished = UnfinishedWork(registry)
        self._total = 0
        self._found = 0
        self._done = False

    def run(self) -> None:
        """Find them all; what has to be ended is, soon afterwards. Raises ``StoreFailed``."""
        containers = self._registry.load()
        # As they are now: from the first that is found on, some are removed meanwhile.
        known = {container.container_id for container in containers}
        self._total = len(containers)
        # Before containers are found, so that no leftover changes what is found.
        self._end_leftovers(known)
        for container in containers:
            self._find(container)
            self._found += 1
        self._find_orphans(known)
        self._context.roots.recover({each.record.rootfs_id for each in containers})
        self._done = True
        log.info("recovery.done", containers=self._total, unfinished=self.unfinished.count)

    def condition(self) -> Condition:
        """``ContainersReady`` of ``Status``."""
        if not self._done:
            message = f"{self._found} of {self._total} containers have been found again"
            return Condition("ContainersReady", False, "Recovering", message)
        unfinished = self.unfinished.count
        message = f"{unfinished} containers are tidied up, after an end in the middle of a call"
        return Condition("ContainersReady", True, message=message if unfinished else "")

    def _find(self, container: Container) -> None:
        if container.record.state is not State.CREATING and not container.cgroups.is_pinned:
            deadline = Deadline(self._context.settings.timeouts.undo_s)
            claim_cgroups(container, deadline)
        if "update" in container.record.begun:
            undo_update(container)
        record = container.record
        verbs = record.begun
        if record.state is State.CREATING:
            self.unfinished.submit(container, verbs)
            return
        if record.exit_status is not None:
            container.settled.set()
            container.exited.set()
            self._exits.tidy(container)
            if record.auto_remove:
                # It is being removed, again and again until that is done.
                return
        else:
            if record.init is not None:
                container.init = Process.find(record.init)
            if record.monitor is not None:
                container.monitor = Process.find(record.monitor)
            # Only now the kernel's answer counts: without a process it would seem stopped.
            container.settled.set()
            self._exits.watch(container)
            log.info(
                "container.found",
                container_id=record.container_id,
                state=container.record.state.value,
                pid=observe(container).pid,
            )
        # Listed now: later there may be new ones.
        execs = cut_off_execs(container)
        # One with unfinished work is observed there, where a failure does not end the start.
        if verbs or execs or _has_changed(container):
            self.unfinished.submit(container, verbs, execs)

    def _end_leftovers(self, known: Set[str]) -> None:
        settings = self._context.settings
        ids = known | set(bundled_ids(self._context))
        deadline = Deadline(settings.timeouts.kill_s)
        # The verbs of runtimes have the container at their end.
        attempt(lambda: end_leftovers(settings.run_dir, lambda argv: argv[-1] in ids, deadline))

    def _find_orphans(self, known: Set[str]) -> None:
        """Remove containers without a record, as when the store was lost."""
        for container_id in bundled_ids(self._context):
            if container_id in known:
                continue
            if not has_made(self._context, container_id):
                log.warning("directory.of_another", name=container_id)
            else:
                log.warning("container.orphan_found", container_id=container_id)
                orphan = self._registry.adopt(orphan_record(self._context, container_id))
                self.unfinished.submit(orphan, frozenset())


def _has_changed(container: Container) -> bool:
    """Whether it lives in another state than the one that was stored."""
    return observe(container).state not in (container.record.state, State.STOPPED)
