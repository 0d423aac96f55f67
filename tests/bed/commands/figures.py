"""What ``scripts/bench`` measures, and the table of it."""

from __future__ import annotations

import statistics
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import NamedTuple


class Figure(NamedTuple):
    """One line of the table. ``bare`` and ``service`` are texts, as is what compares them."""

    name: str
    bare: str
    service: str
    compared: str
    target: str
    met: bool


class Times:
    """Durations in milliseconds, by what was done."""

    def __init__(self) -> None:
        self._all: dict[str, list[float]] = defaultdict(list)

    @contextmanager
    def of(self, name: str) -> Iterator[None]:
        began_s = time.perf_counter()
        yield
        self.add(name, (time.perf_counter() - began_s) * 1000)

    def add(self, name: str, took_ms: float) -> None:
        self._all[name].append(took_ms)

    def p50(self, name: str) -> float:
        return statistics.median(self._all[name])

    def p99(self, name: str) -> float:
        """What one in a hundred takes longer than."""
        return statistics.quantiles(self._all[name], n=100)[-1]


def added(name: str, bare: float, ours: float, target: str, met: bool) -> Figure:
    """A figure of two durations in milliseconds, compared by what the second one adds."""
    return Figure(name, f"{bare:.2f}", f"{ours:.2f}", f"{ours - bare:+.2f}", target, met)


def print_table(lines: Iterable[Figure]) -> None:
    print(f"{'p50':<27} {'bare':>8} {'service':>8} {'compared':>9} {'target':>8}  met")
    for line in lines:
        print(
            f"{line.name:<27} {line.bare:>8} {line.service:>8} {line.compared:>9}"
            f" {line.target:>8}  {'yes' if line.met else 'NO'}"
        )
