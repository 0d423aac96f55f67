"""Single verbs on containers that live on: pause, resume, exec."""

from __future__ import annotations

from collections.abc import Iterator

from tests.bed.measures.figures import Figure, Times, at_most, factor_at_most
from tests.bed.measures.sides import PROGRAM, Bench, alive

# Processes of a container with many.
_CROWD = 500

_WHEN_READY = "while [ $(ls -d /proc/[0-9]* | wc -l) -lt {} ]; do sleep 0.05; done"


def pause_one(bench: Bench) -> Iterator[Figure]:
    """Pause and resume of a container with one process, beside the runtime's own verbs."""
    yield from _pause(bench, 1)


def pause_many(bench: Bench) -> Iterator[Figure]:
    """The same of a container with many."""
    yield from _pause(bench, _CROWD)


def _pause(bench: Bench, processes: int) -> Iterator[Figure]:
    others = f"for i in $(seq {processes - 1}); do sleep 1000 & done"
    sides = bench.sides("/bin/sh", "-c", f"{others}; exec sleep 1000")
    times = Times()
    with alive(sides, "paused"):
        for side in sides:
            side.exec(f"{side.name}-paused", "/bin/sh", "-c", _WHEN_READY.format(processes))
        for _ in range(bench.samples):
            for side in sides:
                with times.of(f"{side.name} pause"):
                    side.pause(f"{side.name}-paused")
                with times.of(f"{side.name} resume"):
                    side.resume(f"{side.name}-paused")
    what = "1 process" if processes == 1 else f"{processes} processes"
    for verb in ("pause", "resume"):
        bare, ours = times.pair(verb)
        yield at_most(f"{verb} {what}, ms", ours, 1.5, bare)


def execs(bench: Bench) -> Iterator[Figure]:
    """ExecSync of a program that ends at once, beside the runtime's own verb."""
    sides, times = bench.sides(*PROGRAM), Times()
    with alive(sides, "exec"):
        for _ in range(bench.samples):
            for side in sides:
                with times.of(f"{side.name} exec"):
                    side.exec(f"{side.name}-exec", "/bin/true")
    yield factor_at_most("ExecSync, ms", *times.pair("exec"), 1.2)
