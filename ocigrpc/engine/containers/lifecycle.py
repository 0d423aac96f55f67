"""The runtime's own verbs: start, pause and resume."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ocigrpc.engine.containers.container import Container
from ocigrpc.engine.containers.context import Context
from ocigrpc.engine.containers.ownership import require_entry
from ocigrpc.engine.containers.status import Truth
from ocigrpc.engine.containers.unfrozen import wait_frozen
from ocigrpc.engine.model.values import State
from ocigrpc.errors import Busy, OcigrpcError, PreconditionFailed, RuntimeFailed
from ocigrpc.host.cgroups.cgroup import Cgroup
from ocigrpc.log import get_logger
from ocigrpc.oci.bundle import container_spec, table
from ocigrpc.oci.executable import require_executable
from ocigrpc.oci.runtime import Runtime
from ocigrpc.oci.shown_bundle import shown_bundle
from ocigrpc.oci.spec.root_files import RunningRoot
from ocigrpc.waiting import Deadline, timed_out

log = get_logger()

_THAW_S = 1.0
"""How long the kernel may take to let a group run, before an ancestor must be what holds it."""

_THAW_LOOK_S = 0.002


class Verbs:
    """Does to a container what its runtime has a word for.

    Each takes the container's turn, and raises ``WrongState``, ``Busy``, or what the
    runtime's verb raises.
    """

    def __init__(self, node: Context, truth: Truth) -> None:
        self._node = node
        self._truth = truth

    def start(self, container: Container, deadline: Deadline) -> None:
        """Run the program of a created container."""
        container_id = container.container_id
        with self._verb("start", container, State.CREATED, deadline=deadline) as runtime:
            self._require_executable(container)
            with container.transaction("start"):
                shown = shown_bundle(Path(container.record.bundle_path))
                runtime.start(container_id, deadline, shown)
                container.update(state=State.RUNNING, started_ns=time.time_ns())
        log.info("container.started", container_id=container_id)

    def finish_start(self, container: Container, deadline: Deadline) -> None:
        """Start a container, unless a service that died over it has done so; note it then."""
        with container.lock("start", deadline):
            alive = container.init is not None and container.init.alive()
            if not alive or container.is_started():
                # Before anybody else has a turn, who might end it without this being told.
                done = {"state": State.RUNNING, "started_ns": time.time_ns()} if alive else {}
                container.update("start", **done)
                return
        self.start(container, deadline)

    def pause(self, container: Container, deadline: Deadline) -> None:
        """Freeze a running container, all of it; half frozen it is not left."""
        container_id = container.container_id
        group = container.cgroups.container
        with self._verb("pause", container, State.RUNNING, deadline=deadline) as runtime:
            if group.frozen():
                # Somebody else has frozen what was in it, or else it would be paused.
                self._refuse_awake(container, deadline)
            try:
                with timed_out("not all processes are frozen", "PAUSE_TIMEOUT", container_id):
                    runtime.pause(container_id, deadline)
                    # crun does not see to that.
                    group.wait_frozen(deadline.within(runtime.verb_timeout_s))
            except OcigrpcError as error:
                if group.freezing():
                    group.thaw()
                if container.stops:
                    # A stop thaws what is being frozen, and the runtime wonders at it.
                    raise Busy.of(container_id, "stop") from error
                raise
            self._refuse_awake(container, deadline)
            container.update(state=State.PAUSED)
        log.info("container.paused", container_id=container_id)

    def resume(self, container: Container, deadline: Deadline) -> None:
        """Thaw a paused container."""
        container_id = container.container_id
        group = container.cgroups.container
        with container.lock("resume", deadline):
            # One that is half frozen, by whomever, runs and can be thawed all the same.
            wanted = (State.PAUSED, State.RUNNING) if group.frozen() else (State.PAUSED,)
            with self._runtime_in(container, *wanted, deadline=deadline) as runtime:
                try:
                    runtime.resume(container_id, deadline)
                except RuntimeFailed:
                    if not group.frozen():
                        # Thawed meanwhile, by a stop or by hand.
                        self._truth.require_state(container, deadline, State.PAUSED)
                    raise
                _require_thawed(group, deadline)
                # Somebody may have paused it by hand before it was started.
                container.update(state=State.RUNNING if container.is_started() else State.CREATED)
        log.info("container.resumed", container_id=container_id)

    def _refuse_awake(self, container: Container, deadline: Deadline) -> None:
        """Thaw a container, and raise ``PreconditionFailed``, if anything of it is not frozen."""
        group = container.cgroups.container
        try:
            found = sorted(wait_frozen(container, deadline))
        except OcigrpcError:
            group.thaw()
            raise
        if found:
            group.thaw()
            raise PreconditionFailed(
                f"{len(found)} of the container's processes are outside of {group.path}",
                reason="PROCESS_OUTSIDE_CGROUP",
                container_id=container.container_id,
                path=group.path,
                pids=" ".join(map(str, found[:64])),
            )

    def _require_executable(self, container: Container) -> None:
        """Raise ``CannotRun`` while nothing has run yet, if the program can't."""
        spec = container_spec(self._node.paths(container.container_id).spec_file)
        require_executable(table(spec, "process"), RunningRoot(container.init).read_head)

    @contextmanager
    def _verb(
        self, verb: str, container: Container, *wanted: State, deadline: Deadline
    ) -> Iterator[Runtime]:
        """The runtime, with the container for ourselves and in the state that the verb wants."""
        with (
            container.lock(verb, deadline),
            self._runtime_in(container, *wanted, deadline=deadline) as runtime,
        ):
            yield runtime

    @contextmanager
    def _runtime_in(
        self, container: Container, *wanted: State, deadline: Deadline
    ) -> Iterator[Runtime]:
        """The runtime, with the container, whose turn we have, in one of these states."""
        with self._truth.guarded_state(container, deadline, *wanted):
            require_entry(container.record)
            yield self._node.runtime(container.record.runtime_handler)


def _require_thawed(group: Cgroup, deadline: Deadline) -> None:
    """Raise ``PreconditionFailed`` (STILL_FROZEN) when something else keeps a group frozen."""
    bounded = deadline.within(_THAW_S)
    while group.frozen():
        if bounded.remaining_s() <= _THAW_LOOK_S:
            raise PreconditionFailed(
                f"{group.path} is thawed, but a cgroup above it is frozen",
                reason="STILL_FROZEN",
                path=group.path,
            )
        deadline.wait(timeout_s=_THAW_LOOK_S)
