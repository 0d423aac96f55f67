"""Stats and limits as messages: what the host does not measure is absent, never 0."""

from __future__ import annotations

import msgspec
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from ocigrpc.engine.containers.resources.stats import ContainerStats
from ocigrpc.engine.model.values import State
from ocigrpc.errors import InvalidArgument
from ocigrpc.host.cgroups.limits import Limits
from ocigrpc.host.cgroups.stats import (
    CpuUsage,
    IoUsage,
    MemoryUsage,
    PidsUsage,
    Pressure,
    PressureLine,
    Usage,
)
from ocigrpc.service import from_proto, stats_to_proto
from ocigrpc.v1 import config_pb2, runtime_pb2, stats_pb2
from tests.unit.test_store import RECORD

EVERYTHING = Usage(
    cpu=CpuUsage(1, 2, 3, 4, 5, 6),
    memory=MemoryUsage(1, 2, 3, 4, 5, 6),
    pids=PidsUsage(1, 2),
    io=IoUsage(1, 2, 3, 4),
    cpu_pressure=Pressure(some=PressureLine(1.0, 2.0, 3.0, 4), full=PressureLine(5.0, 6.0, 7.0, 8)),
    memory_pressure=Pressure(some=PressureLine(1.0, 2.0, 3.0, 4)),
    io_pressure=Pressure(full=PressureLine(1.0, 2.0, 3.0, 4)),
)
NOTHING = Usage(
    cpu=None,
    memory=None,
    pids=None,
    io=None,
    cpu_pressure=None,
    memory_pressure=None,
    io_pressure=None,
)


def answer(usage: Usage) -> stats_pb2.ContainerStats:
    record = msgspec.structs.replace(RECORD, name="web", labels={"app": "x"})
    return stats_to_proto.container_stats(ContainerStats(record, State.RUNNING, 7, usage))


def test_everything_has_its_place() -> None:
    line = stats_pb2.PressureLine(avg10=1.0, avg60=2.0, avg300=3.0, total=Duration(nanos=4))
    other = stats_pb2.PressureLine(avg10=5.0, avg60=6.0, avg300=7.0, total=Duration(nanos=8))
    assert answer(EVERYTHING) == stats_pb2.ContainerStats(
        container_id="c1",
        name="web",
        labels={"app": "x"},
        read_at=Timestamp(nanos=7),
        cpu=stats_pb2.CpuStats(
            usage=Duration(nanos=1),
            user=Duration(nanos=2),
            system=Duration(nanos=3),
            periods=4,
            throttled_periods=5,
            throttled=Duration(nanos=6),
        ),
        memory=stats_pb2.MemoryStats(
            usage_bytes=1,
            working_set_bytes=2,
            rss_bytes=3,
            limit_bytes=4,
            swap_bytes=5,
            oom_kills=6,
        ),
        pids=stats_pb2.PidsStats(current=1, limit=2),
        io=stats_pb2.IoStats(read_bytes=1, write_bytes=2, read_ops=3, write_ops=4),
        cpu_pressure=stats_pb2.PressureStats(some=line, full=other),
        memory_pressure=stats_pb2.PressureStats(some=line),
        io_pressure=stats_pb2.PressureStats(full=line),
    )


@pytest.mark.parametrize("part", Usage.__struct_fields__)
def test_an_uncounted_part_is_absent(part: str) -> None:
    assert answer(EVERYTHING).HasField(part)
    assert not answer(msgspec.structs.replace(EVERYTHING, **{part: None})).HasField(part)


def test_an_uncounted_number_is_absent_and_a_counted_zero_is_not() -> None:
    cpu = answer(msgspec.structs.replace(NOTHING, cpu=CpuUsage(usage_ns=0))).cpu
    assert cpu.HasField("usage")
    assert not cpu.HasField("user")


def test_every_limit_has_its_place() -> None:
    given = Limits(
        *(512, 20, -1, 100_000, "0-1", "0", 4096, -1, 33, {"memory.high": "max"}, {"2MB": -1})
    )
    assert stats_to_proto.limits(given) == config_pb2.LinuxContainerResources(
        cpu_shares=512,
        cpu_weight=20,
        cpu_quota=-1,
        cpu_period=100_000,
        cpuset_cpus="0-1",
        cpuset_mems="0",
        memory_limit_in_bytes=4096,
        memory_swap_limit_in_bytes=-1,
        pids_limit=33,
        unified={"memory.high": "max"},
        hugepage_limits=[config_pb2.HugepageLimit(page_size="2MB", limit=-1)],
    )
    assert stats_to_proto.limits(Limits()) == config_pb2.LinuxContainerResources()


def test_a_cpuset_that_does_not_limit_is_there_and_empty() -> None:
    assert stats_to_proto.limits(Limits(cpuset_cpus="")).HasField("cpuset_cpus")
    assert not stats_to_proto.limits(Limits()).HasField("cpuset_cpus")


def request(**duration: int) -> runtime_pb2.WatchStatsRequest:
    return runtime_pb2.WatchStatsRequest(interval=Duration(**duration))


def test_an_interval_is_a_second_unless_given() -> None:
    assert from_proto.interval_s(runtime_pb2.WatchStatsRequest()) == 1.0


@pytest.mark.parametrize(
    ("duration", "seconds"),
    [
        ({"nanos": 100_000_000}, 0.1),
        ({"seconds": 2, "nanos": 500_000_000}, 2.5),
        ({"seconds": 3600}, 3600.0),
    ],
)
def test_an_interval_from_100_ms_to_an_hour(duration: dict[str, int], seconds: float) -> None:
    assert from_proto.interval_s(request(**duration)) == seconds


@pytest.mark.parametrize(
    "duration",
    [
        {},
        {"nanos": 99_999_999},
        {"seconds": -1},
        {"seconds": 3600, "nanos": 1},
        {"seconds": 2, "nanos": -500_000_000},
        {"seconds": 1, "nanos": 1_000_000_000},
    ],
)
def test_other_intervals_are_refused(duration: dict[str, int]) -> None:
    with pytest.raises(InvalidArgument) as caught:
        from_proto.interval_s(request(**duration))
    assert caught.value.reason == "INVALID_INTERVAL"
