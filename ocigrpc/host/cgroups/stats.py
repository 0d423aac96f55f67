"""What a cgroup uses, read from its files of either generation, and nothing else.

Formats: cgroup-v1/*.rst, cgroup-v2.rst and accounting/psi.rst of the kernel's documentation.
All counters include the groups below, except throttling, which is counted where the limit is.
"""

from __future__ import annotations

import os
from typing import TypeVar

import msgspec
from msgspec import Struct

from ocigrpc.host.cgroups.cgroup import Cgroup
from ocigrpc.host.cgroups.controller import ControllerGroup
from ocigrpc.host.cgroups.limits import parse_number

_US, _TICK = 1000, 1_000_000_000 // os.sysconf("SC_CLK_TCK")
_Usage = TypeVar("_Usage", bound=Struct)


class CpuUsage(Struct, frozen=True):
    """Time on CPUs, and time spent waiting for the next period because of a quota."""

    usage_ns: int | None = None
    user_ns: int | None = None
    system_ns: int | None = None
    periods: int | None = None
    throttled_periods: int | None = None
    throttled_ns: int | None = None


class MemoryUsage(Struct, frozen=True):
    """Memory. ``working_set_bytes`` is the usage without inactive file pages."""

    usage_bytes: int | None = None
    working_set_bytes: int | None = None
    rss_bytes: int | None = None
    limit_bytes: int | None = None
    swap_bytes: int | None = None
    oom_kills: int | None = None


class PidsUsage(Struct, frozen=True):
    """Processes and threads."""

    current: int | None = None
    limit: int | None = None


class IoUsage(Struct, frozen=True):
    """What was read from and written to block devices, by all of them together."""

    read_bytes: int
    write_bytes: int
    read_ops: int
    write_ops: int


class PressureLine(Struct, frozen=True):
    """The share of time that tasks were stalled, in percent, and all such time so far."""

    avg10: float
    avg60: float
    avg300: float
    total_ns: int


class Pressure(Struct, frozen=True):
    """Pressure on one resource: ``some`` tasks were stalled, or all of them (``full``)."""

    some: PressureLine | None = None
    full: PressureLine | None = None


class Usage(Struct, frozen=True):
    """All that a group uses; None is what this host does not count."""

    cpu: CpuUsage | None
    memory: MemoryUsage | None
    pids: PidsUsage | None
    io: IoUsage | None
    cpu_pressure: Pressure | None
    memory_pressure: Pressure | None
    io_pressure: Pressure | None


def read_usage(cgroup: Cgroup) -> Usage:
    """What the group uses now, as far as the host counts it."""
    unified = _joined(cgroup)
    return Usage(
        cpu=_cpu(cgroup.of_controller("cpuacct"), cgroup.of_controller("cpu"), unified),
        memory=_memory(cgroup, cgroup.of_controller("memory"), unified),
        pids=_pids(cgroup.of_controller("pids") or unified),
        io=_io(cgroup.of_controller("blkio"), unified),
        cpu_pressure=_pressure(unified, "cpu.pressure"),
        memory_pressure=_pressure(unified, "memory.pressure"),
        io_pressure=_pressure(unified, "io.pressure"),
    )


def parse_flat(text: str) -> dict[str, int]:
    """The numbers in a file of lines such as "nr_periods 12", by their names."""
    pairs = (line.partition(" ") for line in text.splitlines())
    return {key: int(value) for key, _, value in pairs if value.isdigit()}


def parse_v1_io(serviced: str) -> tuple[int, int] | None:
    """Reads and writes in a file of lines such as "8:0 Read 4096"; None without a device."""
    rows = [line.split() for line in serviced.splitlines()]
    counts = [(row[1], int(row[2])) for row in rows if len(row) == 3]
    if not counts:
        return None
    return (
        sum(count for kind, count in counts if kind == "Read"),
        sum(count for kind, count in counts if kind == "Write"),
    )


def parse_v2_io(text: str) -> IoUsage:
    """``io.stat``: lines such as "8:0 rbytes=4096 wbytes=0 rios=1 wios=0 dbytes=0 dios=0"."""
    counters = [each for line in text.splitlines() for each in line.split()[1:]]
    pairs = [each.partition("=") for each in counters]

    def total(wanted: str) -> int:
        return sum(int(value) for key, _, value in pairs if key == wanted)

    return IoUsage(total("rbytes"), total("wbytes"), total("rios"), total("wios"))


def parse_pressure(text: str) -> Pressure | None:
    """A file of lines such as "some avg10=0.00 avg60=0.00 avg300=0.00 total=0"."""
    lines = {}
    for line in text.splitlines():
        kind, *averages = line.split()
        values = dict(each.split("=", 1) for each in averages)
        lines[kind] = PressureLine(
            avg10=float(values["avg10"]),
            avg60=float(values["avg60"]),
            avg300=float(values["avg300"]),
            total_ns=int(values["total"]) * _US,
        )
    return Pressure(some=lines.get("some"), full=lines.get("full")) if lines else None


def _joined(cgroup: Cgroup) -> ControllerGroup | None:
    """The cgroup2 group, unless the processes are in the v1 groups of a hybrid host alone."""
    unified = cgroup.of_controller("")
    if unified is None or len(cgroup.groups) == 1:
        return unified
    return unified if "populated 1" in (unified.read("cgroup.events") or "") else None


def _cpu(
    acct: ControllerGroup | None, limited: ControllerGroup | None, unified: ControllerGroup | None
) -> CpuUsage | None:
    usage = _v2_cpu(unified) if acct is None or limited is None else {}
    total = None if acct is None else parse_number(acct.read("cpuacct.usage"))
    if acct is not None and total is not None:
        ticks = parse_flat(acct.read("cpuacct.stat") or "")
        usage |= {
            "usage_ns": total,
            "user_ns": _times(ticks.get("user"), _TICK),
            "system_ns": _times(ticks.get("system"), _TICK),
        }
    if limited is not None:
        periods = parse_flat(limited.read("cpu.stat") or "")
        usage |= {
            "periods": periods.get("nr_periods"),
            "throttled_periods": periods.get("nr_throttled"),
            "throttled_ns": periods.get("throttled_time"),
        }
    return _unless_empty(CpuUsage(**usage))


def _v2_cpu(unified: ControllerGroup | None) -> dict[str, int | None]:
    # cgroup2 has these without the cpu controller as well, except throttling.
    stat = parse_flat("" if unified is None else unified.read("cpu.stat") or "")
    return {
        "usage_ns": _times(stat.get("usage_usec"), _US),
        "user_ns": _times(stat.get("user_usec"), _US),
        "system_ns": _times(stat.get("system_usec"), _US),
        "periods": stat.get("nr_periods"),
        "throttled_periods": stat.get("nr_throttled"),
        "throttled_ns": _times(stat.get("throttled_usec"), _US),
    }


def _memory(
    cgroup: Cgroup, v1: ControllerGroup | None, unified: ControllerGroup | None
) -> MemoryUsage | None:
    group = v1 or unified
    if group is None:
        return None
    stat = parse_flat(group.read("memory.stat") or "")
    if v1 is not None:
        usage, limit = v1.read("memory.usage_in_bytes"), v1.read("memory.limit_in_bytes")
        inactive, rss = stat.get("total_inactive_file"), stat.get("total_rss")
        swap = stat.get("total_swap")
    else:
        usage, limit = group.read("memory.current"), group.read("memory.max")
        inactive, rss = stat.get("inactive_file"), stat.get("anon")
        swap = parse_number(group.read("memory.swap.current"))
    used = parse_number(usage)
    known = used is not None and inactive is not None
    return _unless_empty(
        MemoryUsage(
            usage_bytes=used,
            # The two files are not read at one moment: usage may have fallen in between.
            working_set_bytes=max(0, (used or 0) - (inactive or 0)) if known else None,
            rss_bytes=rss,
            limit_bytes=parse_number(limit),
            swap_bytes=swap,
            oom_kills=cgroup.oom_kills(),
        )
    )


def _pids(group: ControllerGroup | None) -> PidsUsage | None:
    if group is None:
        return None
    current, limit = (parse_number(group.read(name)) for name in ("pids.current", "pids.max"))
    return _unless_empty(PidsUsage(current, limit))


def _io(v1: ControllerGroup | None, unified: ControllerGroup | None) -> IoUsage | None:
    if v1 is None:
        text = None if unified is None else unified.read("io.stat")
        return None if text is None else parse_v2_io(text)
    # Which of the two policies counts depends on the devices; perhaps none does.
    for policy in ("blkio.throttle", "blkio.bfq"):
        name = f"{policy}.io_service_bytes_recursive"
        if (count := parse_v1_io(v1.read(name) or "")) is not None:
            ops = parse_v1_io(v1.read(f"{policy}.io_serviced_recursive") or "")
            return None if ops is None else IoUsage(*count, *ops)
        # The topmost group counts a device if any group can: this one has not used any.
        if parse_v1_io(v1.at(v1.top).read(name) or "") is not None:
            return IoUsage(0, 0, 0, 0)
    return None


def _pressure(unified: ControllerGroup | None, name: str) -> Pressure | None:
    return parse_pressure("" if unified is None else unified.read(name) or "")


def _times(count: int | None, factor: int) -> int | None:
    return None if count is None else count * factor


def _unless_empty(usage: _Usage) -> _Usage | None:
    return usage if any(value is not None for value in msgspec.structs.astuple(usage)) else None
