"""Ending containers: politely, then not; and removing what is left of them."""

from __future__ import annotations

from contextlib import AbstractContextManager

from ocigrpc.engine.containers.container import Container
from ocigrpc.engine.containers.context import Context
from ocigrpc.engine.containers.kill import kill, kill_rest, learn_exit, send_signal
from ocigrpc.engine.containers.registry import Registry
from ocigrpc.engine.containers.status import Truth
from ocigrpc.engine.model.values import State
from ocigrpc.errors import Busy, StoreFailed, WrongState
from ocigrpc.log import get_logger
from ocigrpc.waiting import Deadline, timed_out

log = get_logger()


class Stopping:
    """Stops and removes containers.

    Stopping takes no turn: signals and cgroups need none, so that neither a runtime that
    hangs in another verb nor a longer stop can hold it up.
    """

    def __init__(self, node: Context, registry: Registry, truth: Truth) -> None:
        self._node = node
        self._registry = registry
        self._truth = truth

    def stop(self, container: Container, timeout_s: float, deadline: Deadline) -> None:
        """Stop signal; after ``timeout_s``, SIGKILL to the whole cgroup; until the exit is known.

        Then nothing is in the cgroup any more, whenever the first process has ended. Raises
        ``Timeout`` (STOP_TIMEOUT), ``WrongState`` while it is being created.
        """
        record = container.record
        if record.state is State.CREATING:
            raise WrongState.of(record.container_id, record.state, "created")
        # With the host's pid namespace, what it has started may outlive the first process.
        if record.exit_status is not None and not container.cgroups.container.populated():
            return
        with _ending(record.container_id), container.stopping() as first:
            if first:
                _begin("stop", container, stop_timeout_s=timeout_s)
            self._end(container, timeout_s, first, deadline)

    def _end(self, container: Container, timeout_s: float, first: bool, deadline: Deadline) -> None:
        # What was never started can't be asked to end.
        asked = timeout_s > 0 and container.is_started()
        if asked and first:
            send_signal(container, container.record.stop_signal)
            container.cgroups.container.thaw()
        kill_timeout_s = self._node.settings.timeouts.kill_s
        bounded = deadline.within(timeout_s + kill_timeout_s)
        if not (asked and _ended(container, timeout_s, deadline)):
            kill(container, bounded)
        else:
            kill_rest(container, bounded)
        learn_exit(container, kill_timeout_s, deadline)

    def remove(self, container: Container, force: bool, deadline: Deadline) -> None:
        """Remove it and all that was made for it; with ``force``, kill it first.

        Raises ``WrongState``, ``Timeout`` (STOP_TIMEOUT, REMOVE_TIMEOUT, or the runtime's),
        ``Busy``.
        """
        message = f"container {container.container_id!r} has not been removed in time"
        removing = timed_out(message, "REMOVE_TIMEOUT", container.container_id)
        with container.lock("remove", deadline), removing:
            record = container.record
            if self._registry.find(record.container_id) is not container:
                return
            state = self._truth.state(container, deadline)
            if state is State.CREATING:
                raise Busy.of(record.container_id, "create")
            if not force and state not in (State.CREATED, State.STOPPED):
                raise WrongState.of(record.container_id, state, "created or stopped")
            # While all of it is there, so that it can be removed whole later.
            self._node.refuse_mounts(record)
            _begin("remove", container)
            self._finish_removal(container, deadline)

    def _finish_removal(self, container: Container, deadline: Deadline) -> None:
        """Kill what lives of it, and remove everything; raises what kept it from that."""
        record = container.record
        timeout_s = self._node.settings.timeouts.kill_s
        if record.exit_status is None:
            with _ending(record.container_id):
                kill(container, deadline.within(timeout_s))
                # Before the monitor is killed with the rest; and noted before the removal, so
                # that nobody hears of that without having heard of this.
                learn_exit(container, timeout_s, deadline)
        undone = deadline.within(self._node.settings.timeouts.undo_s)
        with container.cgroup_lock(undone):
            for error in self._node.end_processes(record, container.cgroups, undone):
                raise error
            for error in self._node.remove_files(record):
                raise error
            self._registry.drop(container)
        log.info("container.removed", container_id=record.container_id)


def _ending(container_id: str) -> AbstractContextManager[None]:
    message = f"container {container_id!r} has not ended in time"
    return timed_out(message, "STOP_TIMEOUT", container_id)


def _begin(verb: str, container: Container, **fields: object) -> None:
    try:
        container.begin(verb, **fields)
    except StoreFailed as error:
        # Ending a container must not take room on a disk, and may be what makes some. If we
        # are cut off now, the next start does not finish it; nobody was told that it was.
        log.error("intent.unwritten", verb=verb, reason=error.reason, error=error.message)


def _ended(container: Container, timeout_s: float, deadline: Deadline) -> bool:
    """Whether the first process ends in time, by itself."""
    if container.init is None:
        return True
    with container.init.watched() as ended:
        return bool(deadline.wait(container.exited, ended, timeout_s=timeout_s))
