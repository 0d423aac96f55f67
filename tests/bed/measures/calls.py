"""Calls that change nothing, beside many containers, streams and runtimes that hang."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import grpc

from ocigrpc.v1 import event_pb2
from ocigrpc.v1 import runtime_pb2 as pb
from tests.bed.measures.figures import Figure, Times, added_at_most, at_most, p99
from tests.bed.measures.sides import PROGRAM, Bench, Bundled
from tests.bed.services.service import Service

_LIVE = 50
# Calls of a kind for each sample that is asked for; a p99 takes some hundreds.
_CALLS = 15
_STREAMS = 300

_EVERYTHING = pb.ListContainersRequest()


def status(bench: Bench) -> Iterator[Figure]:
    """ContainerStatus beside a call that does nothing, then beside streams; exits that are seen."""
    service, times = bench.service, Times()
    _, ours = bench.sides(*PROGRAM)
    # What gRPC itself costs.
    check: grpc.UnaryUnaryMultiCallable[bytes, bytes] = service.channel.unary_unary(
        "/grpc.health.v1.Health/Check"
    )
    with _living(ours) as names:
        for name in names[: bench.samples] * _CALLS:
            with times.of("empty"):
                check(b"")
            with times.of("status"):
                service.status(name)
        yield at_most("status (bare: an empty call), ms", times["status"], 0.6, times["empty"])
        for _ in range(bench.samples):
            with times.of("stats"):
                service.wire.ListContainerStats(pb.ListContainerStatsRequest())
        each = [took_ms / _LIVE for took_ms in times["stats"]]
        yield at_most("stats of each live, ms", each, 1)
        with _idle_streams(service):
            for name in names[: bench.samples] * _CALLS:
                with times.of("beside"):
                    service.status(name)
        alone, beside = p99(times["status"]), p99(times["beside"])
        yield added_at_most("status p99 (bare: no streams), ms", alone, beside, 20)
        for name in names:
            times.add("exit", ours.exit_delay_ms(name))
    yield at_most("exit seen after, ms", times["exit"], 5)


@contextmanager
def _living(ours: Bundled) -> Iterator[list[str]]:
    """The ids of many live containers."""
    names = [f"live-{number}" for number in range(_LIVE)]
    for name in names:
        ours.run(name)
    yield names
    for name in names:
        ours.stop_and_remove(name)


@contextmanager
def _idle_streams(service: Service) -> Iterator[None]:
    """Streams that are open beside the block, and get no events."""
    request = event_pb2.WatchEventsRequest()
    streams = [service.wire.WatchEvents(request) for _ in range(_STREAMS)]
    for stream in streams:
        # With its first message it is being served.
        next(stream)
    yield
    for stream in streams:
        stream.cancel()


def beside_hanging(bench: Bench) -> Iterator[Figure]:
    """ListContainers while no runtime hangs, and while one does in all the calls that may."""
    service, times = bench.service, Times()
    _, ours = bench.sides(*PROGRAM)
    with _living(ours):
        for _ in range(bench.samples * _CALLS):
            with times.of("alone"):
                service.wire.ListContainers(_EVERYTHING)
        with bench.hanging.verbs(service.wire, ours.bundle):
            for _ in range(bench.samples * _CALLS):
                with times.of("beside"):
                    service.wire.ListContainers(_EVERYTHING)
    alone, beside = times["alone"], times["beside"]
    yield at_most("list (bare: nothing hangs), ms", beside, 10, alone)
    yield at_most("list p99 (bare: nothing hangs), ms", p99(beside), 10, p99(alone))
