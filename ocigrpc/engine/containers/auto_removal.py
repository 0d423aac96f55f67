"""Removes the containers that are to be removed when they have ended."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from sched import scheduler

from ocigrpc.engine.containers.container import Container
from ocigrpc.engine.containers.registry import ContainerRegistry
from ocigrpc.engine.containers.stop import remove
from ocigrpc.errors import Cancelled, OcigrpcError
from ocigrpc.failing import host_failure
from ocigrpc.log import get_logger
from ocigrpc.waiting import Deadline, Flag

log = get_logger()

# Most removals at a time, so that one that takes long does not keep all others.
_THREADS = 4

# Longest that one may take, with the verbs that it waits for.
_LIMIT_S = 60.0

# The pause after the first failure. Each one after that is twice as long as the one before, until
# the last, which is for whatever takes an operator to mend.
_FIRST_PAUSE_S = 1.0
_LAST_PAUSE_S = 600.0


class AutoRemoval:
    """Removals in threads of its own, one at a time of each container.

    What can't be removed is logged, and tried again after a pause, until somebody has removed it;
    at the latest the next start of the service goes on with it.
    """

    def __init__(self, registry: ContainerRegistry) -> None:
        self._registry = registry
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="removing")
        self._closing = Deadline()
        self._lock = threading.Lock()
        # Those whose removal has begun, and has not succeeded yet.
        self._begun: set[Container] = set()
        self._later = scheduler()
        self._has_more = Flag()
        self._thread = threading.Thread(target=self._run, name="removing-later", daemon=True)
        self._thread.start()

    def submit(self, container: Container, in_s: float = 0.0) -> None:
        """Remove a container that has ended in so many seconds, unless that is begun by then."""
        if in_s:
            self._delay(in_s, self.submit, container)
            return
        with self._lock:
            if container in self._begun or container.removed.is_set():
                return
            self._begun.add(container)
        self._try(container, _FIRST_PAUSE_S)

    def close(self) -> None:
        """End the threads soon; what they have not removed is for the next start."""
        self._closing.cancel()
        # First, since it puts work into the pool.
        self._thread.join()
        self._pool.shutdown(cancel_futures=True)

    def _try(self, container: Container, pause_s: float) -> None:
        """Try it soon, and again in ``pause_s`` if that fails."""
        self._pool.submit(self._attempt, container, pause_s)

    def _attempt(self, container: Container, pause_s: float) -> None:
        try:
            remove(container, self._registry, False, self._closing.within(_LIMIT_S))
        except Cancelled:
            pass
        except Exception as error:
            _log_failure(container, error, pause_s)
            self._delay(pause_s, self._try, container, min(2 * pause_s, _LAST_PAUSE_S))
        else:
            with self._lock:
                self._begun.remove(container)

    def _delay(self, in_s: float, work: Callable[..., None], *arguments: object) -> None:
        self._later.enter(in_s, 0, work, arguments)
        self._has_more.set()

    def _run(self) -> None:
        """Do what is to be done later, when it is time."""
        with suppress(Cancelled):
            while True:
                pause_s = self._later.run(blocking=False)
                self._closing.wait(
                    self._has_more, timeout_s=math.inf if pause_s is None else pause_s
                )
                self._has_more.clear()


def _log_failure(container: Container, error: Exception, pause_s: float) -> None:
    if isinstance(error, OcigrpcError | OSError):
        failure, defect = host_failure(error), None
    else:
        failure, defect = OcigrpcError(str(error)), error
    log.error(
        "container.not_removed",
        container_id=container.container_id,
        reason=failure.reason,
        error=failure.message,
        again_in_s=pause_s,
        exc_info=defect,
    )
