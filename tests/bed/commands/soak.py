"""Thousands of containers' whole lives, and what the service keeps of them: nothing.

Half of the containers end by themselves, with exit codes that must be exact; the
others are stopped. Exit status 1 when anything is left, or when the service has grown by
more than a tenth since the first 500 lives.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import pairwise

from ocigrpc.errors import Timeout
from tests.bed.commands.crashes import KILLS, crash
from tests.bed.commands.image_crashes import KILLS as IMAGE_KILLS
from tests.bed.commands.image_crashes import crash_images
from tests.bed.commands.outcome import exit_status
from tests.bed.commands.samples import Sample, print_samples, take_sample
from tests.bed.hosts.leaks import until
from tests.bed.services.service import Service
from tests.bed.services.serving import sandbox

LIFECYCLES = 10_000
IN_FLIGHT = 8

# Lives after which the service is as large as it has to be.
FIRST = 500

# Lives from one line of progress to the next.
BATCH = 100

SETTLE_TIMEOUT_S = 30.0

# Exit code of a container that was stopped at once.
KILLED = 137


class Soak:
    """Lives of containers in a sandbox, one number after the other, ``total`` in all."""

    def __init__(self, service: Service, total: int) -> None:
        self._service = service
        self._total = total
        self._lived = 0
        self._began_s = time.monotonic()

    def live(self, end: int, in_flight: int) -> None:
        """All lives up to a number, so many at once."""
        with ThreadPoolExecutor(in_flight) as pool:
            while self._lived < end:
                batch = range(self._lived, min(self._lived + BATCH, end))
                for _ in pool.map(self._live_one, batch):
                    self._lived += 1
                self._report()

    def quiet_sample(self) -> Sample:
        """What there is once the service has tidied up, or after ``SETTLE_TIMEOUT_S``."""
        with suppress(Timeout):
            until(lambda: not take_sample(self._service).left, SETTLE_TIMEOUT_S)
        return take_sample(self._service)

    def _report(self) -> None:
        per_s = self._lived / (time.monotonic() - self._began_s)
        done = "\n" if self._lived == self._total or not sys.stderr.isatty() else "\r"
        line = f"{self._lived} of {self._total} lives, {per_s:.1f} a second"
        print(line, end=done, file=sys.stderr, flush=True)

    def _live_one(self, number: int) -> None:
        service, name = self._service, f"soak-{number}"
        by_itself = number % 2 == 0
        expected = number // 2 % 128 if by_itself else KILLED
        service.run(f"exit {expected}" if by_itself else "exec sleep 1000", container_id=name)
        if not by_itself:
            service.stop(name, 0)
        ended = service.wait(name)
        known = ended.HasField("exit_code")
        assert (known, ended.exit_code) == (True, expected), f"{name}: {ended}, not {expected}"
        service.remove(name)


def samples(service: Service, lifecycles: int) -> Iterator[tuple[str, Sample]]:
    """What there is before all lives, after the first ones and, if there are more, at the end."""
    soak = Soak(service, lifecycles)
    yield "before", soak.quiet_sample()
    first = min(FIRST, lifecycles)
    # More at once than ever after: how many threads eight lives need is a matter of chance.
    soak.live(first, 2 * IN_FLIGHT)
    yield f"after {first}", soak.quiet_sample()
    if lifecycles > first:
        soak.live(lifecycles, IN_FLIGHT)
        yield f"after {lifecycles}", soak.quiet_sample()


def too_much(taken: Sequence[tuple[str, Sample]]) -> Sequence[str]:
    """What was left, with the time, and what has grown too much since the first lives."""
    found = [f"{what} {when}" for when, sample in taken for what in sample.left]
    for (_, first), (when, last) in pairwise(taken[1:]):
        found += [f"{what} {when}" for what in first.outgrown(last)]
    return found


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/soak", description=__doc__)
    parser.add_argument(
        "--lifecycles",
        type=int,
        default=LIFECYCLES,
        help="how many (default: %(default)s)",
    )
    parser.add_argument(
        "--crash",
        type=int,
        nargs="?",
        const=KILLS,
        default=0,
        metavar="KILLS",
        help="kill the service so often instead, at random moments (without a number: %(const)s)",
    )
    parser.add_argument(
        "--images",
        type=int,
        nargs="?",
        const=IMAGE_KILLS,
        default=0,
        metavar="KILLS",
        help="kill it and skopeo so often while images are pulled, run and removed "
        "(without a number: %(const)s)",
    )
    arguments = parser.parse_args()
    if arguments.images:
        return crash_images(arguments.images)
    if arguments.crash:
        return crash(arguments.crash)
    lifecycles: int = arguments.lifecycles
    return exit_status(lambda: _soak(lifecycles))


def _soak(lifecycles: int) -> None:
    with sandbox() as service:
        taken = list(samples(service, lifecycles))
        print_samples(taken)
        found = too_much(taken)
        assert not found, f"too much: {', '.join(found)}"


if __name__ == "__main__":
    sys.exit(main())
