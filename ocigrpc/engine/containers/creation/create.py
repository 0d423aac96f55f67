"""Creating a container: all of it, or nothing."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial

from ocigrpc.conmon.launch import Launch
from ocigrpc.engine.containers.container import Container
from ocigrpc.engine.containers.context import Context
from ocigrpc.engine.containers.creation.background import BackgroundWork
from ocigrpc.engine.containers.creation.plan import Plan, Planner
from ocigrpc.engine.containers.exit_monitor import ExitMonitor
from ocigrpc.engine.containers.ownership import (
    entry_made,
    id_in_use,
    is_taken,
    member,
    refuse_taken,
)
from ocigrpc.engine.containers.registry import ContainerRegistry
from ocigrpc.engine.containers.teardown import (
    attempt,
    end_processes,
    release_root,
    remove_files,
    remove_new_log,
)
from ocigrpc.engine.model.record import fingerprint
from ocigrpc.engine.model.values import CreateRequest, State
from ocigrpc.errors import (
    Busy,
    OcigrpcError,
    PreconditionFailed,
    RuntimeFailed,
    Timeout,
)
from ocigrpc.host.descriptors import require_descriptors
from ocigrpc.host.files.directory import write_new_file
from ocigrpc.host.processes.process import Process
from ocigrpc.log import bind_log, get_logger
from ocigrpc.metrics import CREATE_PHASE_DURATION, RUNTIME_RUNS
from ocigrpc.oci.bundle import fill_spec, make_bundle, write_spec
from ocigrpc.oci.null_device import keep_null_device
from ocigrpc.oci.shown_bundle import show_bundle
from ocigrpc.traces import Phases
from ocigrpc.waiting import Deadline

log = get_logger()

# More than a create takes: a create that fails must be undone, and that takes some, too.
_DESCRIPTORS = 32


class Creation:
    """Makes containers, and has an undo go on that takes longer than its caller waits."""

    def __init__(self, context: Context, registry: ContainerRegistry, exits: ExitMonitor) -> None:
        self._context = context
        self._registry = registry
        self._exits = exits
        # Called while the runtime works on a container, so that it takes none of the caller's time.
        self.meanwhile: Callable[[Container], None] = lambda container: None
        self._background = BackgroundWork()

    def close(self) -> None:
        """Wait for what is still being undone; what is not, the next start undoes."""
        self._background.close(self._context.settings.timeouts.undo_s)

    def create(self, request: CreateRequest, deadline: Deadline) -> Container:
        """Make the container that is asked for, or answer the one made for the same request.

        Raises the proto's errors of ``CreateContainer``; then nothing of it is left, unless a
        time-out has ``undone`` false in its metadata.
        """
        present = self._registry.find(request.container_id)
        is_repeated = present is not None and present.record.fingerprint == fingerprint(request)
        if present is not None and is_repeated and self._settled(present, deadline):
            # Without reading its files again.
            return present
        require_descriptors(_DESCRIPTORS)
        self._background.require_room()
        while True:
            with ExitStack() as undo:
                plan = Planner(request, self._context, self._registry).plan(deadline, undo)
                bind_log(container_id=plan.record.container_id)
                container, ours = self._registry.reserve(plan.record)
                if ours:
                    # From now on it is undone with the create.
                    undo.pop_all()
            if ours:
                create = _Create(container, plan, self._registry, self.meanwhile)
                self._make_in_time(create, deadline)
            elif not self._settled(container, deadline):
                continue  # It failed, and is gone: try it here.
            return container

    def _settled(self, container: Container, deadline: Deadline) -> bool:
        """Wait until another call has made the container; false when that failed."""
        try:
            deadline.wait(container.settled)
        except Timeout as error:
            raise Busy.of(container.container_id, "create") from error
        return self._registry.find(container.container_id) is container

    def _make_in_time(self, create: _Create, deadline: Deadline) -> None:
        """Make it; a time-out has in its metadata whether the create is undone by then."""
        try:
            container = create.make(deadline)
        except BaseException as error:
            if not self._background.run(create.end, deadline):
                raise create.timed_out(undone="false") from error
            if isinstance(error, Timeout):
                error.metadata["undone"] = "false" if create.not_undone else "true"
            raise
        self._exits.watch(container)
        log.info("container.created", container_id=container.container_id, pid=container.init_pid)


class _Create:
    """One container that is being made.

    ``not_undone`` is what kept the create from being undone, if it has failed.
    """

    def __init__(
        self,
        container: Container,
        plan: Plan,
        registry: ContainerRegistry,
        meanwhile: Callable[[Container], None],
    ) -> None:
        self._meanwhile = meanwhile
        self._container = container
        self._plan = plan
        self._registry = registry
        self._made = False
        # What is to be done at the end: most of it unless the container is made.
        self._end = ExitStack()
        # How far its launch has come.
        self._phases = Phases(CREATE_PHASE_DURATION, "spawn")
        self.not_undone: list[OcigrpcError] = []

    def make(self, deadline: Deadline) -> Container:
        """Make it. If that fails, :meth:`end` is due, which may take longer than ``deadline``."""
        container, plan = self._container, self._plan
        handler = container.context.settings.runtimes[plan.record.runtime_handler]
        bounded = deadline.within(handler.create_timeout_s)
        self._undo(lambda: self._registry.drop(container, remembered=True))
        self._undo(self._release_root)
        self._end.enter_context(container.lock("create", bounded))
        # Check before the intent is stored: after a crash, recovery kills and removes whatever
        # an intent names, and this may be somebody else's.
        container.cgroups.refuse_occupied()
        refuse_taken(container.runtime, plan.record)
        _refuse_files(plan)
        container.begin("create")
        self._undo(self._delete_undone)
        container.context.make_directories()
        if plan.record.log_is_new:
            write_new_file(plan.record.log_path)
            self._undo(lambda: remove_new_log(plan.record))
            container.log_is_rotated = False
        make_bundle(container.paths)
        self._undo(lambda: self.not_undone.extend(remove_files(container)))
        if plan.shown:
            show_bundle(container.paths, plan.shown)
        # When nothing of it can run any more.
        self._undo(lambda: self.not_undone.extend(attempt(partial(keep_null_device, plan.spec))))
        with self._explained(), self._phases:
            self._launch(bounded)
        self._made = True
        try:
            self.end()
        finally:
            container.settled.set()
        return container

    def end(self) -> None:
        """Let go of what making it has taken; undo all of it unless it is made."""
        self._end.close()

    def _undo(self, step: Callable[[], None]) -> None:
        """Have a step taken at the end unless the container is made."""
        self._end.callback(lambda: None if self._made else step())

    def _launch(self, deadline: Deadline) -> None:
        container, plan = self._container, self._plan
        self._phases.enter("spawn")
        launch = self._end.enter_context(Launch(plan.conmon))
        # Undone before the launch is left: conmon whose sync pipe is closed dies, and its
        # container would be alone.
        self._undo(self._end_processes)
        self._phases.enter("cgroup")
        container.cgroups.enter(launch.pid, deadline)
        # Not sooner: should we die, conmon goes on by itself, and while it is not where it will
        # be looked for, the runtime must find nothing to create.
        (fill_spec if plan.shown else write_spec)(container.paths, plan.spec)
        self._phases.enter("monitor")
        monitor = self._held_monitor(launch.go(deadline))
        RUNTIME_RUNS.add(plan.record.runtime_handler, "create")
        self._meanwhile(container)
        self._phases.enter("sync")
        try:
            init_pid = launch.created_pid(deadline)
        except Timeout:
            # conmon alone has its group to itself; with the runtime, it waits for that.
            if len(container.cgroups.monitor.members()) > 1:
                self._phases.name = "runtime"
            raise
        except RuntimeFailed as error:
            self._refuse_taken(error, deadline)
            raise
        keep_null_device(plan.spec)
        self._phases.succeed()
        # Later the caller may have given up.
        deadline.check()
        self._commit(init_pid, monitor)

    def _refuse_taken(self, failure: RuntimeFailed, deadline: Deadline) -> None:
        """Raise ``ContainerExists`` if somebody was quicker to give the runtime the id."""
        runtime, record = self._container.runtime, self._plan.record
        if is_taken(runtime, record, failure, deadline):
            # Our runtime has not made the entry that is there now.
            self._container.update(runtime_entry=None)
            raise id_in_use(runtime, record) from failure

    def _held_monitor(self, pid: int) -> Process | None:
        """The monitor; None if it has ended already, after a report that says why."""
        container = self._container
        try:
            monitor = member(pid, container.cgroups.monitor, container.context.hierarchies)
        except ProcessLookupError:
            return None
        self._undo(monitor.close)
        return monitor

    def _commit(self, init_pid: int, monitor: Process | None) -> None:
        """Store that it is created, with its processes, which are held from now on."""
        container, cgroups = self._container, self._container.cgroups
        try:
            if monitor is None:
                raise ProcessLookupError
            init = member(init_pid, cgroups.container, container.context.hierarchies)
        except ProcessLookupError as error:
            raise RuntimeFailed(
                "the container ended before it was ready", reason="CONTAINER_ENDED"
            ) from error
        self._undo(init.close)
        container.init, container.monitor = init, monitor
        group = cgroups.container.identity()
        container.commit(
            "create",
            state=State.CREATED,
            init=init.identity,
            init_program=init.program(),
            monitor=monitor.identity,
            runtime_entry=entry_made(self._plan.record),
            container_group=group,
            monitor_group=cgroups.monitor.identity(),
        )
        cgroups.pin(group)

    def _end_processes(self) -> None:
        # The caller's deadline has passed, most likely; undoing has one of its own.
        deadline = Deadline(self._container.context.settings.timeouts.undo_s)
        self.not_undone.extend(end_processes(self._container, deadline))

    def _release_root(self) -> None:
        """Give back its root, unless something is left that may use it: that is undone first."""
        if not self.not_undone:
            deadline = Deadline(self._container.context.settings.timeouts.undo_s)
            self.not_undone.extend(release_root(self._container, deadline))

    def _delete_undone(self) -> None:
        """Have the store forget the create, unless there is something left of it to undo."""
        self._release_root()
        if not self.not_undone:
            self._container.delete()

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Put the phase into every error of the block; a time-out is CREATE_TIMEOUT."""
        try:
            yield
        except Timeout as error:
            raise self.timed_out() from error
        except OcigrpcError as error:
            ran = isinstance(error, RuntimeFailed)
            error.metadata["phase"] = "runtime" if ran else self._phases.name
            raise

    def timed_out(self, **metadata: str) -> Timeout:
        """The error of a create that has come no further."""
        return Timeout(
            f"the container was not created in time; it was in phase {self._phases.name}",
            reason="CREATE_TIMEOUT",
            phase=self._phases.name,
            container_id=self._container.container_id,
            **metadata,
        )


def _refuse_files(plan: Plan) -> None:
    """Raise ``PreconditionFailed`` when something is where files of the container will be."""
    record, bundle = plan.record, plan.conmon.paths.bundle
    if os.path.lexists(bundle):
        raise PreconditionFailed(
            f"{bundle} is there already, and is no container's of ours",
            reason="BUNDLE_EXISTS",
            path=bundle,
        )
    if record.log_is_ours and os.path.lexists(record.log_path):
        raise PreconditionFailed(
            f"{record.log_path} is there already, but no container of ours writes to it",
            reason="LOG_EXISTS",
            path=record.log_path,
        )
