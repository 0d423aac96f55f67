"""What a container does now: kernel facts first, the runtime when they are not enough."""

from __future__ import annotations

import time

from ocigrpc.deadline import Deadline
from ocigrpc.engine.container import Container
from ocigrpc.engine.exits import unknown_exit
from ocigrpc.engine.node import Node
from ocigrpc.engine.record import Record
from ocigrpc.engine.states import RUNTIME_WORDS
from ocigrpc.engine.values import ContainerView, Provenance, State
from ocigrpc.errors import RuntimeFailed, Timeout
from ocigrpc.log import get_logger

log = get_logger()


class Truth:
    """Answers for containers, confirmed with the kernel."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def view(self, container: Container, deadline: Deadline) -> ContainerView:
        """All that is known, true now. Asks the runtime when kernel and memory disagree.

        Raises ``Cancelled``.
        """
        record = container.record
        state = self._seen(container, record)
        if state is State.STOPPED or state is record.state:
            return _told(container, record, state)
        if container.verb and state is not None:
            # A verb of ours explains why memory is behind the kernel.
            return _told(container, record, state)
        return self._asked(container, record, deadline)

    def glance(self, container: Container) -> ContainerView:
        """All that is known, from memory and kernel alone: nothing is run or waited for."""
        record = container.record
        return _told(container, record, self._seen(container, record))

    def state(self, container: Container, deadline: Deadline) -> State:
        """The state alone, as :meth:`view` has it."""
        return self.view(container, deadline).state

    def _seen(self, container: Container, record: Record) -> State | None:
        """What the kernel shows; None when it can't tell."""
        if record.state in (State.CREATING, State.STOPPED):
            return record.state
        if container.init is None or not container.init.alive():
            # None: it had ended before we came back, and its monitor has not said how.
            return State.STOPPED
        frozen = container.enclosure.container.frozen()
        if frozen is None:
            return None
        if frozen:
            return State.PAUSED
        return State.RUNNING if container.is_started() else State.CREATED

    def _asked(self, container: Container, record: Record, deadline: Deadline) -> ContainerView:
        runtime = self._node.runtime(record.runtime_handler)
        try:
            word = runtime.state(container.container_id, deadline).status
        except (RuntimeFailed, Timeout) as error:
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
            container.change(state=state)
        return _told(container, container.record, state)


def _told(container: Container, record: Record, state: State | None) -> ContainerView:
    if state is None:
        return record.view(State.UNKNOWN, None, "", "the kernel does not show its cgroup")
    exit_status = record.exit_status
    if state is State.STOPPED and exit_status is None:
        ended_ns = container.init_ended_ns or time.time_ns()
        exit_status = unknown_exit(Provenance.PENDING, ended_ns)
    return record.view(state, exit_status, "", "")
