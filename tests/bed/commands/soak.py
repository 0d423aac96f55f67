"""Thousands of containers' whole lives, and what the service keeps of them: nothing.

Half of the containers end by themselves, with exit codes that have to be told exactly; the
others are stopped. Exit status 1 when anything is left, or when the service has grown by
more than a tenth since the first 500 lives.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import grpc
from google.protobuf.duration_pb2 import Duration

from ocigrpc.v1 import config_pb2
from ocigrpc.v1 import runtime_pb2 as pb
from tests.bed.commands.crashes import KILLS, crash
from tests.bed.commands.samples import Sample, print_samples, take_sample
from tests.bed.commands.sandbox import Sandbox, SandboxFailed, sandbox

LIFECYCLES = 10_000
IN_FLIGHT = 8
FIRST = 500
"""Lives after which the service is as large as it has to be."""

BATCH = 100
"""Lives from one line of progress to the next."""

CALL_TIMEOUT_S = 60.0
SETTLE_TIMEOUT_S = 30.0
KILLED = 137
"""Exit code of a container that was stopped at once."""


class Drifted(Exception):
    """Something was left or has grown, or an exit code was wrong."""


class Soak:
    """Lives of containers in a sandbox, one number after the other, ``total`` in all."""

    def __init__(self, box: Sandbox, total: int) -> None:
        self._box = box
        self._rootfs = str(box.make_bundle(["sh"]) / "rootfs")
        self._total = total
        self._lived = 0
        self._began_s = time.monotonic()

    def live(self, until: int, in_flight: int) -> None:
        """All lives up to a number, so many at once."""
        with ThreadPoolExecutor(in_flight) as pool:
            while self._lived < until:
                batch = range(self._lived, min(self._lived + BATCH, until))
                for _ in pool.map(self._live_one, batch):
                    self._lived += 1
                self._tell()

    def quiet_sample(self) -> Sample:
        """What there is once the service has tidied up, or after ``SETTLE_TIMEOUT_S``."""
        until_s = time.monotonic() + SETTLE_TIMEOUT_S
        while (sample := take_sample(self._box)).left and time.monotonic() < until_s:
            time.sleep(0.1)
        return sample

    def _tell(self) -> None:
        per_s = self._lived / (time.monotonic() - self._began_s)
        done = "\n" if self._lived == self._total or not sys.stderr.isatty() else "\r"
        said = f"{self._lived} of {self._total} lives, {per_s:.1f} a second"
        print(said, end=done, file=sys.stderr, flush=True)

    def _live_one(self, number: int) -> None:
        stub, name = self._box.stub, f"soak-{number}"
        by_itself = number % 2 == 0
        expected = number // 2 % 128 if by_itself else KILLED
        script = f"exit {expected}" if by_itself else "exec sleep 1000"
        config = config_pb2.ContainerConfig(
            rootfs_path=self._rootfs, command=["/bin/sh", "-c", script]
        )
        create = pb.CreateContainerRequest(container_id=name, config=config)
        stub.CreateContainer(create, timeout=CALL_TIMEOUT_S)
        stub.StartContainer(pb.StartContainerRequest(container_id=name), timeout=CALL_TIMEOUT_S)
        if not by_itself:
            stop = pb.StopContainerRequest(container_id=name, timeout=Duration())
            stub.StopContainer(stop, timeout=CALL_TIMEOUT_S)
        wait = pb.WaitContainerRequest(container_id=name)
        ended = stub.WaitContainer(wait, timeout=CALL_TIMEOUT_S).exit_status
        if not ended.HasField("exit_code") or ended.exit_code != expected:
            raise Drifted(f"{name} ended with {ended}, not {expected}")
        stub.RemoveContainer(pb.RemoveContainerRequest(container_id=name), timeout=CALL_TIMEOUT_S)


def samples(box: Sandbox, lifecycles: int) -> Iterator[tuple[str, Sample]]:
    """What there is before all lives, after the first ones and, if there are more, at the end."""
    soak = Soak(box, lifecycles)
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
    """Exit status 0 if nothing is left and nothing has grown."""
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
    arguments = parser.parse_args()
    if arguments.crash:
        return crash(arguments.crash)
    lifecycles: int = arguments.lifecycles
    try:
        with sandbox("soak") as box:
            taken = list(samples(box, lifecycles))
            print_samples(taken)
            if found := too_much(taken):
                raise Drifted(f"too much: {', '.join(found)}")
        print("Left behind: no process, cgroup, mount or file.")
        return 0
    except KeyboardInterrupt:
        print("\nInterrupted; nothing is left behind.", file=sys.stderr)
        return 130
    except (Drifted, SandboxFailed) as error:
        print(f"Not true: {error}", file=sys.stderr)
    except grpc.RpcError as error:
        print(f"Failed: {error}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
