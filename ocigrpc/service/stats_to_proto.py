"""From limits and usage of containers to protobuf messages."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import msgspec

from ocigrpc.engine.containers.resources.stats import ContainerStats
from ocigrpc.engine.model.values import Position
from ocigrpc.host.cgroups.limits import Limits
from ocigrpc.host.cgroups.stats import CpuUsage, Pressure, PressureLine
from ocigrpc.service.pages import parts, size_of
from ocigrpc.service.times import duration, timestamp
from ocigrpc.v1 import config_pb2, runtime_pb2, stats_pb2

if TYPE_CHECKING:
    from google.protobuf.internal.containers import RepeatedCompositeFieldContainer


def limits(found: Limits) -> config_pb2.LinuxContainerResources:
    """The limits in force, as they can be requested."""
    return config_pb2.LinuxContainerResources(
        cpu_shares=found.cpu_shares,
        cpu_weight=found.cpu_weight,
        cpu_quota=found.cpu_quota_us,
        cpu_period=found.cpu_period_us,
        cpuset_cpus=found.cpuset_cpus,
        cpuset_mems=found.cpuset_mems,
        memory_limit_in_bytes=found.memory_limit_bytes,
        memory_swap_limit_in_bytes=found.memory_swap_limit_bytes,
        pids_limit=found.pids_limit,
        unified=found.unified,
        hugepage_limits=[
            config_pb2.HugepageLimit(page_size=size, limit=limit)
            for size, limit in sorted(found.hugepage_limits.items())
        ],
    )


def stats_messages(
    found: Iterable[ContainerStats],
) -> Iterator[runtime_pb2.WatchStatsResponse]:
    """The usage of containers, in as many messages as necessary; all but the last have ``more``."""
    held: list[stats_pb2.ContainerStats] | None = None
    for part in parts(map(container_stats, found)):
        if held is not None:
            yield runtime_pb2.WatchStatsResponse(stats=held, more=True)
        held = part
    yield runtime_pb2.WatchStatsResponse(stats=held)


def add_stats(
    entries: RepeatedCompositeFieldContainer[stats_pb2.ContainerStats], stats: ContainerStats
) -> tuple[Position, int]:
    """Add the usage of a container to a list: where it stands there, and the size of its entry."""
    entries.append(container_stats(stats))
    return stats.record.position, size_of(entries[-1])


def container_stats(stats: ContainerStats) -> stats_pb2.ContainerStats:
    """The usage of one container; what the host does not measure stays absent."""
    usage = stats.usage
    # These messages have the fields of the values.
    memory, pids, io = map(_fields, (usage.memory, usage.pids, usage.io))
    return stats_pb2.ContainerStats(
        container_id=stats.record.container_id,
        name=stats.record.name,
        labels=stats.record.labels,
        read_at=timestamp(stats.timestamp_ns),
        cpu=_cpu(usage.cpu),
        memory=None if memory is None else stats_pb2.MemoryStats(**memory),
        pids=None if pids is None else stats_pb2.PidsStats(**pids),
        io=None if io is None else stats_pb2.IoStats(**io),
        cpu_pressure=_pressure(usage.cpu_pressure),
        memory_pressure=_pressure(usage.memory_pressure),
        io_pressure=_pressure(usage.io_pressure),
    )


def _cpu(usage: CpuUsage | None) -> stats_pb2.CpuStats | None:
    if usage is None:
        return None
    return stats_pb2.CpuStats(
        usage=duration(usage.usage_ns),
        user=duration(usage.user_ns),
        system=duration(usage.system_ns),
        periods=usage.periods,
        throttled_periods=usage.throttled_periods,
        throttled=duration(usage.throttled_ns),
    )


def _fields(value: msgspec.Struct | None) -> dict[str, int] | None:
    return None if value is None else msgspec.structs.asdict(value)


def _pressure(pressure: Pressure | None) -> stats_pb2.PressureStats | None:
    if pressure is None:
        return None
    return stats_pb2.PressureStats(some=_line(pressure.some), full=_line(pressure.full))


def _line(line: PressureLine | None) -> stats_pb2.PressureLine | None:
    if line is None:
        return None
    return stats_pb2.PressureLine(
        avg10=line.avg10, avg60=line.avg60, avg300=line.avg300, total=duration(line.total_ns)
    )
