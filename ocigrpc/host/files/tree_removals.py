"""Removes trees of files that may be large: nobody has to wait for their end."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TypeAlias

from ocigrpc.errors import Cancelled, OcigrpcError, Timeout
from ocigrpc.failing import host_failing
from ocigrpc.host.files.tree import remove_tree
from ocigrpc.waiting import Deadline, Latch

# Most trees that are removed at a time.
_THREADS = 4

# Called with what a removal has failed by, if it has.
Then: TypeAlias = Callable[[OcigrpcError | None], None]


class _Work:
    """A tree; ``then`` is called at the end, if nobody waits for that any more."""

    def __init__(self, path: str, then: Then) -> None:
        self.path = path
        self.then = then
        self.is_left = False
        self.ended = Latch()
        self.error: OcigrpcError | None = None


class Trees:
    """Removes trees below a directory."""

    def __init__(self, top: str) -> None:
        self._top = top
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="trees")
        self._closing = Deadline()
        self._lock = threading.Lock()

    def remove(self, path: str, deadline: Deadline, then: Then) -> bool:
        """Remove a tree; whether it is gone at the deadline.

        If not, that goes on, and ``then`` is called at its end, with the error if it has failed.
        Raises ``HostFailed``, ``PreconditionFailed``, and ``Cancelled`` while this is closed.
        """
        work = _Work(path, then)
        with self._lock:
            self._closing.check()
            self._pool.submit(self._run, work)
        with suppress(Timeout, Cancelled):
            deadline.wait(work.ended)
        with self._lock:
            work.is_left = not work.ended.is_set()
        if work.error is not None and not work.is_left:
            raise work.error
        return not work.is_left

    def close(self) -> None:
        """Stop soon; what is left then is not called for."""
        with self._lock:
            self._closing.cancel()
        self._pool.shutdown(cancel_futures=True)

    def _run(self, work: _Work) -> None:
        error: OcigrpcError | None = None
        try:
            with host_failing("remove", work.path):
                remove_tree(self._top, work.path, check=self._closing.check)
        except OcigrpcError as failure:
            error = failure
        with self._lock:
            work.error = error
            work.ended.set()
        if work.is_left and not isinstance(error, Cancelled):
            work.then(error)
