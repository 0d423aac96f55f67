"""Ending containers: politely, then not; and removing what is left of them.

Stopping takes no lock: signals and cgroups need none, so that neither a runtime that hangs in
another verb nor a longer stop can hold it up.
"""

from __future__ import annotations

from contextlib import AbstractContextManager

from ocigrpc.engine.containers.container import Container
from ocigrpc.engine.containers.kill import kill, kill_rest, learn_exit, send_signal
from ocigrpc.engine.containers.registry import ContainerRegistry
from ocigrpc.engine.containers.status import current_state
from ocigrpc.engine.containers.teardown import refuse_mounts_in_the_way, teardown
from ocigrpc.engine.model.values import State
from ocigrpc.errors import Busy, StoreFailed, WrongState
from ocigrpc.log import get_logger
from ocigrpc.waiting import Deadline

log = get_logger()


def stop(container: Container, timeout_s: float, deadline: Deadline) -> None:
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
    with _ending(container), container.stopping() as first:
        if first:
            _begin("stop", container, stop_timeout_s=timeout_s)
        _end(container, timeout_s, first, deadline)


def _end(container: Container, timeout_s: float, first: bool, deadline: Deadline) -> None:
    # What was never started can't be asked to end.
    asked = timeout_s > 0 and container.is_started()
    if asked and first:
        send_signal(container, container.record.stop_signal)
        container.cgroups.container.thaw()
    kill_timeout_s = container.context.settings.timeouts.kill_s
    bounded = deadline.within(timeout_s + kill_timeout_s)
    if not (asked and _ended(container, timeout_s, deadline)):
        kill(container, bounded)
    else:
        kill_rest(container, bounded)
    container.ending.killed_all = True
    learn_exit(container, kill_timeout_s, deadline)


def remove(
    container: Container, registry: ContainerRegistry, force: bool, deadline: Deadline
) -> None:
    """Remove it and all that was made for it; with ``force``, kill it first.

    Raises ``WrongState``, ``Timeout`` (STOP_TIMEOUT, REMOVE_TIMEOUT, or the runtime's),
    ``Busy``.
    """
    container_id = container.container_id
    message = f"container {container_id!r} has not been removed in time"
    with container.lock("remove", deadline), container.timed_out("REMOVE_TIMEOUT", message):
        if registry.find(container_id) is not container:
            return
        state = current_state(container, deadline)
        if state is State.CREATING:
            raise Busy.of(container_id, "create")
        if not force and state not in (State.CREATED, State.STOPPED):
            raise WrongState.of(container_id, state, "created or stopped")
        # While all of it is there, so that it can be removed whole later.
        refuse_mounts_in_the_way(container)
        _begin("remove", container)
        _finish_removal(container, registry, deadline)
    log.info("container.removed", container_id=container_id)


def _finish_removal(container: Container, registry: ContainerRegistry, deadline: Deadline) -> None:
    """Kill what lives of it, and remove everything; raises what kept it from that."""
    settings = container.context.settings
    if container.record.exit_status is None:
        with _ending(container):
            kill(container, deadline.within(settings.timeouts.kill_s))
            # Before the monitor is killed with the rest; and stored before the removal, so
            # that its event comes first.
            learn_exit(container, settings.timeouts.kill_s, deadline)
    undone = deadline.within(settings.timeouts.undo_s)
    with container.cgroup_lock(undone):
        if errors := teardown(container, undone):
            raise errors[0]
        registry.drop(container)


def _ending(container: Container) -> AbstractContextManager[None]:
    message = f"container {container.container_id!r} has not ended in time"
    return container.timed_out("STOP_TIMEOUT", message)


def _begin(verb: str, container: Container, **fields: object) -> None:
    try:
        container.begin(verb, **fields)
    except StoreFailed as error:
        # Ending a container must not take room on a disk, and may be what makes some. If we
        # are cut off now, the next start does not finish it; no caller was answered yet.
        log.error("intent.unwritten", verb=verb, reason=error.reason, error=error.message)


def _ended(container: Container, timeout_s: float, deadline: Deadline) -> bool:
    """Whether the first process ends in time, by itself."""
    if container.init is None:
        return True
    with container.init.watched() as ended:
        return bool(deadline.wait(container.exited, ended, timeout_s=timeout_s))
