"""Start, pause and resume.

The latter two by the freezer, if the runtime's verbs do nothing else: that takes a tenth of the
time. Each takes the container's lock, and raises ``WrongState``, ``Busy``, or what the runtime's
verb or the cgroup raises.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from ocigrpc.engine.containers.container import Container
from ocigrpc.engine.containers.ownership import require_entry
from ocigrpc.engine.containers.status import guarded_state, observe, require_state
from ocigrpc.engine.model.values import State
from ocigrpc.errors import (
    Busy,
    OcigrpcError,
    PreconditionFailed,
    RuntimeFailed,
    Timeout,
    WrongState,
)
from ocigrpc.host.cgroups.cgroup import Cgroup
from ocigrpc.host.cgroups.count import holds_all_of
from ocigrpc.log import get_logger
from ocigrpc.oci.bundle import container_process
from ocigrpc.oci.executable import require_executable
from ocigrpc.oci.runtime import Runtime
from ocigrpc.oci.shown_bundle import shown_bundle
from ocigrpc.oci.spec.root_files import RunningRoot
from ocigrpc.waiting import Deadline

log = get_logger()

# How long the kernel may take to let a group run; after that, an ancestor must be frozen.
_THAW_S = 1.0
_THAW_LOOK_S = 0.002

# How long a cgroup may take to be frozen by a pause that was cut off.
_STUCK_S = 2.0

# How long a process may take to enter a frozen cgroup, or to end, and how often to look.
_SETTLE_S = 0.5
_LOOK_S = 0.01


def start(container: Container, deadline: Deadline) -> None:
    """Run the program of a created container."""
    container_id = container.container_id
    with _verb("start", container, State.CREATED, deadline=deadline) as runtime:
        _require_executable(container)
        with container.transaction("start"):
            shown = shown_bundle(container.record.bundle_path)
            runtime.start(container_id, deadline, shown)
            container.update(state=State.RUNNING, started_ns=time.time_ns())
    log.info("container.started", container_id=container_id)


def start_created(container: Container, deadline: Deadline) -> None:
    """Start a container that was created just now, or before by the same request.

    One that has been started is left alone; an error says in what state it is ``left``.
    """
    if container.is_started():
        return
    try:
        deadline.check()
        start(container, deadline)
    except OcigrpcError as error:
        # Another call for the same container may have been faster.
        if isinstance(error, WrongState) and container.is_started():
            return
        if not container.removed.is_set():
            state = observe(container).state
            error.metadata |= {"container_id": container.container_id, "left": state.value}
        raise


def finish_start(container: Container, deadline: Deadline) -> None:
    """Start a container, unless a service that died over it has done so; note it then."""
    with container.lock("start", deadline):
        alive = container.init is not None and container.init.alive()
        if not alive or container.is_started():
            # While the lock is held: another verb might end it, and its event would be missing.
            done = {"state": State.RUNNING, "started_ns": time.time_ns()} if alive else {}
            container.update("start", **done)
            return
    start(container, deadline)


def pause(container: Container, deadline: Deadline) -> None:
    """Freeze a running container: all of it, or nothing."""
    container_id = container.container_id
    with _verb("pause", container, State.RUNNING, deadline=deadline) as runtime:
        # Only now: a create that was waited for has pinned it.
        group = container.cgroups.container
        if group.frozen():
            # It was frozen by hand, and is not paused: some of its processes are not in it.
            _refuse_awake(container, deadline)
        try:
            with container.timed_out("PAUSE_TIMEOUT", "not all processes are frozen"):
                _freeze(container, runtime, deadline)
        except OcigrpcError as error:
            if group.freezing() or _by_freezer(container, runtime):
                group.thaw()
            if container.stops:
                # A stop thaws what is being frozen.
                raise Busy.of(container_id, "stop") from error
            raise
        _refuse_awake(container, deadline)
        container.update(state=State.PAUSED)
    log.info("container.paused", container_id=container_id)


def undo_stuck_pause(container: Container, deadline: Deadline) -> None:
    """Thaw what a service that died has begun to freeze, if the kernel does not get it done."""
    group = container.cgroups.container
    if not (container.cgroups.is_pinned and group.freezing()):
        return
    with container.lock("pause", deadline):
        try:
            group.wait_frozen(deadline.within(_STUCK_S))
        except Timeout:
            group.thaw()


def resume(container: Container, deadline: Deadline) -> None:
    """Thaw a paused container."""
    container_id = container.container_id
    with container.lock("resume", deadline):
        # As in a pause.
        group = container.cgroups.container
        # One that is half frozen runs, and can be thawed all the same.
        wanted = (State.PAUSED, State.RUNNING) if group.frozen() else (State.PAUSED,)
        with _runtime_in(container, *wanted, deadline=deadline) as runtime:
            if _by_freezer(container, runtime):
                group.thaw_alone()
            else:
                _resume_by_verb(container, runtime, deadline)
            _require_thawed(group, deadline)
            # Somebody may have paused it by hand before it was started.
            container.update(state=State.RUNNING if container.is_started() else State.CREATED)
    log.info("container.resumed", container_id=container_id)


def _by_freezer(container: Container, runtime: Runtime) -> bool:
    """Whether its cgroup is to be frozen without the runtime; only one that is known to be its."""
    return runtime.pauses_by_freezer and container.cgroups.is_pinned


def _freeze(container: Container, runtime: Runtime, deadline: Deadline) -> None:
    """Freeze its cgroup, by whatever means; when that fails it may be frozen, or in part."""
    group = container.cgroups.container
    if not _by_freezer(container, runtime):
        runtime.pause(container.container_id, deadline)
        group.wait_frozen(deadline.within(runtime.verb_timeout_s))
        return
    group.freeze(deadline.within(runtime.verb_timeout_s))
    # The cgroup of one that has ended can be frozen as well.
    if container.init is None or not container.init.alive():
        raise WrongState.of(container.container_id, State.STOPPED, State.RUNNING)


def _resume_by_verb(container: Container, runtime: Runtime, deadline: Deadline) -> None:
    try:
        runtime.resume(container.container_id, deadline)
    except RuntimeFailed:
        if not container.cgroups.container.frozen():
            # Thawed meanwhile, by a stop or by hand.
            require_state(container, deadline, State.PAUSED)
        raise


def _refuse_awake(container: Container, deadline: Deadline) -> None:
    """Thaw a container, and raise ``PreconditionFailed``, if anything of it is not frozen."""
    group = container.cgroups.container
    try:
        found = sorted(_awake_pids(container, deadline))
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


def _awake_pids(container: Container, deadline: Deadline) -> frozenset[int]:
    """Those that are not frozen, but for such as just enter the cgroup or end."""
    if container.init is not None and holds_all_of(container.cgroups.container, container.init.pid):
        return frozenset()
    bounded = deadline.within(_SETTLE_S)
    found = container.unfrozen_pids()
    while found and bounded.remaining_s() > _LOOK_S:
        deadline.wait(timeout_s=_LOOK_S)
        found = container.unfrozen_pids()
    return found


def _require_executable(container: Container) -> None:
    """Raise ``CannotRun`` while nothing has run yet, if the program can't."""
    process = container_process(container.paths.spec_file)
    with RunningRoot(container.init) as root:
        require_executable(process, root.read_head)


@contextmanager
def _verb(verb: str, container: Container, *wanted: State, deadline: Deadline) -> Iterator[Runtime]:
    """The runtime, with the container locked and in a state that the verb wants."""
    with (
        container.lock(verb, deadline),
        _runtime_in(container, *wanted, deadline=deadline) as runtime,
    ):
        yield runtime


@contextmanager
def _runtime_in(container: Container, *wanted: State, deadline: Deadline) -> Iterator[Runtime]:
    """The runtime, with the container, whose lock is held, in one of these states."""
    with guarded_state(container, deadline, *wanted):
        require_entry(container.record)
        yield container.runtime


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
