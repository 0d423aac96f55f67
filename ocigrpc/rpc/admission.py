"""Admission control: how many calls are running, and whether another one may start."""

from __future__ import annotations

import itertools
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence

from ocigrpc.errors import LimitReached, Recovering, ShuttingDown
from ocigrpc.metrics import CALLS_LIMIT, CALLS_REFUSED, CALLS_RUNNING, Reading
from ocigrpc.rpc.call import Call
from ocigrpc.rpc.listener import Listener
from ocigrpc.rpc.methods import UNKNOWN, Kind


class Admission:
    """Counts the calls of each budget at each listener, so that none can starve another.

    Calls that hang, such as all those that need a hanging runtime, then don't delay calls of
    other budgets. What may run once at a time is counted at all listeners together.
    """

    def __init__(self, places: Mapping[str, int], *, recovering: bool = False) -> None:
        """While it is ``recovering``, only calls about the service itself are admitted."""
        self._limits = places
        self._running: defaultdict[tuple[Listener | None, str], set[Call]] = defaultdict(set)
        self._released = threading.Condition()
        self._recovering = recovering
        self._closed = False

    def limit_to(self, places: Mapping[str, int]) -> None:
        """Have so many places from now on; the calls that are running go on."""
        with self._released:
            self._limits = places

    def end_recovery(self) -> None:
        """Admit all calls from now on."""
        self._recovering = False

    def admit(self, call: Call) -> None:
        """Let a call start. Raises ``LimitReached``, ``Recovering`` or ``ShuttingDown``."""
        method = call.method
        with self._released:
            if self._closed:
                raise shutting_down()
            if self._recovering and not method.while_recovering:
                raise Recovering("the service is finding its containers again; try again soon")
            running = self._running[_place(call)]
            limit = self._limits[method.budget]
            if len(running) >= limit:
                CALLS_REFUSED.add(_label(method.budget))
                budget = method.budget.rpartition("/")[2] or "unknown methods"
                raise LimitReached(
                    f"{limit} calls of {budget} are under way already",
                    reason="TOO_MANY_STREAMS" if method.is_stream else "TOO_MANY_CALLS",
                    limit=limit,
                    rpc=method.name,
                )
            running.add(call)

    def release(self, call: Call) -> None:
        """Give back the place of an admitted call, which has ended."""
        with self._released:
            self._running[_place(call)].remove(call)
            if self._closed:
                self._released.notify_all()

    def count_streams(self) -> Mapping[str, int]:
        """How many calls wait or stream now, by the names of their RPCs."""
        with self._released:
            return Counter(call.method.name for call in self._calls() if call.method.is_stream)

    def running(self) -> Sequence[Call]:
        """The calls that were admitted and have not ended; waits for nobody."""
        # Each copy is one step of the interpreter, which no other thread comes into.
        return [call for running in list(self._running.values()) for call in running.copy()]

    def readings(self) -> Iterator[Reading]:
        """How many calls of each budget run, and may, as metrics show them."""
        with self._released:
            most = dict.fromkeys(self._limits, 0)
            for (_, budget), running in self._running.items():
                most[budget] = max(most[budget], len(running))
        for budget, count in most.items():
            yield Reading(CALLS_RUNNING, count, (_label(budget),))
            yield Reading(CALLS_LIMIT, self._limits[budget], (_label(budget),))

    def close(self) -> None:
        """Admit no more calls, and dismiss the streams, which might never end by themselves."""
        with self._released:
            self._closed = True
            self._dismiss(call for call in self._calls() if call.method.is_stream)

    def cancel_streams(self) -> None:
        """Cancel the streams that run; those that were dismissed wait for their clients to read.

        A call with a single answer does not wait for that, and has one soon.
        """
        for call in self.running():
            if call.method.kind is Kind.STREAM:
                call.cancel()

    def dismiss_all(self) -> None:
        """Dismiss all running calls."""
        with self._released:
            self._dismiss(self._calls())

    def wait_empty(self, until_s: float) -> bool:
        """Wait until all calls have ended, at most until ``until_s`` of the monotonic clock."""
        with self._released:
            return self._released.wait_for(
                lambda: not any(self._running.values()), max(0.0, until_s - time.monotonic())
            )

    def _calls(self) -> Iterator[Call]:
        return itertools.chain.from_iterable(self._running.values())

    @staticmethod
    def _dismiss(calls: Iterable[Call]) -> None:
        for call in calls:
            call.dismiss()


def _place(call: Call) -> tuple[Listener | None, str]:
    """What a call counts against: its budget at its listener, or at all of them together."""
    return None if call.method.is_single else call.listener, call.method.budget


def _label(budget: str) -> str:
    """A budget, as metrics name it."""
    return budget.rpartition("/")[2] or UNKNOWN


def shutting_down() -> ShuttingDown:
    """The error of calls after the admission is closed."""
    return ShuttingDown("the service is ending; try again later")
