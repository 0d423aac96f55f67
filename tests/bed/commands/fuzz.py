"""Hostile requests to every RPC: each is refused for what is wrong with it, and changes nothing.

Exit status 0 when none was answered otherwise. Else the request is printed, in the text
format of protobuf, as small as it still fails; ``--seed`` makes the same requests again.
"""

from __future__ import annotations

import argparse
import secrets
import sys
import tempfile
import time
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.errors import Flaky
from hypothesis.strategies import SearchStrategy

from tests.bed.faults.hostile import Case, cases
from tests.bed.faults.hostile_places import make_places
from tests.bed.faults.hostile_run import HostileRun
from tests.bed.hosts.usage import usage_of
from tests.bed.services.service import Service
from tests.bed.services.serving import sandbox

# Cases that are drawn together: the generator remembers them all.
ROUND = 1000


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/fuzz", description=__doc__)
    parser.add_argument("--cases", type=int, default=100_000, help="how many; %(default)s")
    parser.add_argument(
        "--seed", type=int, default=secrets.randbits(32), help="of all that is sent"
    )
    arguments = parser.parse_args()
    print(f"seed {arguments.seed}", flush=True)
    with (
        tempfile.TemporaryDirectory(prefix="ocigrpc-fuzz-places-") as directory,
        sandbox() as service,
    ):
        places = make_places(Path(directory))
        run = HostileRun(service.channel, places, service.directory, service.leaks)
        run.prepare()
        strategy = cases(places, service.cgroup_parent)
        failed = not _send_all(run, strategy, service, arguments.cases, arguments.seed)
        failed |= _report(run, service)
    sys.exit(1 if failed else 0)


def _send_all(
    run: HostileRun, strategy: SearchStrategy[Case], service: Service, count: int, first_seed: int
) -> bool:
    """Send ``count`` cases; whether all were answered well."""
    began_s = time.monotonic()
    for number, done in enumerate(range(0, count, ROUND)):
        try:
            _send_round(run, strategy, min(ROUND, count - done), first_seed + number)
        except (AssertionError, Flaky) as error:
            print(f"\n{error}\n\nwhich came of\n{run.first_fault}", flush=True)
            return False
        total = run.answers.total()
        per_s, usage = total / (time.monotonic() - began_s), usage_of(service.pid)
        size = f"{usage.rss >> 10} MiB, {usage.fds} descriptors, {usage.threads} threads"
        line = f"{total} cases, {per_s:.0f} a second, {size}"
        print(f"\r{line:60}", end="" if sys.stdout.isatty() else "\n", flush=True)
    return True


def _send_round(run: HostileRun, strategy: SearchStrategy[Case], count: int, number: int) -> None:
    @seed(number)
    @settings(
        max_examples=count,
        database=None,
        deadline=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def send(case: Case) -> None:
        run.send(case)

    send()


def _report(run: HostileRun, service: Service) -> bool:
    """Print what was answered; whether something is wrong after all."""
    print()
    for answer, count in sorted(run.answers.items()):
        print(f"{count:8} {answer}")
    left = run.changes()
    # As a key, which no text of a client's can be.
    defects = [str(event) for event in service.events() if "exception" in event]
    for line in [*left, *defects]:
        print(line)
    return bool(left or defects)


if __name__ == "__main__":
    main()
