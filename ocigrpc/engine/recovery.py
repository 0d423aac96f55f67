"""The start of the service: what the store remembers, compared with what there is."""

from __future__ import annotations

from concurrent.futures import Executor

from ocigrpc.deadline import Deadline
from ocigrpc.engine.container import Container
from ocigrpc.engine.exits import Exits
from ocigrpc.engine.node import Node
from ocigrpc.engine.registry import Registry
from ocigrpc.engine.stopping import Stopping
from ocigrpc.engine.store import Store
from ocigrpc.engine.values import State
from ocigrpc.errors import OcigrpcError
from ocigrpc.host.process import Process
from ocigrpc.log import get_logger

log = get_logger()


def recover(
    node: Node,
    store: Store,
    registry: Registry,
    exits: Exits,
    stopping: Stopping,
    background: Executor,
) -> None:
    """Find every container again, and finish or undo what was cut off.

    A create is undone, a stop and a remove are finished, in the ``background``. How a
    container ended meanwhile, its exit file says.
    """
    intents = store.intents()
    for container in registry.load():
        container_id = container.container_id
        if container.record.state is State.CREATING:
            _undo_creation(container, node, registry)
            continue
        _find_again(container, exits)
        if (container_id, "remove") in intents:
            background.submit(_finish, "remove", container, node, stopping)
        elif (container_id, "stop") in intents:
            background.submit(_finish, "stop", container, node, stopping)


def _undo_creation(container: Container, node: Node, registry: Registry) -> None:
    record = container.record
    node.end_processes(record, container.enclosure, Deadline(node.settings.undo_timeout_s))
    node.remove_files(record)
    registry.drop(container)
    log.warning("container.create_undone", container_id=record.container_id)


def _find_again(container: Container, exits: Exits) -> None:
    record = container.record
    container.settled.set()
    if record.exit_status is not None:
        container.exited.set()
        return
    if record.init is not None:
        container.init = Process.find(record.init)
    if record.monitor is not None:
        container.monitor = Process.find(record.monitor)
    exits.watch(container)
    log.info(
        "container.found",
        container_id=record.container_id,
        state=container.record.state.value,
        pid=container.record.pid,
    )


def _finish(verb: str, container: Container, node: Node, stopping: Stopping) -> None:
    timeout_s = node.settings.stop_timeout_s
    deadline = Deadline(timeout_s + node.settings.undo_timeout_s)
    try:
        if verb == "remove":
            stopping.remove(container, True, deadline)
        else:
            stopping.stop(container, timeout_s, deadline)
    except OcigrpcError as error:
        log.error(
            "recovery.failed",
            verb=verb,
            container_id=container.container_id,
            reason=error.reason,
            error=error.message,
        )
