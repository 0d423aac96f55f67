"""Whole lives of containers, one after the other and several at once."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from tests.bed.hosts.usage import processor_s
from tests.bed.measures.figures import (
    Figure,
    Times,
    added_at_most,
    at_most,
    factor_at_least,
    factor_at_most,
)
from tests.bed.measures.sides import PROGRAM, Bench, Side

_WARM_UP = 3

# How many live at once, and how many live in a round of one side.
_IN_FLIGHT = 8
_ROUND = 3 * _IN_FLIGHT


def lives(bench: Bench) -> Iterator[Figure]:
    """Lives one after the other, and what one takes of the service's processor time."""
    times, sides = Times(), bench.sides(*PROGRAM)
    _turns(sides, Times(), min(_WARM_UP, bench.samples))
    _turns(sides, times, bench.samples)
    yield factor_at_most("create+start, ms", *times.pair("create+start"), 1.08)
    yield added_at_most("stop+remove, ms", *times.pair("stop+remove"), 1.5)
    _, served = sides
    # Alone, since what others do between takes its data out of the processor's caches.
    for number in range(bench.samples):
        began_s = processor_s(bench.service.pid)
        _life(served, Times(), f"alone-{number}")
        times.add("processor", (processor_s(bench.service.pid) - began_s) * 1000)
    yield at_most("processor of a life, ms", times["processor"], 8)


def _turns(sides: Sequence[Side], times: Times, count: int) -> None:
    for number in range(count):
        for side in sides:
            _life(side, times, f"{side.name}-{number}")


def _life(side: Side, times: Times, container_id: str) -> None:
    side.prepare(container_id)
    with times.of(f"{side.name} create+start"):
        side.run(container_id)
    with times.of(f"{side.name} stop+remove"):
        side.stop_and_remove(container_id)


def in_flight(bench: Bench) -> Iterator[Figure]:
    """Lives per second with ``_IN_FLIGHT`` at once."""
    sides = bench.sides(*PROGRAM)
    per_s: dict[str, list[float]] = {side.name: [] for side in sides}
    with ThreadPoolExecutor(_IN_FLIGHT) as pool:
        for _ in range(max(1, bench.samples // 8)):
            for side in sides:
                per_s[side.name].append(_ROUND / _round_s(pool, side))
    name = f"lives per s, {_IN_FLIGHT} at once"
    yield factor_at_least(name, per_s["bare"], per_s["service"], 0.88)


def _round_s(pool: ThreadPoolExecutor, side: Side) -> float:
    def life(container_id: str) -> None:
        side.run(container_id)
        side.stop_and_remove(container_id)

    names = [f"{side.name}-flight-{number}" for number in range(_ROUND)]
    for name in names:
        side.prepare(name)
    began_s = time.perf_counter()
    list(pool.map(life, names))
    return time.perf_counter() - began_s
