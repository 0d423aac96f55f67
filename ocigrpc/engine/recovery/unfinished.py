"""The second half of a recovery: what a service had begun when it died is ended one way."""

from __future__ import annotations

import threading
from collections.abc import Sequence, Set
from concurrent.futures import ThreadPoolExecutor

from ocigrpc.engine.containers.container import Container
from ocigrpc.engine.containers.context import Context
from ocigrpc.engine.containers.lifecycle import Verbs
from ocigrpc.engine.containers.registry import Registry
from ocigrpc.engine.containers.status import Truth
from ocigrpc.engine.containers.stop import Stopping
from ocigrpc.engine.model.values import State
from ocigrpc.engine.sessions.exec import Execs
from ocigrpc.errors import OcigrpcError, WrongState
from ocigrpc.log import get_logger
from ocigrpc.oci.exec import ExecFiles
from ocigrpc.waiting import Deadline

log = get_logger()

_THREADS = 16


class UnfinishedWork:
    """Undoes creates, and finishes starts, stops and removes, in threads of its own.

    What can't be ended is logged and stays in the store, for the next start to try again.
    """

    def __init__(
        self,
        node: Context,
        registry: Registry,
        truth: Truth,
        verbs: Verbs,
        stopping: Stopping,
        execs: Execs,
    ) -> None:
        self._node = node
        self._registry = registry
        self._truth = truth
        self._verbs = verbs
        self._stopping = stopping
        self._execs = execs
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="finishing")
        self._ending = Deadline()
        self._lock = threading.Lock()
        self.unfinished = 0
        """Containers that are still waiting, or being worked at."""

    def submit(
        self, container: Container, verbs: Set[str], programs: Sequence[ExecFiles] = ()
    ) -> None:
        """Soon end the ``verbs`` that were cut off with a container, and the ``programs``."""
        with self._lock:
            self.unfinished += 1
        self._pool.submit(self._attempt, container, verbs, programs)

    def close(self) -> None:
        """End the threads soon; what they have not ended is for the next start."""
        self._ending.cancel()
        self._pool.shutdown(cancel_futures=True)

    def _attempt(
        self, container: Container, verbs: Set[str], programs: Sequence[ExecFiles]
    ) -> None:
        try:
            self._finish(container, verbs, programs)
        except (OcigrpcError, OSError) as error:
            log.error(
                "recovery.failed",
                verbs=sorted(verbs),
                container_id=container.container_id,
                error=str(error),
            )
            if container.record.state is State.CREATING:
                # Nobody must wait for it any more.
                self._registry.drop(container, remembered=True)
        finally:
            with self._lock:
                self.unfinished -= 1

    def _finish(self, container: Container, verbs: Set[str], programs: Sequence[ExecFiles]) -> None:
        stop_timeout_s = container.record.stop_timeout_s
        deadline = self._ending.within(stop_timeout_s + self._node.settings.timeouts.undo_s)
        if container.record.state is State.CREATING:
            self._undo_creation(container, deadline)
        elif "remove" in verbs:
            self._stopping.remove(container, True, deadline)
        else:
            self._execs.end(container, programs)
            if "stop" in verbs:
                self._stopping.stop(container, stop_timeout_s, deadline)
            if "start" in verbs:
                self._finish_start(container, deadline)
            # A pause may have come to its end, or a start by another hand.
            self._truth.status(container, deadline)

    def _undo_creation(self, container: Container, deadline: Deadline) -> None:
        record = container.record
        with container.lock("create", deadline):
            errors = self._node.end_processes(record, container.cgroups, deadline)
            if not errors:
                self._node.remove_new_log(record)
                errors = self._node.remove_files(record)
            self._registry.drop(container, remembered=bool(errors))
        log.warning("container.create_undone", container_id=record.container_id, whole=not errors)

    def _finish_start(self, container: Container, deadline: Deadline) -> None:
        try:
            self._verbs.finish_start(container, deadline)
        except WrongState:
            # Somebody else has started it just now, or it has ended.
            container.update("start")
