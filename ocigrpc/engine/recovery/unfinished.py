"""The second half of a recovery: finish or undo what a service was doing when it died."""

from __future__ import annotations

import threading
from collections.abc import Sequence, Set
from concurrent.futures import ThreadPoolExecutor

from ocigrpc.engine.containers.container import Container
from ocigrpc.engine.containers.lifecycle import finish_start, undo_stuck_pause
from ocigrpc.engine.containers.registry import ContainerRegistry
from ocigrpc.engine.containers.status import current_state
from ocigrpc.engine.containers.stop import remove, stop
from ocigrpc.engine.containers.teardown import teardown
from ocigrpc.engine.model.values import State
from ocigrpc.engine.sessions.exec_workspace import ExecWorkspace, end_execs
from ocigrpc.errors import OcigrpcError, WrongState
from ocigrpc.log import get_logger
from ocigrpc.waiting import Deadline

log = get_logger()

_THREADS = 16


class UnfinishedWork:
    """Undoes creates, and finishes starts, stops and removes, in threads of its own.

    What can't be ended is logged and stays in the store, for the next start to try again.
    """

    def __init__(self, registry: ContainerRegistry) -> None:
        self._registry = registry
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="finishing")
        self._closing = Deadline()
        self._lock = threading.Lock()
        # Containers that are still waiting, or being worked at.
        self.count = 0

    def submit(
        self, container: Container, verbs: Set[str], execs: Sequence[ExecWorkspace] = ()
    ) -> None:
        """Soon end the ``verbs`` that were cut off with a container, and the ``execs``."""
        with self._lock:
            self.count += 1
        self._pool.submit(self._attempt, container, verbs, execs)

    def close(self) -> None:
        """End the threads soon; what they have not ended is for the next start."""
        self._closing.cancel()
        self._pool.shutdown(cancel_futures=True)

    def _attempt(
        self, container: Container, verbs: Set[str], execs: Sequence[ExecWorkspace]
    ) -> None:
        try:
            self._finish(container, verbs, execs)
        except Exception as error:
            log.error(
                "recovery.failed",
                verbs=sorted(verbs),
                container_id=container.container_id,
                error=str(error),
                exc_info=None if isinstance(error, OcigrpcError | OSError) else error,
            )
            if container.record.state is State.CREATING:
                # Nobody may wait for it any more.
                self._registry.drop(container, remembered=True)
        finally:
            with self._lock:
                self.count -= 1

    def _finish(
        self, container: Container, verbs: Set[str], execs: Sequence[ExecWorkspace]
    ) -> None:
        stop_timeout_s = container.record.stop_timeout_s
        deadline = self._closing.within(stop_timeout_s + container.context.settings.timeouts.undo_s)
        if container.record.state is State.CREATING:
            self._undo_create(container, deadline)
        elif "remove" in verbs:
            remove(container, self._registry, True, deadline)
        else:
            end_execs(execs)
            if "stop" in verbs:
                stop(container, stop_timeout_s, deadline)
            if "start" in verbs:
                _finish_start(container, deadline)
            undo_stuck_pause(container, deadline)
            # A pause may have come to its end, or a start by another hand.
            current_state(container, deadline)

    def _undo_create(self, container: Container, deadline: Deadline) -> None:
        with container.lock("create", deadline):
            errors = teardown(container, deadline)
            self._registry.drop(container, remembered=bool(errors))
        (log.warning if errors else log.info)(
            "container.create_undone", container_id=container.container_id, whole=not errors
        )


def _finish_start(container: Container, deadline: Deadline) -> None:
    try:
        finish_start(container, deadline)
    except WrongState:
        # Somebody else has started it just now, or it has ended.
        container.update("start")
