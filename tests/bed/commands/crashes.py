"""``scripts/soak --crash``: a service that is killed a thousand times, and stays true.

Containers live on, or are gone; every exit code is exact, and reported once. The load,
and all that is checked after each kill, is that of the tests.
"""

from __future__ import annotations

import secrets
import statistics
import sys
import time

from tests.bed.commands.outcome import exit_status
from tests.bed.loads.storm import Storm, Toll
from tests.bed.services.serving import sandbox

KILLS = 1000


def crash(kills: int = KILLS, seed: int | None = None) -> int:
    """Kill a service so many times, and print what there was; the exit status.

    The same ``seed`` makes the same moments, as far as the machine lets it.
    """
    seed = secrets.randbits(32) if seed is None else seed
    print(f"seed {seed}", file=sys.stderr)
    began_s = time.monotonic()

    def progress(toll: Toll) -> None:
        per_s = toll.kills / (time.monotonic() - began_s)
        line = f"{toll.kills} of {kills} kills, {toll.lives} lives, {per_s:.2f} kills a second"
        print(line, end="\r" if sys.stderr.isatty() else "\n", file=sys.stderr, flush=True)

    def work() -> None:
        with sandbox() as service:
            storm = Storm(service, seed)
            storm.rage(kills, progress)
        _print_toll(storm.toll, time.monotonic() - began_s)

    return exit_status(work)


def _print_toll(toll: Toll, took_s: float) -> None:
    lines = {
        "kills of a service that was ready": toll.kills,
        "kills of one that was not yet": toll.early_kills,
        "calls cut off": toll.cut_off,
        "lives of containers, each exit code exact": toll.lives,
        "events, none missing and none twice": toll.events,
        "start until ready, ms, median": round(1000 * statistics.median(toll.restarts_s)),
        "the same, longest": round(1000 * max(toll.restarts_s)),
        "minutes": round(took_s / 60),
    }
    for name, figure in lines.items():
        print(f"{name:<45}{figure:>8}")
