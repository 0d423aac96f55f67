"""The engine: every verb a face can ask for, and nothing of how it is asked."""

from __future__ import annotations

import signal
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from operator import attrgetter
from pathlib import Path

from ocigrpc.engine.containers.cgroups import parents
from ocigrpc.engine.containers.container import Container
from ocigrpc.engine.containers.context import Context
from ocigrpc.engine.containers.creation.create import Creation
from ocigrpc.engine.containers.exit_monitor import ExitMonitor
from ocigrpc.engine.containers.inspect import ContainerProcess, Inspection, inspect, processes_of
from ocigrpc.engine.containers.kill import is_outlived, send_signal, signal_group
from ocigrpc.engine.containers.lifecycle import pause, resume, start, start_created
from ocigrpc.engine.containers.registry import ContainerRegistry
from ocigrpc.engine.containers.resources.stats import (
    ContainerStats,
    repeated,
    stats_of,
    stats_of_all,
)
from ocigrpc.engine.containers.resources.update import limits_in_force, update
from ocigrpc.engine.containers.status import (
    ALIVE,
    observe,
    require_state,
    runtime_info,
    states_of,
    status,
)
from ocigrpc.engine.containers.stop import remove, stop
from ocigrpc.engine.health import Health
from ocigrpc.engine.logs.logs import Logs
from ocigrpc.engine.logs.reader import LogBatch, LogQuery
from ocigrpc.engine.model.events import EventBatch, EventFilter
from ocigrpc.engine.model.record import ContainerFilter, ContainerView
from ocigrpc.engine.model.values import (
    Condition,
    Counts,
    Created,
    CreateRequest,
    ExitStatus,
    Position,
    State,
    Versions,
)
from ocigrpc.engine.recovery.orphans import refuse_lost_store
from ocigrpc.engine.recovery.recovery import Recovery
from ocigrpc.engine.sessions.attach import AttachBacklogs, attach
from ocigrpc.engine.sessions.exec import Execs
from ocigrpc.engine.sessions.messages import AttachStart, ExecResult, ExecStart, Inputs, Reply
from ocigrpc.engine.store.store import Store
from ocigrpc.errors import ContainerNotFound
from ocigrpc.host.cgroups.hierarchy import Hierarchies
from ocigrpc.host.cgroups.limits import Limits
from ocigrpc.oci.spec.config import Resources
from ocigrpc.settings.values import Settings
from ocigrpc.waiting import Deadline


class Engine:
    """Drives every container of one root directory.

    Methods answer the RPCs of the same stem, whose comments in ``protos/`` document what they
    do and how they fail; the exceptions are those of ``ocigrpc.errors``.
    """

    def __init__(
        self, context: Context, store: Store, registry: ContainerRegistry, exits: ExitMonitor
    ) -> None:
        self._context = context
        self._registry = registry
        self._creation = Creation(context, registry, exits)
        self._execs = Execs(registry)
        self._backlogs = AttachBacklogs()
        self._event_log = store.event_log
        self._own_groups = context.hierarchies.all_groups_of("self")
        self._logs = Logs(context)
        exits.when_over = self._logs.rotation.watch
        self._recovery = Recovery(context, registry, exits)
        self._health = Health(context, store, self._recovery)

    @classmethod
    @contextmanager
    def open(cls, settings: Settings) -> Iterator[Engine]:
        """The engine of these settings; :meth:`recover` is to be called first.

        When the block ends, containers live on, and the next engine finds them. Raises
        ``StoreFailed``, ``CgroupFailed`` or ``HostFailed`` when it can't work.
        """
        context = Context(settings, Hierarchies.detect())
        context.make_directories()
        with ExitStack() as undo:
            for parent in reversed(parents(context.hierarchies, settings)):
                undo.callback(parent.remove_if_empty)
            path = Path(settings.root_dir) / "ocigrpc.db"
            refuse_lost_store(path, context)
            store = Store(path, settings.event_history)
            undo.callback(store.close)
            registry = ContainerRegistry(context, store)
            undo.callback(registry.let_go)
            exits = ExitMonitor(context)
            undo.callback(exits.close)
            engine = cls(context, store, registry, exits)
            undo.callback(engine._logs.close)
            undo.callback(engine._creation.close)
            undo.callback(engine._recovery.unfinished.close)
            yield engine

    def require_working(self, deadline: Deadline) -> None:
        """Raise ``HostFailed``, ``CgroupFailed`` or ``Timeout`` if it can make no container."""
        self._health.require_working(deadline)

    def recover(self) -> None:
        """Find the containers that are there already; until then, only ask for conditions.

        What was cut off is finished or undone afterwards, beside other calls. Raises
        ``StoreFailed``.
        """
        self._recovery.run()
        for container in self._registry.all():
            if container.record.state is not State.CREATING:
                self._logs.rotation.watch(container)

    def versions(self, deadline: Deadline) -> Versions:
        """Versions of conmon and of every OCI runtime."""
        return self._health.versions(deadline)

    def conditions(self, deadline: Deadline) -> Sequence[Condition]:
        """Those of ``Status``, in its order."""
        return self._health.conditions(deadline)

    def default_seccomp_profile(self) -> str:
        """The path of the profile that RUNTIME_DEFAULT is; empty for the service's own."""
        return self._health.default_seccomp_profile()

    def effective_settings(self) -> dict[str, object]:
        """The settings in force, by the names that the settings file uses."""
        return self._context.settings.effective()

    def counts(self, deadline: Deadline) -> Counts:
        """What there is; no program is run. Raises ``Timeout`` or ``Cancelled``."""
        # A condition that used up the deadline, as when systemd hangs, must still be reported.
        return self._health.counts(states_of(self._registry.all(), deadline.for_answer()))

    def create(self, request: CreateRequest, deadline: Deadline, *, start: bool = False) -> Created:
        """Make a container that is ready to start, and ``start`` it unless it has been."""
        container = self._creation.create(request, deadline)
        if not container.removed.is_set():
            self._logs.rotation.watch(container)
        if start:
            start_created(container, deadline)
        return Created(container.container_id, container.init_pid)

    def start(self, container_id: str, deadline: Deadline) -> None:
        """Run the program of a created container."""
        start(self._registry.get(container_id), deadline)

    def pause(self, container_id: str, deadline: Deadline) -> None:
        """Freeze a running container."""
        pause(self._registry.get(container_id), deadline)

    def resume(self, container_id: str, deadline: Deadline) -> None:
        """Thaw a paused container."""
        resume(self._registry.get(container_id), deadline)

    def stop(self, container_id: str, timeout_s: float | None, deadline: Deadline) -> None:
        """End a container; ``timeout_s`` None is the settings' own."""
        if timeout_s is None:
            timeout_s = self._context.settings.timeouts.stop_s
        stop(self._registry.get(container_id), timeout_s, deadline)

    def kill(self, container_id: str, number: int, everyone: bool, deadline: Deadline) -> None:
        """Send signal ``number`` to the first process, or to every one."""
        container = self._registry.get(container_id)
        if not (everyone and is_outlived(container)):
            require_state(container, deadline, *ALIVE, State.UNKNOWN)
        send_signal(container, number)
        if everyone or number == signal.SIGKILL:
            signal_group(container, number, everyone, deadline)

    def remove(self, container_id: str, force: bool, deadline: Deadline) -> None:
        """Remove a container with everything that was made for it."""
        container = self._registry.find(container_id)
        if container is not None:
            remove(container, self._registry, force, deadline)

    def status(self, container_id: str, deadline: Deadline) -> ContainerView:
        """What is true of a container now."""
        return status(self._registry.get(container_id), deadline)

    def inspect(self, container_id: str) -> Inspection:
        """What a container runs, and how; read from its spec."""
        return inspect(self._registry.get(container_id), self._own_groups)

    def processes(
        self, container_id: str, after_pid: int, deadline: Deadline
    ) -> Iterator[ContainerProcess]:
        """The processes of a container, by rising id, behind ``after_pid``, as they are taken."""
        return processes_of(self._registry.get(container_id), after_pid, deadline)

    def runtime_info(self, container_id: str, deadline: Deadline) -> Mapping[str, str]:
        """The runtime's own state of a container, and conmon's process id."""
        return runtime_info(self._registry.get(container_id), deadline)

    def list_containers(
        self, container_filter: ContainerFilter, after: Position | None = None
    ) -> Iterator[ContainerView]:
        """The containers that match, oldest first, behind ``after``, as they are taken.

        Nothing is run or waited for.
        """
        states = container_filter.states
        for container in self._matching(container_filter, after):
            observed = observe(container)
            if not states or observed.state in states:
                yield observed

    def _matching(
        self, container_filter: ContainerFilter, after: Position | None
    ) -> Sequence[Container]:
        """Those that match but for their state, which has to be observed, oldest first."""
        matching = (
            each
            for each in self._registry.all()
            if container_filter.may_match(each.record)
            and (after is None or after < each.record.position)
        )
        return sorted(matching, key=attrgetter("record.position"))

    def update(self, container_id: str, resources: Resources, deadline: Deadline) -> Limits:
        """Change the limits that are set in ``resources``; what all are afterwards."""
        return update(self._registry.get(container_id), resources, deadline)

    def limits(self, container_id: str) -> Limits:
        """The limits in force of a container that lives; nothing is run or waited for."""
        return limits_in_force(self._registry.get(container_id))

    def stats(self, container_id: str) -> ContainerStats:
        """What a container uses now; nothing is run or waited for."""
        return stats_of(self._registry.get(container_id))

    def list_stats(
        self, container_filter: ContainerFilter, deadline: Deadline, after: Position | None = None
    ) -> Iterator[ContainerStats]:
        """What the containers that match use, oldest first, without those that have stopped.

        Behind ``after``, as they are taken.
        """
        matching = self._matching(container_filter, after)
        return stats_of_all(matching, container_filter.states, deadline)

    def watch_stats(
        self, container_filter: ContainerFilter, interval_s: float, deadline: Deadline
    ) -> Iterator[Iterable[ContainerStats]]:
        """What :meth:`list_stats` answers, at once and then at an interval, without end."""
        return repeated(lambda: self.list_stats(container_filter, deadline), interval_s, deadline)

    def logs(self, query: LogQuery, deadline: Deadline) -> Iterator[LogBatch]:
        """The lines of a container's log that are asked for."""
        return self._logs.read(self._registry.get(query.container_id), query, deadline)

    def reopen_log(self, container_id: str, deadline: Deadline) -> None:
        """Begin a new log in place of one that was renamed away."""
        self._logs.reopen(self._registry.get(container_id), deadline)

    def wait(self, container_id: str, deadline: Deadline) -> ExitStatus:
        """Block until the container has ended; how it did."""
        container = self._registry.get(container_id)
        deadline.wait(container.exited, container.removed)
        exit_status = container.record.exit_status
        if exit_status is None:
            raise ContainerNotFound.of(container.container_id)
        return exit_status

    def watch_events(
        self, after: int | None, event_filter: EventFilter, deadline: Deadline
    ) -> Iterator[EventBatch]:
        """What happens to containers, behind the event ``after``, without end."""
        return self._event_log.follow(after, event_filter, deadline)

    def exec_sync(self, start: ExecStart, deadline: Deadline) -> ExecResult:
        """Run a program in a container to its end."""
        return self._execs.run(start, deadline)

    def exec(self, start: ExecStart, inputs: Inputs, deadline: Deadline) -> Generator[Reply]:
        """Run a program in a container, with input and output as they come."""
        return self._execs.stream(start, inputs, deadline)

    def attach(self, start: AttachStart, inputs: Inputs, deadline: Deadline) -> Generator[Reply]:
        """Attach to a container's first process."""
        container = self._registry.get(start.container_id)
        return attach(container, start, inputs, self._backlogs, deadline)
