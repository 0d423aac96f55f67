"""What the service costs beyond bare conmon and runc, as ratios within one run.

Bare and service take turns on the same bundle, so that both see the same noise of the
machine. Exit status 0 unless something failed to run: a missed target is no failure.
"""

from __future__ import annotations

import argparse
import itertools
import os
import select
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from queue import Queue

import grpc

from ocigrpc.v1 import event_pb2
from ocigrpc.v1 import runtime_pb2 as pb
from tests.bed.bundles.bundle import make_bundle
from tests.bed.commands.bare import Bare
from tests.bed.commands.figures import Figure, Times, added, print_table
from tests.bed.faults.hanging import Hanging, hanging_runtime
from tests.bed.services.service import Service
from tests.bed.services.serving import sandbox

IN_FLIGHT = 8
LIVE = 50

# Calls of ContainerStatus, and of ListContainers, for each live container.
STATUS_CALLS = 20

IDLE_STREAMS = 300

# Containers that live when the service is killed.
CRASHED = 500

EXIT_TIMEOUT_S = 30.0

PROGRAM = ["/bin/sleep", "1000"]


class Bundled:
    """Containers of one bundle, by the service."""

    def __init__(self, service: Service, bundle: str) -> None:
        self.service = service
        # A call of the same server that does nothing: what gRPC itself costs.
        self.check: grpc.UnaryUnaryMultiCallable[bytes, bytes] = service.channel.unary_unary(
            "/grpc.health.v1.Health/Check"
        )
        self.bundle = bundle

    def create(self, container_id: str) -> None:
        request = pb.CreateContainerRequest(bundle_path=self.bundle, container_id=container_id)
        self.service.rpc.CreateContainer(request)

    def run(self, container_id: str) -> None:
        self.create(container_id)
        self.service.start_container(container_id)

    def stop_and_remove(self, container_id: str) -> None:
        self.service.stop(container_id, 0)
        self.service.remove(container_id)

    @contextmanager
    def idle_streams(self) -> Iterator[None]:
        """Streams that are open beside the block, and get no events."""
        request = event_pb2.WatchEventsRequest()
        streams = [self.service.rpc.WatchEvents(request) for _ in range(IDLE_STREAMS)]
        for stream in streams:
            # With its first message it is being served.
            next(stream)
        yield
        for stream in streams:
            stream.cancel()

    def exit_delay_ms(self, container_id: str) -> float:
        """Kill it; from conmon's end as we see it to the answer of WaitContainer."""
        conmon = os.pidfd_open(self.service.monitor_pid(container_id))
        answered: Queue[float] = Queue()
        request = pb.WaitContainerRequest(container_id=container_id)
        waiting = self.service.rpc.WaitContainer.future(request)
        waiting.add_done_callback(lambda _: answered.put(time.perf_counter()))
        self.service.kill(container_id)
        select.select([conmon], [], [])
        ended_s = time.perf_counter()
        os.close(conmon)
        return (answered.get(timeout=EXIT_TIMEOUT_S) - ended_s) * 1000


def one_by_one(bare: Bare, ours: Bundled, times: Times, samples: int) -> None:
    """Whole lives of containers, bare and by the service in turn."""
    for number in range(samples):
        _bare_life(bare, times, f"bare-{number}")
        _service_life(ours, times, f"service-{number}")


def _bare_life(bare: Bare, times: Times, name: str) -> None:
    monitor = bare.prepare(name)
    with times.of("bare create+start"):
        conmon = bare.create(monitor)
        bare.verb("start", name)
    for verb in ("pause", "resume"):
        with times.of(f"bare {verb}"):
            bare.verb(verb, name)
    with times.of("bare stop+remove"):
        bare.stop_and_remove(name, conmon)


def _service_life(ours: Bundled, times: Times, name: str) -> None:
    with times.of("service create+start"):
        ours.run(name)
    for verb in (ours.service.pause, ours.service.resume):
        with times.of(f"service {verb.__name__}"):
            verb(name)
    with times.of("service stop+remove"):
        ours.stop_and_remove(name)


def many_live(ours: Bundled, hanging: Hanging, times: Times) -> None:
    """Reading calls beside many live containers, and how soon their exits are reported."""
    names = [f"live-{number}" for number in range(LIVE)]
    everything = pb.ListContainersRequest()
    for name in names:
        ours.run(name)
    for name in names * STATUS_CALLS:
        with times.of("empty call"):
            ours.check(b"")
        with times.of("service status"):
            ours.service.status(name)
    for _ in range(LIVE):
        with times.of("service stats"):
            ours.service.rpc.ListContainerStats(pb.ListContainerStatsRequest())
    with ours.idle_streams():
        for name in names * STATUS_CALLS:
            with times.of("status beside streams"):
                ours.service.status(name)
    for _ in names * STATUS_CALLS:
        with times.of("service list"):
            ours.service.rpc.ListContainers(everything)
    with hanging.verbs(ours.service.rpc, ours.bundle):
        for _ in names * STATUS_CALLS:
            with times.of("list beside hanging"):
                ours.service.rpc.ListContainers(everything)
    for name in names:
        times.add("service exit", ours.exit_delay_ms(name))
        ours.stop_and_remove(name)


def in_flight(bare: Bare, ours: Bundled, rounds: int) -> tuple[float, float]:
    """Lifecycles per second with ``IN_FLIGHT`` at once, bare and by the service in turn."""
    numbers = itertools.count()
    took_s = {"bare": 0.0, "service": 0.0}

    def bare_life(name: str) -> None:
        conmon = bare.create(bare.prepare(name))
        bare.verb("start", name)
        bare.stop_and_remove(name, conmon)

    def service_life(name: str) -> None:
        ours.run(name)
        ours.stop_and_remove(name)

    lives: dict[str, Callable[[str], None]] = {"bare": bare_life, "service": service_life}
    batch = IN_FLIGHT * 5
    with ThreadPoolExecutor(IN_FLIGHT) as pool:
        for _, (name, life) in itertools.product(range(rounds), lives.items()):
            began_s = time.perf_counter()
            list(pool.map(life, [f"flight-{next(numbers)}" for _ in range(batch)]))
            took_s[name] += time.perf_counter() - began_s
    return batch * rounds / took_s["bare"], batch * rounds / took_s["service"]


def crash_beside_many(ours: Bundled, count: int) -> float:
    """Kill the service beside many live containers; seconds from its start to its being ready."""
    names = [f"crash-{number}" for number in range(count)]

    with ThreadPoolExecutor(IN_FLIGHT) as pool:
        list(pool.map(ours.run, names))
        ours.service.die()
        began_s = time.perf_counter()
        ours.service.start()
        took_s = time.perf_counter() - began_s
        list(pool.map(ours.stop_and_remove, names))
    return took_s


def figures(
    times: Times, per_s: tuple[float, float], crashed: int, ready_s: float
) -> Iterator[Figure]:
    """The table, line by line."""
    name = "create+start"
    bare, ours = times.p50(f"bare {name}"), times.p50(f"service {name}")
    yield Figure(
        f"{name}, ms",
        f"{bare:.2f}",
        f"{ours:.2f}",
        f"x {ours / bare:.2f}",
        "x 1.10",
        ours <= 1.1 * bare,
    )
    for name in ("pause", "resume", "stop+remove"):
        bare, ours = times.p50(f"bare {name}"), times.p50(f"service {name}")
        yield added(f"{name}, ms", bare, ours, "+1.00", ours - bare <= 1)
    empty, status, seen = map(times.p50, ("empty call", "service status", "service exit"))
    yield added(f"status, {LIVE} live, ms *", empty, status, "0.50", status <= 0.5)
    stats = times.p50("service stats") / LIVE
    yield Figure("stats of each live, ms", "", f"{stats:.2f}", "", "1.00", stats < 1)
    alone, beside = map(times.p99, ("service status", "status beside streams"))
    name = f"its p99, {IDLE_STREAMS} streams, ms **"
    yield added(name, alone, beside, "+20.00", beside - alone < 20)
    for name, p in ((f"list, {LIVE} live, ms ***", times.p50), ("its p99, ms ***", times.p99)):
        alone, beside = p("service list"), p("list beside hanging")
        yield added(name, alone, beside, "10.00", beside < 10)
    yield Figure("exit seen after, ms", "", f"{seen:.2f}", "", "5.00", seen <= 5)
    ratio = per_s[1] / per_s[0]
    yield Figure(
        f"lives per s, {IN_FLIGHT} at once",
        f"{per_s[0]:.1f}",
        f"{per_s[1]:.1f}",
        f"x {ratio:.2f}",
        "x 0.90",
        ratio >= 0.9,
    )
    yield Figure(f"ready beside {crashed} live, s", "", f"{ready_s:.2f}", "", "5.00", ready_s < 5)


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    parser.add_argument("--samples", type=int, default=60, help="lives of each (default: 60)")
    samples: int = parser.parse_args().samples
    times = Times()
    with hanging_runtime() as hanging, sandbox(hanging=hanging.path) as service:
        directory, parent = service.directory, service.cgroup_parent
        bundle = make_bundle(directory / "bundle", PROGRAM)
        bare = Bare(bundle, directory, parent, _program("conmon"), _program("runc"))
        ours = Bundled(service, str(bundle))
        one_by_one(bare, ours, Times(), min(samples, 3))
        one_by_one(bare, ours, times, samples)
        many_live(ours, hanging, times)
        per_s = in_flight(bare, ours, rounds=max(1, samples // 20))
        crashed = min(CRASHED, samples * 10)
        ready_s = crash_beside_many(ours, crashed)
    print_table(figures(times, per_s, crashed, ready_s))
    print("* bare: a call of the same server that does nothing")
    print("** bare: without the streams")
    print("*** bare: while no runtime hangs in every verb, and in as many creates as may run")


def _program(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        sys.exit(f"{name} is not on PATH")
    return path


if __name__ == "__main__":
    main()
