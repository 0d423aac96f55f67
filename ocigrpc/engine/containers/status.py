"""What a container does now: kernel facts first, the runtime when they are not enough."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from contextlib import AbstractContextManager, contextmanager, nullcontext

import msgspec

from ocigrpc.engine.containers.container import Container
from ocigrpc.engine.containers.ownership import require_entry
from ocigrpc.engine.model.record import ContainerView, Record
from ocigrpc.engine.model.states import RUNTIME_WORDS
from ocigrpc.engine.model.values import Provenance, State
from ocigrpc.errors import (
    Busy,
    CgroupFailed,
    ContainerNotFound,
    HostFailed,
    LimitReached,
    MonitorFailed,
    OcigrpcError,
    PreconditionFailed,
    RuntimeFailed,
    Timeout,
    WrongState,
)
from ocigrpc.host.processes.process import Process, alive_among
from ocigrpc.log import get_logger
from ocigrpc.waiting import Deadline

log = get_logger()

# The states in which there is a first process.
ALIVE = (State.CREATED, State.RUNNING, State.PAUSED)

# Those in which none is known, or none is left.
_WITHOUT_PROCESS = (State.CREATING, State.STOPPED)

# To look it up in its class takes as long as half a system call, with Python 3.11.
_RUNNING = State.RUNNING

# Longest state of a runtime that is passed on.
INFO_LIMIT_BYTES = 1 << 20

_HALF_FROZEN = "its cgroup is frozen, but some of its processes are outside of that, and run"

# Longest that the threads of a first process, which has lost its program, take to end.
_DYING_S = 2.0


def status(container: Container, deadline: Deadline) -> ContainerView:
    """All that is known, true now; the runtime is asked when kernel and memory disagree.

    Raises ``Cancelled``, and ``LimitReached`` (TOO_MANY_CALLS) when too many ask already.
    """
    return _confirmed(container, deadline, container.context.asking)


def states_of(containers: Sequence[Container], deadline: Deadline) -> Iterator[State]:
    """The state of each as the kernel shows it; UNKNOWN if that can't be read.

    Raises ``Timeout`` or ``Cancelled``.
    """
    alive = _alive_of(containers)
    for container in containers:
        deadline.check()
        try:
            yield observe(container, alive).state
        except OcigrpcError:
            yield State.UNKNOWN


def current_state(container: Container, deadline: Deadline) -> State:
    """The state alone, as :func:`status` has it."""
    return _confirmed(container, deadline).state


def require_state(container: Container, deadline: Deadline, *wanted: State) -> None:
    """Raise ``WrongState`` unless its state is one of these.

    Or ``ContainerNotFound`` when it has been removed meanwhile.
    """
    if State.PAUSED in wanted and State.RUNNING in wanted and _is_frozen(container):
        return
    state = current_state(container, deadline)
    if state not in wanted:
        if container.removed.is_set():
            raise ContainerNotFound.of(container.container_id)
        # UNKNOWN may be accepted, but nobody wants it.
        *most, last = (each for each in wanted if each is not State.UNKNOWN)
        words = f"{', '.join(most)} or {last}" if most else last
        raise WrongState.of(container.container_id, state, words)


@contextmanager
def guarded_state(container: Container, deadline: Deadline, *wanted: State) -> Iterator[None]:
    """Require one of these states before the block, and again when that fails.

    The container may have ended, been removed or been changed by hand during the block: then
    that is what is raised.
    """
    require_state(container, deadline, *wanted)
    try:
        yield
    except (RuntimeFailed, MonitorFailed, CgroupFailed, HostFailed) as error:
        init = container.init
        if init is not None and init.program() is None:
            # Runtimes call it stopped already.
            init.wait(deadline, _DYING_S)
        require_state(container, deadline, *wanted)
        if init is not None and init.program() is None:
            # It waits for others of its pid namespace to end, which may be frozen.
            raise Busy.of(container.container_id, "its end") from error
        raise


def observe_all(containers: Sequence[Container]) -> Iterator[ContainerView]:
    """What :func:`observe` returns of each, as they are taken."""
    alive = _alive_of(containers)
    for container in containers:
        yield observe(container, alive)


def _alive_of(containers: Sequence[Container]) -> Set[Process]:
    """The first processes that have not ended, as far as one look shows."""
    return alive_among(init for each in containers if (init := each.init) is not None)


def observe(container: Container, alive: Set[Process] = frozenset()) -> ContainerView:
    """The state that memory and kernel show; UNKNOWN where the kernel does not show it.

    ``alive`` are first processes of which it is known that they have not ended.
    """
    record = container.record
    state = _kernel_state(container, record, alive)
    if state is None:
        settled = container.settled.is_set()
        message = "the kernel does not show its cgroup" if settled else "it is being recovered"
        return _view(container, record, State.UNKNOWN, message)
    shown = container.shown
    if shown is None or shown.record is not record or shown.state is not state:
        shown = _view(container, record, state)
        # Not with an exit status that is pending: that is no part of the record.
        container.shown = shown if shown.exit_status is record.exit_status else None
    return shown


def _view(
    container: Container, record: Record, state: State, message: str = "", runtime_state: str = ""
) -> ContainerView:
    exit_status = record.exit_status if state is not State.UNKNOWN else None
    if state is State.STOPPED and exit_status is None:
        exit_status = container.ending.unknown(Provenance.PENDING)
    return ContainerView(record, state, exit_status, message, runtime_state)


def runtime_info(container: Container, deadline: Deadline) -> Mapping[str, str]:
    """The runtime's own state of a container, and conmon's process id."""
    info: dict[str, str] = {}
    if container.monitor is not None and container.monitor.alive():
        info["monitor_pid"] = str(container.monitor.pid)
    try:
        runtime = container.runtime
        with container.context.asking():
            state = runtime.state_json(container.container_id, deadline)
        if len(state) > INFO_LIMIT_BYTES:
            info["state_error"] = f"it is longer than {INFO_LIMIT_BYTES} bytes"
        else:
            info["state"] = state.decode(errors="replace")
    except (LimitReached, RuntimeFailed, Timeout) as error:
        info["state_error"] = error.message
    return info


def _confirmed(
    container: Container,
    deadline: Deadline,
    asking: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> ContainerView:
    """What is observed, or what the runtime reports if memory does not agree with that.

    The runtime is asked in an ``asking``.
    """
    observed = observe(container)
    record, state = observed.record, observed.state
    if state is State.STOPPED or state is record.state:
        return observed
    if state is State.RUNNING and container.cgroups.container.frozen():
        return msgspec.structs.replace(observed, message=_HALF_FROZEN)
    if container.verb and state is not State.UNKNOWN:
        # A verb of ours explains why memory is behind the kernel.
        return observed
    with asking():
        return _asked(container, container.record, deadline)


def _is_frozen(container: Container) -> bool:
    """Whether it is as we have paused it: PAUSED, or RUNNING if only a part of it is frozen.

    Which of them it is takes a look at each of its processes.
    """
    return (
        container.record.state is State.PAUSED
        and container.init is not None
        and container.init.alive()
        and container.cgroups.container.frozen() is True
    )


def _kernel_state(container: Container, record: Record, alive: Set[Process]) -> State | None:
    """What the kernel shows; None when it can't tell."""
    if record.state in _WITHOUT_PROCESS:
        return record.state
    if container.init is None and not container.settled.is_set():
        # Recovery has not searched for its processes yet.
        return None
    init = container.init
    if init is None or not (init in alive or init.alive()):
        # None: it had ended before we came back, and its monitor has not reported how.
        return State.STOPPED
    frozen = container.cgroups.container.frozen()
    if frozen is None:
        # It may have ended meanwhile, and its cgroup be gone.
        return None if init.alive() else State.STOPPED
    if frozen:
        # Twice: one that is just being put into the cgroup is not outside of it.
        half = container.unfrozen_pids() and container.unfrozen_pids()
        return State.RUNNING if half else State.PAUSED
    return _RUNNING if container.is_started() else State.CREATED


def _asked(container: Container, record: Record, deadline: Deadline) -> ContainerView:
    """What the runtime reports, unless the container has ended meanwhile."""
    runtime = container.runtime
    word: str | None = None
    message = ""
    try:
        require_entry(record)
        word = runtime.state(container.container_id, deadline).status
    except (RuntimeFailed, Timeout, PreconditionFailed) as error:
        message = error.message
    if container.init is not None and not container.init.alive():
        return _view(container, container.record, State.STOPPED)
    if word is None:
        return _view(container, record, State.UNKNOWN, message)
    state = RUNTIME_WORDS.get(word, State.UNKNOWN)
    if state in (State.UNKNOWN, State.STOPPED):
        log.error(
            "runtime.state_untrue",
            container_id=container.container_id,
            reason="RUNTIME_STATE_UNTRUE",
            runtime_state=word,
        )
        message = f"the OCI runtime reports {word!r} for a container whose first process lives"
        return _view(container, record, State.UNKNOWN, message, word)
    if container.record is record and state is not record.state:
        log.info("container.changed_elsewhere", state=state.value, before=record.state.value)
        container.update(state=state)
    return _view(container, container.record, state)
