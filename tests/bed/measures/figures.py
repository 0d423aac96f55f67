"""Figures with their targets, and the table of them."""

from __future__ import annotations

import statistics
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple


class Figure(NamedTuple):
    """One line of the table: ``bare`` is what it is compared with, empty if there is nothing.

    ``compared`` is what has to meet the target, as text like ``target`` itself.
    """

    name: str
    bare: Sequence[float]
    service: Sequence[float]
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

    def __getitem__(self, name: str) -> Sequence[float]:
        return self._all[name]

    def pair(self, name: str) -> tuple[Sequence[float], Sequence[float]]:
        """What was done by both, by bare and by the service."""
        return self[f"bare {name}"], self[f"service {name}"]


def at_most(
    name: str, service: Sequence[float], limit: float, bare: Sequence[float] = ()
) -> Figure:
    """A figure whose median has a limit of its own; ``bare`` is only shown beside it."""
    ours = statistics.median(service)
    return Figure(name, bare, service, f"{ours:.2f}", f"<= {limit:.2f}", ours <= limit)


def at_least(name: str, service: Sequence[float], limit: float) -> Figure:
    """A figure whose median has to reach ``limit``."""
    ours = statistics.median(service)
    return Figure(name, (), service, f"{ours:.2f}", f">= {limit:.2f}", ours >= limit)


def factor_at_most(
    name: str, bare: Sequence[float], service: Sequence[float], limit: float
) -> Figure:
    """A figure whose median is at most ``limit`` times that of bare."""
    factor = statistics.median(service) / statistics.median(bare)
    return Figure(name, bare, service, f"x {factor:.2f}", f"<= x {limit:.2f}", factor <= limit)


def factor_at_least(
    name: str, bare: Sequence[float], service: Sequence[float], limit: float
) -> Figure:
    """A figure whose median is at least ``limit`` times that of bare."""
    factor = statistics.median(service) / statistics.median(bare)
    return Figure(name, bare, service, f"x {factor:.2f}", f">= x {limit:.2f}", factor >= limit)


def added_at_most(
    name: str, bare: Sequence[float], service: Sequence[float], limit: float
) -> Figure:
    """A figure whose median is at most that of bare and ``limit``."""
    added = statistics.median(service) - statistics.median(bare)
    return Figure(name, bare, service, f"{added:+.2f}", f"<= {limit:+.2f}", added <= limit)


def p99(samples: Sequence[float]) -> Sequence[float]:
    """What one in a hundred is greater than, as the only sample."""
    return [statistics.quantiles(samples, n=100)[-1]]


def print_table(figures: Iterable[Figure]) -> Sequence[Figure]:
    """Print each as soon as it is there; those that missed their targets."""
    _print_line("p50 (quartiles)", "bare", "service", "compared", "target", "met")
    missed = []
    for each in figures:
        bare, service = _spread(each.bare), _spread(each.service)
        met = "yes" if each.met else "NO"
        _print_line(each.name, bare, service, each.compared, each.target, met)
        if not each.met:
            missed.append(each)
    return missed


def _print_line(name: str, *columns: str) -> None:
    bare, service, compared, target, met = columns
    print(f"{name:<35} {bare:>23} {service:>23} {compared:>8} {target:>9}  {met}", flush=True)


def _spread(samples: Sequence[float]) -> str:
    """The median and, of more than one, the quartiles."""
    if len(samples) < 2:
        return "".join(f"{each:.2f}" for each in samples)
    low, middle, high = statistics.quantiles(samples, n=4, method="inclusive")
    return f"{middle:.2f} ({low:.2f}-{high:.2f})"
