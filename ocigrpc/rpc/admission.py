"""The admission that every call passes: how many are inside, and whether more may enter."""

from __future__ import annotations

import itertools
import threading
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping

from ocigrpc.errors import LimitReached, Recovering, ShuttingDown
from ocigrpc.rpc.call import Call
from ocigrpc.rpc.listener import Listener


class Admission:
    """Counts the calls of each budget and listener apart: none can starve another.

    So that RPCs which hang, as all those do that need a runtime which hangs, hold up no
    others, whatever these are for.
    """

    def __init__(self, places: Mapping[str, int]) -> None:
        self._limits = places
        self._inside: defaultdict[tuple[Listener, str], set[Call]] = defaultdict(set)
        self._left = threading.Condition()
        self._held = False
        self._closed = False

    def hold(self) -> None:
        """Until it is opened, let in only calls that ask for the service itself."""
        self._held = True

    def open(self) -> None:
        """From now on let everybody in."""
        self._held = False

    def admit(self, call: Call) -> None:
        """Let a call in. Raises ``LimitReached``, ``Recovering`` or ``ShuttingDown``."""
        method = call.method
        with self._left:
            if self._closed:
                raise shutting_down()
            if self._held and not method.while_recovering:
                raise Recovering("the service is finding its containers again; try again soon")
            inside = self._inside[call.listener, method.budget]
            limit = self._limits[method.budget]
            if len(inside) >= limit:
                budget = method.budget.rpartition("/")[2] or "unknown methods"
                raise LimitReached(
                    f"{limit} calls of {budget} are under way already",
                    reason="TOO_MANY_STREAMS" if method.is_stream else "TOO_MANY_CALLS",
                    limit=limit,
                    rpc=method.name,
                )
            inside.add(call)

    def release(self, call: Call) -> None:
        """A call that entered has ended."""
        with self._left:
            self._inside[call.listener, call.method.budget].remove(call)
            if self._closed:
                self._left.notify_all()

    def close(self) -> None:
        """Let nobody in any more, and dismiss the streams: only their clients know for how long."""
        with self._left:
            self._closed = True
            self._dismiss(call for call in self._everybody() if call.method.is_stream)

    def dismiss_all(self) -> None:
        """Dismiss whoever is inside."""
        with self._left:
            self._dismiss(self._everybody())

    def wait_empty(self, until_s: float) -> bool:
        """Wait until all have left, at most until ``until_s`` of the monotonic clock."""
        with self._left:
            return self._left.wait_for(
                lambda: not any(self._inside.values()), max(0.0, until_s - time.monotonic())
            )

    def _everybody(self) -> Iterator[Call]:
        return itertools.chain.from_iterable(self._inside.values())

    @staticmethod
    def _dismiss(calls: Iterable[Call]) -> None:
        for call in calls:
            call.dismiss()


def shutting_down() -> ShuttingDown:
    """What calls are told from the moment that the admission is closed."""
    return ShuttingDown("the service is ending; try again later")
