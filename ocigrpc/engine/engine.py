"""The engine: every verb a face can ask for, and nothing of how it is asked."""

from __future__ import annotations

import signal
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager

from ocigrpc.engine.containers.auto_removal import AutoRemoval
from ocigrpc.engine.containers.cgroups import parents
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
    observe_all,
    require_state,
    runtime_info,
    states_of,
    status,
)
from ocigrpc.engine.containers.stop import remove, stop
from ocigrpc.engine.copying.archive_in import CopyTarget, copy_into
from ocigrpc.engine.copying.archive_out import CopySource, PathStat, copy_out
from ocigrpc.engine.gauges import Gauges
from ocigrpc.engine.health import Health
from ocigrpc.engine.images.images import Images
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
from ocigrpc.engine.recovery.opening import open_store
from ocigrpc.engine.recovery.recovery import Recovery
from ocigrpc.engine.sessions.attach import AttachBacklogs, attach
from ocigrpc.engine.sessions.exec import Execs
from ocigrpc.engine.sessions.messages import AttachStart, ExecResult, ExecStart, Inputs, Reply
from ocigrpc.engine.store.store import Store
from ocigrpc.errors import ContainerNotFound
from ocigrpc.host.archives.unpack import Unpacked
from ocigrpc.host.cgroups.hierarchy import Hierarchies
from ocigrpc.host.cgroups.limits import Limits
from ocigrpc.metrics import Reading
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
        self._store = store
        self._own_groups = context.hierarchies.all_groups_of("self")
        self._logs = Logs(context)
        self._creation.meanwhile = self._logs.rotation.watch
        exits.when_over = self._logs.rotation.watch
        self._recovery = Recovery(context, registry, exits)
        self._health = Health(context, store, self._recovery)
        self.images = Images(context.settings, store)
        self._gauges = Gauges(context, store, registry, self.images)
        context.roots = self.images.roots

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
            store = undo.enter_context(open_store(context))
            registry = ContainerRegistry(context, store)
            undo.callback(registry.let_go)
            removal = undo.enter_context(closing(AutoRemoval(registry)))
            exits = undo.enter_context(closing(ExitMonitor(context, removal.submit)))
            engine = cls(context, store, registry, exits)
            undo.callback(engine._logs.close)
            undo.callback(engine.images.close)  # after all that gives back root filesystems
            undo.callback(engine._creation.close)
            undo.callback(engine._recovery.unfinished.close)
            yield engine

    def require_working(self, deadline: Deadline) -> None:
        """Raise ``HostFailed``, ``CgroupFailed`` or ``Timeout`` if it can make no container."""
        self._health.require_working(deadline)

    def require_serving(self, deadline: Deadline) -> None:
        """Raise what makes some condition false, as far as it shows at little cost."""
        self._health.require_serving(deadline)

    def reload(self, settings: Settings) -> None:
        """Use other settings from now on; see ``ocigrpc.settings.reload`` for which may differ."""
        self._context.reload(settings)
        self._registry.limit_to(settings.limits.containers)
        self.images.reload(settings)

    def recover(self) -> None:
        """Find the containers that are there already; until then, only ask for conditions.

        What was cut off is ended afterwards, beside other calls. Raises ``StoreFailed``.
        """
        self.images.end_leftovers()
        self._recovery.run()
        self.images.recover()
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
        """What there is; runs no program. Raises ``StoreFailed``, ``Timeout`` or ``Cancelled``."""
        # A condition that used up the deadline, as when systemd hangs, must still be reported.
        return self._health.counts(states_of(self._registry.all(), deadline.for_answer()))

    def states(self, deadline: Deadline) -> Sequence[State]:
        """Of all containers, once the store was read. Raises ``StoreFailed`` or ``Timeout``."""
        self._health.require_store(deadline)
        return tuple(states_of(self._registry.all(), deadline))

    def busy(self) -> Mapping[str, str]:
        """The verbs that are changing containers now, by their ids."""
        return {each.container_id: each.verb for each in self._registry.all() if each.verb}

    def readings(self) -> Iterator[Reading]:
        """What there is, as metrics show it; no program is run, and no disk waited for."""
        return self._gauges.read()

    def create(self, request: CreateRequest, deadline: Deadline, *, start: bool = False) -> Created:
        """Make a container that is ready to start, and ``start`` it unless it has been."""
        container = self._creation.create(request, deadline)
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
        wanted_s = self._context.settings.timeouts.stop_s if timeout_s is None else timeout_s
        stop(self._registry.get(container_id), wanted_s, deadline)

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
        if (container := self._registry.find(container_id)) is not None:
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
        observed = observe_all(self._registry.matching(container_filter, after))
        states = container_filter.states
        return (each for each in observed if each.state in states) if states else observed

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
        """What those of :meth:`list_containers` use that have not stopped, as they are taken."""
        matching = self._registry.matching(container_filter, after)
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
        if (exit_status := container.record.exit_status) is None:
            raise ContainerNotFound.of(container.container_id)
        return exit_status

    def watch_events(
        self, after: int | None, event_filter: EventFilter, deadline: Deadline
    ) -> Iterator[EventBatch]:
        """What happens to containers, behind the event ``after``, without end."""
        return self._store.event_log.follow(after, event_filter, deadline)

    def copy_out(self, source: CopySource, deadline: Deadline) -> Generator[PathStat | bytes]:
        """What is at a path in a container, and then the pieces of an archive of it."""
        return copy_out(self._registry.get(source.container_id), source, deadline)

    def copy_into(
        self, target: CopyTarget, chunks: Iterable[bytes], deadline: Deadline
    ) -> Unpacked:
        """Put the files of an archive into a container; how much that was."""
        return copy_into(self._registry.get(target.container_id), target, chunks, deadline)

    def backup_store(self, deadline: Deadline) -> Iterator[bytes]:
        """A copy of the store, in pieces."""
        return self._store.backup(deadline)

    def exec_sync(self, start: ExecStart, deadline: Deadline) -> ExecResult:
        """Run a program in a container to its end."""
        return self._execs.run(start, deadline)

    def exec(self, start: ExecStart, inputs: Inputs, deadline: Deadline) -> Generator[Reply]:
        """Run a program in a container, with input and output as they come."""
        return self._execs.stream(start, inputs, deadline)

    def attach(self, start: AttachStart, inputs: Inputs, deadline: Deadline) -> Generator[Reply]:
        """Attach to a container's first process."""
        return attach(
            self._registry.get(start.container_id), start, inputs, self._backlogs, deadline
        )
