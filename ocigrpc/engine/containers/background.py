"""Work whose caller is answered in time, though what undoes it may take longer."""

from __future__ import annotations

import contextvars
from collections.abc import Callable
from threading import Thread

from ocigrpc.errors import Cancelled, LimitReached, Timeout
from ocigrpc.waiting import Deadline, Latch

LEFT_LIMIT = 64
"""Most pieces of work that go on without their callers: each takes a thread."""


class BackgroundWork:
    """Does work in threads, which it leaves to themselves when an answer is due."""

    def __init__(self) -> None:
        self._left: set[Thread] = set()

    def require_room(self) -> None:
        """Raise ``LimitReached`` when too much goes on without its callers already."""
        if len(self._left) >= LEFT_LIMIT:
            raise LimitReached(
                f"{LEFT_LIMIT} creates are still being undone",
                reason="TOO_MANY_CALLS",
                limit=LEFT_LIMIT,
            )

    def run(self, work: Callable[[], None], deadline: Deadline) -> bool:
        """Do ``work``, to which ``deadline`` is known; false when it goes on without us.

        That is when the answer is due. When the caller has gone, it waits for the end. Raises
        what the work raises.
        """
        ended, errors = Latch(), list[BaseException]()

        def go() -> None:
            try:
                work()
            except BaseException as error:
                errors.append(error)
            # In this order: below, it is left only if it has not ended.
            ended.set()
            self._left.discard(thread)

        # With what is bound for the log, which belongs to the thread otherwise.
        run = contextvars.copy_context().run
        thread = Thread(target=run, args=(go,), name="create", daemon=True)
        thread.start()
        try:
            deadline.for_answer().wait(ended)
        except Timeout:
            self._left.add(thread)
            if not ended.is_set():
                return False
            self._left.discard(thread)
        except Cancelled:
            thread.join()
        if errors:
            raise errors.pop()
        return True

    def close(self, timeout_s: float) -> None:
        """Wait for what goes on by itself, so long at most."""
        deadline = Deadline(timeout_s)
        for thread in list(self._left):
            thread.join(deadline.remaining_s())
