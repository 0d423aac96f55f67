"""Undoing what has failed, which may take longer than its caller can wait for an answer."""

from __future__ import annotations

import contextvars
from collections.abc import Callable
from threading import Thread

from ocigrpc.errors import Cancelled, LimitReached, Timeout
from ocigrpc.waiting import Deadline, Latch

# Most pieces of work that go on without their callers.
DETACHED_LIMIT = 64


class BackgroundWork:
    """Does work in a thread of its own, which goes on without its caller when an answer is due."""

    def __init__(self) -> None:
        self._detached: set[Thread] = set()

    def require_room(self) -> None:
        """Raise ``LimitReached`` when too much goes on without its callers already."""
        if len(self._detached) >= DETACHED_LIMIT:
            raise LimitReached(
                f"{DETACHED_LIMIT} creates are still being undone",
                reason="TOO_MANY_CALLS",
                limit=DETACHED_LIMIT,
            )

    def run(self, work: Callable[[], None], deadline: Deadline) -> bool:
        """Do ``work``, which has the same ``deadline``; false when it goes on by itself.

        That is when the answer is due. When the caller has gone, wait for the end. Raises what
        the work raises.
        """
        ended, errors = Latch(), list[BaseException]()

        def go() -> None:
            try:
                work()
            except BaseException as error:
                errors.append(error)
            # In this order: below, it goes on only if it has not ended.
            ended.set()
            self._detached.discard(thread)

        # With the context that is bound for the log.
        run = contextvars.copy_context().run
        thread = Thread(target=run, args=(go,), name="undo", daemon=True)
        try:
            thread.start()
        except RuntimeError:
            # None can be had, which may be why the call failed: then the caller has to wait.
            work()
            return True
        try:
            deadline.for_answer().wait(ended)
        except Timeout:
            self._detached.add(thread)
            if not ended.is_set():
                return False
            self._detached.discard(thread)
        except Cancelled:
            thread.join()
        if errors:
            raise errors.pop()
        return True

    def close(self, timeout_s: float) -> None:
        """Wait for what goes on by itself, ``timeout_s`` at most."""
        deadline = Deadline(timeout_s)
        for thread in list(self._detached):
            thread.join(deadline.remaining_s())
