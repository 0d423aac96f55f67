"""Creating a container: all of it, or nothing."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass

from ocigrpc.deadline import Deadline
from ocigrpc.engine.container import Container
from ocigrpc.engine.enclosure import Enclosure
from ocigrpc.engine.exits import Exits
from ocigrpc.engine.node import Node
from ocigrpc.engine.record import Record, fingerprint
from ocigrpc.engine.registry import Registry
from ocigrpc.engine.signals import parse_signal
from ocigrpc.engine.values import (
    BundleSource,
    ConfigSource,
    Created,
    CreateRequest,
    MonitorLostPolicy,
    SpecSource,
    State,
)
from ocigrpc.errors import (
    HostFailed,
    InvalidArgument,
    OcigrpcError,
    RuntimeFailed,
    Timeout,
)
from ocigrpc.host.descriptors import require_descriptors
from ocigrpc.log import bind_log, get_logger
from ocigrpc.oci.bundle import (
    Spec,
    adopt,
    asks_for_terminal,
    bundle_spec,
    make_bundle,
    text_spec,
    write_spec,
)
from ocigrpc.oci.conmon import Launch, Monitor, create_argv
from ocigrpc.oci.log_path import check_log_path
from ocigrpc.oci.runtime import Runtime, find_program
from ocigrpc.oci.spec import spec_of
from ocigrpc.oci.work_file import write_new_file
from ocigrpc.settings import cgroup_parent_problem

log = get_logger()

# More than a create takes: what is begun must be undone, and that takes some, too.
_DESCRIPTORS = 32


@dataclass(frozen=True)
class _Plan:
    """A request that has been checked, and what follows from it; nothing is done yet."""

    request: CreateRequest
    record: Record
    runtime: Runtime
    spec: Spec
    monitor: Monitor
    enclosure: Enclosure


class Creation:
    """Makes containers."""

    def __init__(self, node: Node, registry: Registry, exits: Exits) -> None:
        self._node = node
        self._registry = registry
        self._exits = exits

    def create(self, request: CreateRequest, deadline: Deadline) -> Created:
        """Make the container that is asked for, or answer the one made for the same request.

        Raises what ``CreateContainer`` in the proto says; then nothing of it is left.
        """
        present = self._created_before(request, deadline)
        if present is not None:
            return present
        require_descriptors(_DESCRIPTORS)
        plan = self._planned(request)
        bind_log(container_id=plan.record.container_id)
        while True:
            container, ours = self._registry.reserve(plan.record)
            if ours:
                self._make(container, plan, deadline)
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
        deadline.wait(container.settled)
        return self._registry.find(container.container_id) is container

    def _planned(self, request: CreateRequest) -> _Plan:
        settings = self._node.settings
        runtime = self._node.requested_runtime(request.runtime_handler)
        conmon_path = find_program(settings.conmon_path)
        if conmon_path is None:
            raise HostFailed(
                f"conmon is not at {settings.conmon_path!r}, or can't be executed",
                reason="MONITOR_NOT_FOUND",
                path=settings.conmon_path,
            )
        container_id = request.container_id or secrets.token_hex(32)
        enclosure = self._enclosure(request, container_id)
        layout = self._node.layout(container_id)
        spec = _source_spec(request, container_id)
        terminal = request.terminal or asks_for_terminal(spec)
        if request.log_path:
            check_log_path(request.log_path)
        log_path = request.log_path or self._node.log_path(container_id)
        record = Record(
            container_id=container_id,
            fingerprint=fingerprint(request),
            created_ns=time.time_ns(),
            state=State.CREATING,
            runtime_handler=runtime.name,
            cgroup_manager=enclosure.manager,
            cgroup_parent=enclosure.parent,
            cgroup_path=enclosure.container.path,
            bundle_path=str(layout.bundle),
            log_path=log_path,
            stop_signal=parse_signal(request.stop_signal or "SIGTERM", "stop_signal"),
            name=request.name,
            log_is_ours=not request.log_path,
            log_size_max_bytes=request.log_size_max_bytes,
            made_parent=self._made_parent(enclosure),
            labels=request.labels,
            annotations=request.annotations,
            terminal=terminal,
            stdin=request.stdin,
            stdin_once=request.stdin_once,
            monitor_lost_policy=request.monitor_lost_policy
            or MonitorLostPolicy(settings.monitor_lost_policy),
        )
        monitor = Monitor(
            conmon_path=conmon_path,
            container_id=container_id,
            layout=layout,
            runtime_path=runtime.find(),
            runtime_argv=runtime.global_argv,
            log_path=log_path,
            log_level=settings.conmon_log_level,
            log_size_max_bytes=request.log_size_max_bytes,
            systemd_cgroup=enclosure.by_systemd,
            terminal=terminal,
            stdin=request.stdin,
            stdin_once=request.stdin_once,
            no_pivot=request.no_pivot,
        )
        spec = adopt(spec, enclosure.cgroups_path, request.annotations, terminal)
        return _Plan(request, record, runtime, spec, monitor, enclosure)

    def _enclosure(self, request: CreateRequest, container_id: str) -> Enclosure:
        settings = self._node.settings
        parent = request.cgroup_parent or settings.cgroup_parent
        problem = cgroup_parent_problem(settings.cgroup_manager, parent)
        if problem:
            raise InvalidArgument("cgroup_parent", problem, reason="INVALID_CGROUP_PARENT")
        return self._node.enclosure(settings.cgroup_manager, parent, container_id)

    def _made_parent(self, enclosure: Enclosure) -> str:
        """The topmost cgroup above the container's that is there for our containers only."""
        if enclosure.by_systemd or enclosure.parent == self._node.settings.cgroup_parent:
            return ""  # systemd's, or here for as long as the service is.
        beside = (each.record for each in self._registry.all())
        known = [each.made_parent for each in beside if each.cgroup_parent == enclosure.parent]
        return known[0] if known else self._node.topmost_missing(enclosure.parent)

    def _make(self, container: Container, plan: _Plan, deadline: Deadline) -> None:
        timeout_s = self._node.settings.runtimes[plan.runtime.name].create_timeout_s
        bounded = deadline.within(timeout_s)
        left: list[OcigrpcError] = []
        with ExitStack() as undo:
            undo.callback(lambda: self._registry.drop(container, remembered=bool(left)))
            with container.turn("create", bounded):
                container.begin("create")
                undo.callback(self._node.remove_files, plan.record)
                plan.enclosure.refuse_occupied()
                self._node.make_directories()
                make_bundle(plan.monitor.layout)
                if plan.record.log_is_ours or not os.path.lexists(plan.record.log_path):
                    write_new_file(plan.record.log_path)
                    undo.callback(_unlink, plan.record.log_path)
                self._launch(container, plan, left, bounded)
            undo.pop_all()
        container.settled.set()
        self._exits.watch(container)
        log.info("container.created", container_id=container.container_id, pid=_pid(container))

    def _launch(
        self, container: Container, plan: _Plan, left: list[OcigrpcError], deadline: Deadline
    ) -> None:
        """``left`` gets what kept it from being undone."""
        log.debug("monitor.starting", argv=create_argv(plan.monitor))
        phase = _Phase(container.container_id)
        with phase.named(), Launch(plan.monitor) as launch, ExitStack() as undo:
            # Undone before the launch is left: conmon whose sync pipe is closed dies, and
            # its container would be alone.
            undo.callback(lambda: left.extend(self._end_processes(plan)))
            phase.name = "cgroup"
            plan.enclosure.enter(launch.pid, deadline)
            # Not sooner: should we die, conmon goes on by itself, and while it is not where
            # it will be looked for, the runtime must find nothing to create.
            write_spec(plan.monitor.layout, plan.spec)
            phase.name = "monitor"
            monitor_pid = launch.go(deadline)
            phase.name = "sync"
            try:
                init_pid = launch.created_pid(deadline)
            except Timeout:
                # conmon alone has its group to itself; with the runtime, it waits for that.
                phase.name = "runtime" if len(plan.enclosure.monitor.members()) > 1 else "sync"
                raise
            self._note_created(container, plan.enclosure, init_pid, monitor_pid)
            undo.pop_all()

    def _end_processes(self, plan: _Plan) -> Sequence[OcigrpcError]:
        # The caller's deadline has passed, most likely; undoing has one of its own.
        deadline = Deadline(self._node.settings.undo_timeout_s)
        return self._node.end_processes(plan.record, plan.enclosure, deadline)

    def _note_created(
        self, container: Container, enclosure: Enclosure, init_pid: int, monitor_pid: int
    ) -> None:
        try:
            container.init = self._node.member(init_pid, enclosure.container)
            container.monitor = self._node.member(monitor_pid, enclosure.monitor)
        except ProcessLookupError as error:
            raise RuntimeFailed(
                "the container ended before it was ready", reason="CONTAINER_ENDED"
            ) from error
        container.settle(
            "create",
            state=State.CREATED,
            init=container.init.identity,
            init_program=container.init.program(),
            monitor=container.monitor.identity,
        )


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
            raise Timeout(
                f"the container was not created in time; it was in phase {self.name}",
                reason="CREATE_TIMEOUT",
                phase=self.name,
                container_id=self._container_id,
            ) from error
        except OcigrpcError as error:
            ran = isinstance(error, RuntimeFailed)
            error.metadata["phase"] = "runtime" if ran else self.name
            raise


def _unlink(path: str) -> None:
    with suppress(FileNotFoundError):
        os.unlink(path)


def _pid(container: Container) -> int:
    return container.record.init.pid if container.record.init else 0


def _source_spec(request: CreateRequest, container_id: str) -> Spec:
    match request.source:
        case BundleSource(bundle_path):
            return bundle_spec(bundle_path)
        case SpecSource(spec_json):
            return text_spec(spec_json)
        case ConfigSource(config):
            return spec_of(config, container_id=container_id, terminal=request.terminal)
