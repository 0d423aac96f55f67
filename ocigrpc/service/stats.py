"""What containers use, and may use: requests and answers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from ocigrpc.engine.containers.resources.stats import ContainerStats
from ocigrpc.engine.model.values import Position
from ocigrpc.errors import InvalidArgument
from ocigrpc.host.cgroups.limits import Limits
from ocigrpc.host.cgroups.stats import Pressure, PressureLine
from ocigrpc.service.from_proto import seconds_of
from ocigrpc.service.pages import parts
from ocigrpc.v1 import config_pb2, runtime_pb2, stats_pb2

# From one message of WatchStats to the next, unless the client says.
INTERVAL_DEFAULT_S = 1.0

# What a client may say.
INTERVAL_LEAST_S, INTERVAL_MOST_S = 0.1, 3600.0


def interval_s(request: runtime_pb2.WatchStatsRequest) -> float:
    """Seconds between two messages. Raises ``InvalidArgument``."""
    if not request.HasField("interval"):
        return INTERVAL_DEFAULT_S
    seconds = seconds_of(request.interval)
    if seconds is None or not INTERVAL_LEAST_S <= seconds <= INTERVAL_MOST_S:
        raise InvalidArgument.of(
            "interval", "must be 100 milliseconds to 1 hour", reason="INVALID_INTERVAL"
        )
    return seconds


def limits(told: Limits) -> config_pb2.LinuxContainerResources:
    """The limits in force, in the form in which they can be asked for."""
    return config_pb2.LinuxContainerResources(
        cpu_shares=told.cpu_shares,
        cpu_weight=told.cpu_weight,
        cpu_quota=told.cpu_quota_us,
        cpu_period=told.cpu_period_us,
        cpuset_cpus=told.cpuset_cpus,
        cpuset_mems=told.cpuset_mems,
        memory_limit_in_bytes=told.memory_limit_bytes,
        memory_swap_limit_in_bytes=told.memory_swap_limit_bytes,
        pids_limit=told.pids_limit,
        unified=told.unified,
        hugepage_limits=[
            config_pb2.HugepageLimit(page_size=size, limit=limit)
            for size, limit in sorted(told.hugepage_limits.items())
        ],
    )


def stats_messages(
    found: Iterable[ContainerStats],
) -> Iterator[runtime_pb2.WatchStatsResponse]:
    """What several containers use, in as many messages as it takes: all but the last say so."""
    held: list[stats_pb2.ContainerStats] | None = None
    for part in parts(map(container_stats, found)):
        if held is not None:
            yield runtime_pb2.WatchStatsResponse(stats=held, more=True)
        held = part
    yield runtime_pb2.WatchStatsResponse(stats=held)


def listed(told: ContainerStats) -> tuple[Position, stats_pb2.ContainerStats]:
    """The same as an entry of a list."""
    return told.position, container_stats(told)


def container_stats(told: ContainerStats) -> stats_pb2.ContainerStats:
    """What one container uses; what the host can't tell stays absent."""
    usage = told.usage
    # These messages have the fields of the values.
    cpu, memory, pids, io = map(_fields, (usage.cpu, usage.memory, usage.pids, usage.io))
    return stats_pb2.ContainerStats(
        container_id=told.container_id,
        name=told.name,
        labels=told.labels,
        timestamp=told.timestamp_ns,
        cpu=None if cpu is None else stats_pb2.CpuStats(**cpu),
        memory=None if memory is None else stats_pb2.MemoryStats(**memory),
        pids=None if pids is None else stats_pb2.PidsStats(**pids),
        io=None if io is None else stats_pb2.IoStats(**io),
        cpu_pressure=_pressure(usage.cpu_pressure),
        memory_pressure=_pressure(usage.memory_pressure),
        io_pressure=_pressure(usage.io_pressure),
    )


def _fields(value: msgspec.Struct | None) -> dict[str, int] | None:
    return None if value is None else msgspec.structs.asdict(value)


def _pressure(told: Pressure | None) -> stats_pb2.PressureStats | None:
    if told is None:
        return None
    return stats_pb2.PressureStats(some=_line(told.some), full=_line(told.full))


def _line(told: PressureLine | None) -> stats_pb2.PressureLine | None:
    if told is None:
        return None
    return stats_pb2.PressureLine(
        avg10=told.avg10, avg60=told.avg60, avg300=told.avg300, total_ns=told.total_ns
    )
