"""Work that nobody waits for: one thread, which is woken for it."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable

from ocigrpc.errors import Cancelled
from ocigrpc.log import get_logger
from ocigrpc.waiting import Deadline, Flag, Latch

# The first and the longest pause after which what has failed is tried again.
_RETRY_S = 1.0
_RETRY_LIMIT_S = 60.0
# How long its end waits for what is under way, which is cut off after that.
_GRACE_S = 5.0

log = get_logger()


class Background:
    """Calls ``work`` once it is woken, and again after a pause if that answers that more is left.

    ``deadline`` is cancelled when the thread is to end soon; ``stopping`` is set some seconds
    before, so that nothing else is begun.
    """

    def __init__(self, name: str, work: Callable[[], bool]) -> None:
        self.deadline = Deadline()
        self.stopping = Latch()
        self._name = name
        self._work = work
        self._woken = Flag()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def wake(self) -> None:
        """Have the work done soon; its thread starts with the first one."""
        with self._lock:
            if self._thread is None and not self.stopping.is_set():
                self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                self._thread.start()
        self._woken.set()

    def close(self) -> None:
        """End the thread; may be called if it was never started, and twice."""
        with self._lock:
            self.stopping.set()
        if self._thread is not None:
            self._thread.join(_GRACE_S)
        self.deadline.cancel()
        if self._thread is not None:
            # A disk may not answer it.
            self._thread.join(_GRACE_S)

    def _run(self) -> None:
        pause_s, retry_s = math.inf, _RETRY_S
        while not self.stopping.is_set():
            try:
                self.deadline.wait(self._woken, self.stopping, timeout_s=pause_s)
            except Cancelled:
                return
            if self.stopping.is_set():
                return
            self._woken.clear()
            try:
                is_left = self._work()
            except Cancelled:
                return
            except Exception:
                # A defect must not end the thread.
                log.exception("background.unhandled", thread=self._name)
                is_left = True
            pause_s = retry_s if is_left else math.inf
            retry_s = min(2 * retry_s, _RETRY_LIMIT_S) if is_left else _RETRY_S
