"""Creating a container: all of it, or nothing."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from ocigrpc.conmon.argv import create_argv
from ocigrpc.conmon.launch import Launch
from ocigrpc.engine.containers.background import BackgroundWork
from ocigrpc.engine.containers.container import Container
from ocigrpc.engine.containers.context import Context
from ocigrpc.engine.containers.exit_monitor import ExitMonitor
from ocigrpc.engine.containers.ownership import entry_made, id_in_use, is_taken, refuse_taken
from ocigrpc.engine.containers.plan import Plan, Planning
from ocigrpc.engine.containers.registry import Registry
from ocigrpc.engine.model.record import fingerprint
from ocigrpc.engine.model.values import Created, CreateRequest, State
from ocigrpc.errors import (
    Busy,
    OcigrpcError,
    PreconditionFailed,
    RuntimeFailed,
    Timeout,
)
from ocigrpc.host.descriptors import require_descriptors
from ocigrpc.host.files.create import write_new_file
from ocigrpc.log import bind_log, get_logger
from ocigrpc.oci.bundle import fill_spec, make_bundle, write_spec
from ocigrpc.oci.shown_bundle import show_bundle
from ocigrpc.waiting import Deadline

log = get_logger()

# More than a create takes: what is begun must be undone, and that takes some, too.
_DESCRIPTORS = 32


class Creation:
    """Makes containers."""

    def __init__(self, node: Context, registry: Registry, exits: ExitMonitor) -> None:
        self._node = node
        self._registry = registry
        self._exits = exits
        self._planning = Planning(node, registry)
        self._afterwards = BackgroundWork()

    def close(self) -> None:
        """Wait for what is still being undone; what is not, the next start undoes."""
        self._afterwards.close(self._node.settings.timeouts.undo_s)

    def create(self, request: CreateRequest, deadline: Deadline) -> Created:
        """Make the container that is asked for, or answer the one made for the same request.

        Raises what ``CreateContainer`` in the proto says; then nothing of it is left, unless
        the time-out says that it is still being undone.
        """
        present = self._created_before(request, deadline)
        if present is not None:
            return present
        require_descriptors(_DESCRIPTORS)
        self._afterwards.require_room()
        while True:
            plan = self._planning.plan(request, deadline)
            bind_log(container_id=plan.record.container_id)
            container, ours = self._registry.reserve(plan.record)
            if ours:
                self._make_in_time(container, plan, deadline)
            elif not self._settled(container, deadline):
                continue  # It failed, and is gone: now it is our turn to try.
            return Created(container.container_id, _pid(container))

    def _created_before(self, request: CreateRequest, deadline: Deadline) -> Created | None:
        """The answer to a request that is being repeated, without looking at its files again."""
        present = self._registry.find(request.container_id)
        if present is None or present.record.fingerprint != fingerprint(request):
            return None
        if not self._settled(present, deadline):
            return None
        return Created(present.container_id, _pid(present))

    def _settled(self, container: Container, deadline: Deadline) -> bool:
        """Wait until another call has made the container; false when that failed."""
        try:
            deadline.wait(container.settled)
        except Timeout as error:
            raise Busy.of(container.container_id, "create") from error
        return self._registry.find(container.container_id) is container

    def _make_in_time(self, container: Container, plan: Plan, deadline: Deadline) -> None:
        """Make it; a time-out says of what is not undone when the answer is due that it is not."""
        left: list[OcigrpcError] = []
        phase = _Phase(container.container_id)
        try:
            made = self._afterwards.run(
                lambda: self._make(container, plan, phase, left, deadline), deadline
            )
        except Timeout as error:
            error.metadata["undone"] = "false" if left else "true"
            raise
        if not made:
            raise phase.timed_out(undone="false")

    def _make(
        self,
        container: Container,
        plan: Plan,
        phase: _Phase,
        left: list[OcigrpcError],
        deadline: Deadline,
    ) -> None:
        """``left`` gets what kept it from being undone."""
        timeout_s = self._node.settings.runtimes[plan.runtime.name].create_timeout_s
        bounded = deadline.within(timeout_s)
        with ExitStack() as undo:
            undo.callback(self._registry.drop, container, remembered=True)
            with container.lock("create", bounded):
                # Not yet written down: the next start would take what is there for ours.
                plan.cgroups.refuse_occupied()
                refuse_taken(plan.runtime, plan.record)
                _refuse_files(plan)
                container.begin("create")
                undo.callback(_forget, container, left)
                self._node.make_directories()
                if plan.record.log_is_new:
                    write_new_file(plan.record.log_path)
                    undo.callback(self._node.remove_new_log, plan.record)
                make_bundle(plan.monitor.paths)
                undo.callback(lambda: left.extend(self._node.remove_files(plan.record)))
                if plan.shown:
                    show_bundle(plan.monitor.paths, plan.shown)
                self._launch(container, plan, phase, left, bounded)
            undo.pop_all()
        container.settled.set()
        self._exits.watch(container)
        log.info("container.created", container_id=container.container_id, pid=_pid(container))

    def _launch(
        self,
        container: Container,
        plan: Plan,
        phase: _Phase,
        left: list[OcigrpcError],
        deadline: Deadline,
    ) -> None:
        log.debug("monitor.starting", argv=create_argv(plan.monitor))
        with phase.named(), Launch(plan.monitor) as launch, ExitStack() as undo:
            # Undone before the launch is left: conmon whose sync pipe is closed dies, and
            # its container would be alone.
            undo.callback(lambda: left.extend(self._end_processes(container, plan)))
            phase.name = "cgroup"
            plan.cgroups.enter(launch.pid, deadline)
            # Not sooner: should we die, conmon goes on by itself, and while it is not where
            # it will be looked for, the runtime must find nothing to create.
            (fill_spec if plan.shown else write_spec)(plan.monitor.paths, plan.spec)
            phase.name = "monitor"
            monitor_pid = launch.go(deadline)
            phase.name = "sync"
            try:
                init_pid = launch.created_pid(deadline)
            except Timeout:
                # conmon alone has its group to itself; with the runtime, it waits for that.
                phase.name = "runtime" if len(plan.cgroups.monitor.members()) > 1 else "sync"
                raise
            except RuntimeFailed as error:
                self._refuse_taken(container, plan, error, deadline)
                raise
            # Later the caller may have been told that there is none.
            deadline.check()
            self._note_created(container, plan, init_pid, monitor_pid, undo)
            undo.pop_all()

    def _refuse_taken(
        self, container: Container, plan: Plan, failure: RuntimeFailed, deadline: Deadline
    ) -> None:
        """Raise ``ContainerExists`` if somebody was quicker to give the runtime the id."""
        if is_taken(plan.runtime, plan.record, failure, deadline):
            # What is there now, ours has not made.
            container.update(runtime_entry=None)
            raise id_in_use(plan.runtime, plan.record) from failure

    def _end_processes(self, container: Container, plan: Plan) -> Sequence[OcigrpcError]:
        # The caller's deadline has passed, most likely; undoing has one of its own.
        deadline = Deadline(self._node.settings.timeouts.undo_s)
        return self._node.end_processes(container.record, plan.cgroups, deadline)

    def _note_created(
        self,
        container: Container,
        plan: Plan,
        init_pid: int,
        monitor_pid: int,
        undo: ExitStack,
    ) -> None:
        cgroups = plan.cgroups
        try:
            container.init = self._node.member(init_pid, cgroups.container)
            undo.callback(container.init.close)
            container.monitor = self._node.member(monitor_pid, cgroups.monitor)
            undo.callback(container.monitor.close)
        except ProcessLookupError as error:
            raise RuntimeFailed(
                "the container ended before it was ready", reason="CONTAINER_ENDED"
            ) from error
        groups = cgroups.container.identity(), cgroups.monitor.identity()
        container.commit(
            "create",
            state=State.CREATED,
            init=container.init.identity,
            init_program=container.init.program(),
            monitor=container.monitor.identity,
            runtime_entry=entry_made(plan.record),
            container_group=groups[0],
            monitor_group=groups[1],
        )
        container.cgroups.pin(*groups)


class _Phase:
    """How far a launch has come, for the error if it comes no further."""

    def __init__(self, container_id: str) -> None:
        self.name = "spawn"
        self._container_id = container_id

    @contextmanager
    def named(self) -> Iterator[None]:
        """Put the phase into every error of the block; a time-out is CREATE_TIMEOUT."""
        try:
            yield
        except Timeout as error:
            raise self.timed_out() from error
        except OcigrpcError as error:
            ran = isinstance(error, RuntimeFailed)
            error.metadata["phase"] = "runtime" if ran else self.name
            raise

    def timed_out(self, **metadata: str) -> Timeout:
        """The error of a create that has come no further."""
        return Timeout(
            f"the container was not created in time; it was in phase {self.name}",
            reason="CREATE_TIMEOUT",
            phase=self.name,
            container_id=self._container_id,
            **metadata,
        )


def _refuse_files(plan: Plan) -> None:
    """Raise ``PreconditionFailed`` when something is where files of the container will be."""
    record, bundle = plan.record, plan.monitor.paths.bundle
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


def _forget(container: Container, left: Sequence[OcigrpcError]) -> None:
    """Have the store forget a create, unless there is something ``left`` of it to undo."""
    if not left:
        container.delete()


def _pid(container: Container) -> int:
    return container.record.init.pid if container.record.init else 0
