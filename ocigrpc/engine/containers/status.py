"""What a container does now: kernel facts first, the runtime when they are not enough."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from ocigrpc.engine.containers.container import Container
from ocigrpc.engine.containers.context import Context
from ocigrpc.engine.containers.exit_monitor import unknown_exit
from ocigrpc.engine.containers.ownership import require_entry
from ocigrpc.engine.containers.unfrozen import unfrozen
from ocigrpc.engine.model.record import Record
from ocigrpc.engine.model.states import RUNTIME_WORDS
from ocigrpc.engine.model.values import ContainerView, Provenance, State
from ocigrpc.errors import (
    Busy,
    CgroupFailed,
    ContainerNotFound,
    HostFailed,
    LimitReached,
    MonitorFailed,
    PreconditionFailed,
    RuntimeFailed,
    Timeout,
    WrongState,
)
from ocigrpc.log import get_logger
from ocigrpc.waiting import Deadline

log = get_logger()

ALIVE = (State.CREATED, State.RUNNING, State.PAUSED)
"""The states in which there is a first process."""

_HALF_FROZEN = "its cgroup is frozen, but some of its processes are outside of that, and run"

_DYING_S = 2.0
"""Longest that the threads of a first process, which has lost its program, take to end."""


ASKING_LIMIT = 16
"""Most questions of clients that wait for runtimes at once: all others need none."""


class Truth:
    """Answers for containers, confirmed with the kernel."""

    def __init__(self, node: Context) -> None:
        self._node = node
        self._asking = threading.BoundedSemaphore(ASKING_LIMIT)

    def look(self, container: Container, deadline: Deadline) -> ContainerView:
        """What :meth:`status` says, for a client that asks for nothing else.

        Raises besides what :meth:`asking` raises.
        """
        known = self._known(container)
        if known is not None:
            return known
        with self.asking():
            return self._asked(container, container.record, deadline)

    @contextmanager
    def asking(self) -> Iterator[None]:
        """Ask a runtime on behalf of a client in a ``with``; raises ``LimitReached``.

        One that hangs must not hold up those who ask what the kernel can answer.
        """
        if not self._asking.acquire(blocking=False):
            raise LimitReached(
                f"{ASKING_LIMIT} calls wait for OCI runtimes to say how containers are",
                reason="TOO_MANY_CALLS",
                limit=ASKING_LIMIT,
            )
        try:
            yield
        finally:
            self._asking.release()

    def status(self, container: Container, deadline: Deadline) -> ContainerView:
        """All that is known, true now. Asks the runtime when kernel and memory disagree.

        Raises ``Cancelled``.
        """
        return self._known(container) or self._asked(container, container.record, deadline)

    def _known(self, container: Container) -> ContainerView | None:
        """What kernel and memory say, unless they disagree."""
        record = container.record
        state = self._seen(container, record)
        if state is State.STOPPED or state is record.state:
            return _told(container, record, state)
        if state is State.RUNNING and container.cgroups.container.frozen():
            return record.view(state, None, "", _HALF_FROZEN)
        if container.verb and state is not None:
            # A verb of ours explains why memory is behind the kernel.
            return _told(container, record, state)
        return None

    def cached_status(self, container: Container) -> ContainerView:
        """All that is known, from memory and kernel alone: nothing is run or waited for."""
        record = container.record
        return _told(container, record, self._seen(container, record))

    def state(self, container: Container, deadline: Deadline) -> State:
        """The state alone, as :meth:`status` has it."""
        return self.status(container, deadline).state

    def require_state(self, container: Container, deadline: Deadline, *wanted: State) -> None:
        """Raise ``WrongState`` unless its state is one of these.

        Or ``ContainerNotFound`` when it has been removed meanwhile.
        """
        state = self.state(container, deadline)
        if state not in wanted:
            if container.removed.is_set():
                raise ContainerNotFound.of(container.container_id)
            # UNKNOWN may be good enough, but is nothing to wish for.
            *most, last = (each for each in wanted if each is not State.UNKNOWN)
            words = f"{', '.join(most)} or {last}" if most else last
            raise WrongState.of(container.container_id, state, words)

    @contextmanager
    def guarded_state(
        self, container: Container, deadline: Deadline, *wanted: State
    ) -> Iterator[None]:
        """Require one of these states before the block, and again when that fails.

        It may have ended, been removed or been changed by hand under the block's feet:
        then that is what is raised.
        """
        self.require_state(container, deadline, *wanted)
        try:
            yield
        except (RuntimeFailed, MonitorFailed, CgroupFailed, HostFailed) as error:
            init = container.init
            if init is not None and init.program() is None:
                # Runtimes call it stopped already.
                init.wait(deadline, _DYING_S)
            self.require_state(container, deadline, *wanted)
            if init is not None and init.program() is None:
                # It waits for others of its pid namespace to end, which may be frozen.
                raise Busy.of(container.container_id, "its end") from error
            raise

    def _seen(self, container: Container, record: Record) -> State | None:
        """What the kernel shows; None when it can't tell."""
        if record.state in (State.CREATING, State.STOPPED):
            return record.state
        if container.init is None or not container.init.alive():
            # None: it had ended before we came back, and its monitor has not said how.
            return State.STOPPED
        frozen = container.cgroups.container.frozen()
        if frozen is None:
            return None
        if frozen:
            # Twice: one that is just being put into the cgroup is not outside of it.
            half = unfrozen(container) and unfrozen(container)
            return State.RUNNING if half else State.PAUSED
        return State.RUNNING if container.is_started() else State.CREATED

    def _asked(self, container: Container, record: Record, deadline: Deadline) -> ContainerView:
        runtime = self._node.runtime(record.runtime_handler)
        try:
            require_entry(record)
            word = runtime.state(container.container_id, deadline).status
        except (RuntimeFailed, Timeout, PreconditionFailed) as error:
            if container.init is not None and not container.init.alive():
                return _told(container, container.record, State.STOPPED)
            return record.view(State.UNKNOWN, None, "", error.message)
        if container.init is not None and not container.init.alive():
            return _told(container, container.record, State.STOPPED)
        state = RUNTIME_WORDS.get(word, State.UNKNOWN)
        if state in (State.UNKNOWN, State.STOPPED):
            log.error(
                "runtime.state_untrue",
                container_id=container.container_id,
                reason="RUNTIME_STATE_UNTRUE",
                runtime_state=word,
            )
            message = f"the OCI runtime says {word!r} of a container whose first process lives"
            return record.view(State.UNKNOWN, None, word, message)
        if container.record is record and state is not record.state:
            log.info("container.changed_elsewhere", state=state.value, before=record.state.value)
            container.update(state=state)
        return _told(container, container.record, state)


def _told(container: Container, record: Record, state: State | None) -> ContainerView:
    if state is None:
        return record.view(State.UNKNOWN, None, "", "the kernel does not show its cgroup")
    exit_status = record.exit_status
    if state is State.STOPPED and exit_status is None:
        ended_ns = container.init_ended_ns or time.time_ns()
        exit_status = unknown_exit(Provenance.PENDING, ended_ns)
    return record.view(state, exit_status, "", "")
