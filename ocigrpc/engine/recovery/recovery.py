"""The start of the service: what the store remembers, compared with what there is.

A create and a change of limits that were cut off are undone; a start, a stop and a remove
are finished; programs of Exec, whose clients are gone, are ended; a pause and a resume are
as far as the kernel says.
How a container ended meanwhile, its exit file says.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Set

from ocigrpc.engine.containers.container import Container
from ocigrpc.engine.containers.context import Context, attempt
from ocigrpc.engine.containers.exit_monitor import ExitMonitor
from ocigrpc.engine.containers.registry import Registry
from ocigrpc.engine.containers.resources.update import undo_update
from ocigrpc.engine.containers.status import Truth
from ocigrpc.engine.model.values import Condition, State
from ocigrpc.engine.recovery.unfinished import UnfinishedWork
from ocigrpc.engine.sessions.exec import Execs
from ocigrpc.engine.store.store import Store
from ocigrpc.host.processes.process import Process
from ocigrpc.host.processes.stale import end_leftovers
from ocigrpc.log import get_logger
from ocigrpc.waiting import Deadline

log = get_logger()


class Recovery:
    """Finds every container again, and what has no record."""

    def __init__(
        self,
        node: Context,
        store: Store,
        registry: Registry,
        exits: ExitMonitor,
        truth: Truth,
        execs: Execs,
        finishing: UnfinishedWork,
    ) -> None:
        self._node = node
        self._store = store
        self._registry = registry
        self._exits = exits
        self._truth = truth
        self._execs = execs
        self._finishing = finishing
        self._total = 0
        self._found = 0
        self._done = False

    def run(self) -> None:
        """Find them all; what has to be ended is, soon afterwards. Raises ``StoreFailed``."""
        begun: dict[str, set[str]] = defaultdict(set)
        for container_id, verb in self._store.intents():
            begun[container_id].add(verb)
        containers = self._registry.load()
        self._total = len(containers)
        # Before they are looked at, so that nobody meddles with what is found.
        self._end_leftovers()
        for container in containers:
            self._find(container, begun[container.container_id])
            self._found += 1
        self._find_orphans()
        self._done = True
        log.info("recovery.done", containers=self._total, unfinished=self._finishing.unfinished)

    def condition(self) -> Condition:
        """``ContainersReady`` of ``Status``."""
        if not self._done:
            message = f"{self._found} of {self._total} containers have been found again"
            return Condition("ContainersReady", False, "Recovering", message)
        unfinished = self._finishing.unfinished
        message = f"{unfinished} containers are tidied up, after an end in the middle of a call"
        return Condition("ContainersReady", True, message=message if unfinished else "")

    def _find(self, container: Container, verbs: Set[str]) -> None:
        if container.record.state is not State.CREATING and not container.cgroups.is_pinned:
            deadline = Deadline(self._node.settings.timeouts.undo_s)
            self._node.claim(container.record, container.cgroups, deadline)
        if "update" in verbs:
            undo_update(container, self._node.paths(container.container_id).bundle)
            verbs = verbs - {"update"}
        record = container.record
        if record.state is State.CREATING:
            self._finishing.submit(container, verbs)
            return
        container.settled.set()
        if record.exit_status is not None:
            container.exited.set()
        else:
            if record.init is not None:
                container.init = Process.find(record.init)
            if record.monitor is not None:
                container.monitor = Process.find(record.monitor)
            self._exits.watch(container)
            log.info(
                "container.found",
                container_id=record.container_id,
                state=container.record.state.value,
                pid=container.record.pid,
            )
        # Looked for now: later there may be new ones.
        programs = self._execs.cut_off(container)
        if verbs or programs or self._has_changed(container):
            self._finishing.submit(container, verbs, programs)

    def _has_changed(self, container: Container) -> bool:
        state = self._truth.cached_status(container).state
        return state is not container.record.state and state is not State.STOPPED

    def _end_leftovers(self) -> None:
        settings = self._node.settings
        known = {container.container_id for container in self._registry.all()}
        known.update(self._node.bundled_ids())
        deadline = Deadline(settings.timeouts.kill_s)
        attempt(lambda: end_leftovers(settings.run_dir, known, deadline))

    def _find_orphans(self) -> None:
        """Have removed what has no record, as when the store was lost."""
        for container_id in self._node.bundled_ids():
            if self._registry.find(container_id) is not None:
                continue
            if not self._node.has_made(container_id):
                log.warning("directory.of_another", name=container_id)
            else:
                log.warning("container.orphan_found", container_id=container_id)
                orphan = self._registry.adopt(self._node.orphan(container_id))
                self._finishing.submit(orphan, frozenset())
