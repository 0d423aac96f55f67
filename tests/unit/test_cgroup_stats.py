"""What a group uses, from the files that hosts of each generation have."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec
import pytest

from ocigrpc.host.cgroups.cgroup import Cgroup
from ocigrpc.host.cgroups.controller import ControllerGroup
from ocigrpc.host.cgroups.limits import NO_LIMIT, parse_number
from ocigrpc.host.cgroups.stats import (
    CpuUsage,
    IoUsage,
    MemoryUsage,
    PidsUsage,
    Pressure,
    PressureLine,
    Usage,
    parse_flat,
    parse_pressure,
    parse_v1_io,
    parse_v2_io,
    read_usage,
)

V1_MEMORY_STAT = """\
cache 1
rss 2
swap 3
inactive_file 4
hierarchical_memory_limit 67108864
total_cache 8192000
total_rss 4096000
total_swap 12288
total_inactive_file 1000000
total_active_file 7192000
"""
V2_MEMORY_STAT = """\
anon 4096000
file 8192000
inactive_anon 4000000
active_anon 96000
inactive_file 1000000
active_file 7192000
"""
V1_IO_BYTES = """\
254:0 Read 4096
254:0 Write 100
254:0 Sync 4196
254:0 Async 0
254:0 Discard 0
254:0 Total 4196
8:16 Read 1
8:16 Write 2
8:16 Total 3
Total 4199
"""
V1_IO_OPS = "254:0 Read 7\n254:0 Write 8\n254:0 Total 15\n8:16 Read 1\n8:16 Write 1\nTotal 17\n"
PRESSURE = """\
some avg10=1.50 avg60=0.25 avg300=0.01 total=4321
full avg10=0.00 avg60=0.00 avg300=0.00 total=7
"""
PRESSED = Pressure(
    some=PressureLine(1.5, 0.25, 0.01, 4_321_000), full=PressureLine(0.0, 0.0, 0.0, 7_000)
)

V1 = {
    "cpuacct": {"cpuacct.usage": "5000000123\n", "cpuacct.stat": "user 300\nsystem 199\n"},
    "cpu": {"cpu.stat": "nr_periods 10\nnr_throttled 4\nthrottled_time 77\n"},
    "memory": {
        "memory.usage_in_bytes": "12288000\n",
        "memory.limit_in_bytes": "67108864\n",
        "memory.stat": V1_MEMORY_STAT,
        "memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n",
    },
    "pids": {"pids.current": "3\n", "pids.max": "max\n"},
    "blkio": {
        "blkio.throttle.io_service_bytes_recursive": V1_IO_BYTES,
        "blkio.throttle.io_serviced_recursive": V1_IO_OPS,
    },
}
V2 = {
    "cpu.stat": "usage_usec 5000000\nuser_usec 3000000\nsystem_usec 1990000\nnice_usec 0\n"
    "nr_periods 10\nnr_throttled 4\nthrottled_usec 77\nnr_bursts 0\nburst_usec 0\n",
    "memory.current": "12288000\n",
    "memory.max": "67108864\n",
    "memory.stat": V2_MEMORY_STAT,
    "memory.swap.current": "12288\n",
    "memory.events": "low 0\nhigh 0\nmax 9\noom 3\noom_kill 2\noom_group_kill 0\n",
    "pids.current": "3\n",
    "pids.max": "max\n",
    "io.stat": "254:0 rbytes=4096 wbytes=100 rios=7 wios=8 dbytes=0 dios=0\n"
    "8:16 rbytes=1 wbytes=2 rios=1 wios=1 dbytes=0 dios=0\n",
    "cpu.pressure": PRESSURE,
    "memory.pressure": PRESSURE,
    "io.pressure": PRESSURE,
}
NOTHING = Usage(
    cpu=None,
    memory=None,
    pids=None,
    io=None,
    cpu_pressure=None,
    memory_pressure=None,
    io_pressure=None,
)


def v1_groups(directory: Path, files: Mapping[str, Mapping[str, str]]) -> list[ControllerGroup]:
    """Parts of hierarchies of one controller each; the group is "c" in each."""
    return [
        written(directory / name, contents, frozenset({name})) for name, contents in files.items()
    ]


def v2_part(directory: Path, files: Mapping[str, str]) -> ControllerGroup:
    return written(directory / "unified", files, frozenset())


def written(top: Path, files: Mapping[str, str], controllers: frozenset[str]) -> ControllerGroup:
    (top / "c").mkdir(parents=True)
    for name, text in files.items():
        (top / "c" / name).write_text(text)
    return ControllerGroup(str(top / "c"), str(top), controllers, not controllers)


def usage(*groups: ControllerGroup) -> Usage:
    return read_usage(Cgroup("/c", groups))


def test_usage_of_a_v1_group(tmp_path: Path) -> None:
    assert usage(*v1_groups(tmp_path, V1)) == msgspec.structs.replace(
        NOTHING,
        cpu=CpuUsage(5_000_000_123, 3_000_000_000, 1_990_000_000, 10, 4, 77),
        memory=MemoryUsage(12_288_000, 11_288_000, 4_096_000, 67_108_864, 12_288, 2),
        pids=PidsUsage(3, NO_LIMIT),
        io=IoUsage(4097, 102, 8, 9),
    )


def test_usage_of_a_v2_group(tmp_path: Path) -> None:
    assert usage(v2_part(tmp_path, V2)) == Usage(
        cpu=CpuUsage(5_000_000_000, 3_000_000_000, 1_990_000_000, 10, 4, 77_000),
        memory=MemoryUsage(12_288_000, 11_288_000, 4_096_000, 67_108_864, 12_288, 2),
        pids=PidsUsage(3, NO_LIMIT),
        io=IoUsage(4097, 102, 8, 9),
        cpu_pressure=PRESSED,
        memory_pressure=PRESSED,
        io_pressure=PRESSED,
    )


def test_a_hybrid_host_tells_pressure_beside_what_v1_counts(tmp_path: Path) -> None:
    side = {"cgroup.events": "populated 1\nfrozen 0\n", "cpu.pressure": PRESSURE}
    found = usage(*v1_groups(tmp_path, V1), v2_part(tmp_path, side))
    assert found.cpu == CpuUsage(5_000_000_123, 3_000_000_000, 1_990_000_000, 10, 4, 77)
    assert found.cpu_pressure == PRESSED
    assert found.memory_pressure is None


def test_a_v2_side_that_the_processes_are_not_in_tells_nothing(tmp_path: Path) -> None:
    side = V2 | {"cgroup.events": "populated 0\nfrozen 0\n"}
    assert usage(*v1_groups(tmp_path, {"freezer": {}}), v2_part(tmp_path, side)) == NOTHING


def test_usage_of_a_group_that_is_gone_is_unknown(tmp_path: Path) -> None:
    gone = [
        ControllerGroup(str(tmp_path / name), str(tmp_path), frozenset({name}), False)
        for name in V1
    ]
    assert usage(*gone) == NOTHING


@pytest.mark.parametrize("missing", V1)
def test_a_v1_controller_that_the_host_lacks_is_absent(tmp_path: Path, missing: str) -> None:
    found = usage(*v1_groups(tmp_path, {name: V1[name] for name in V1 if name != missing}))
    absent = {
        "cpuacct": (found.cpu and found.cpu.usage_ns, found.cpu and found.cpu.user_ns),
        "cpu": (found.cpu and found.cpu.periods, found.cpu and found.cpu.throttled_ns),
        "memory": (found.memory,),
        "pids": (found.pids,),
        "blkio": (found.io,),
    }
    assert set(absent.pop(missing)) == {None}
    assert None not in [value for values in absent.values() for value in values]


def test_a_v2_group_without_controllers_has_cpu_time_alone(tmp_path: Path) -> None:
    bare = {"cpu.stat": "usage_usec 5\nuser_usec 3\nsystem_usec 2\nnice_usec 0\n"}
    assert usage(v2_part(tmp_path, bare)) == msgspec.structs.replace(
        NOTHING, cpu=CpuUsage(5_000, 3_000, 2_000)
    )


def test_swap_that_nobody_counts_is_absent(tmp_path: Path) -> None:
    stat = "".join(line for line in V1_MEMORY_STAT.splitlines(True) if "swap" not in line)
    found = usage(*v1_groups(tmp_path, {"memory": {**V1["memory"], "memory.stat": stat}}))
    assert found.memory == MemoryUsage(12_288_000, 11_288_000, 4_096_000, 67_108_864, None, 2)


def test_working_set_is_never_negative(tmp_path: Path) -> None:
    files = V2 | {"memory.current": "4096\n"}
    found = usage(v2_part(tmp_path, files))
    assert found.memory is not None
    assert found.memory.working_set_bytes == 0


def test_v1_oom_kills_of_groups_below_count(tmp_path: Path) -> None:
    (group,) = v1_groups(tmp_path, {"memory": V1["memory"]})
    below = Path(group.directory) / "below"
    below.mkdir()
    (below / "memory.oom_control").write_text("oom_kill 5\n")
    found = usage(group)
    assert found.memory is not None
    assert found.memory.oom_kills == 7


NO_DEVICE = {f"blkio.throttle.{name}_recursive": "Total 0\n" for name in ("io_service_bytes",)}
NO_DEVICE |= {"blkio.throttle.io_serviced_recursive": "Total 0\n"}


def test_v1_io_is_unknown_where_no_device_is_counted(tmp_path: Path) -> None:
    (group,) = v1_groups(tmp_path, {"blkio": NO_DEVICE})
    (tmp_path / "blkio/blkio.throttle.io_service_bytes_recursive").write_text("Total 0\n")
    assert usage(group).io is None


def test_v1_io_is_none_where_devices_are_counted_but_not_used(tmp_path: Path) -> None:
    (group,) = v1_groups(tmp_path, {"blkio": NO_DEVICE})
    (tmp_path / "blkio/blkio.throttle.io_service_bytes_recursive").write_text(V1_IO_BYTES)
    assert usage(group).io == IoUsage(0, 0, 0, 0)


def test_v1_io_of_devices_that_the_bfq_scheduler_counts(tmp_path: Path) -> None:
    bfq = {
        "blkio.bfq.io_service_bytes_recursive": V1_IO_BYTES,
        "blkio.bfq.io_serviced_recursive": V1_IO_OPS,
    }
    (group,) = v1_groups(tmp_path, {"blkio": NO_DEVICE | bfq})
    assert usage(group).io == IoUsage(4097, 102, 8, 9)


def test_v2_io_of_no_device_is_none_at_all() -> None:
    assert parse_v2_io("") == IoUsage(0, 0, 0, 0)


def test_a_device_without_counters_does_not_matter() -> None:
    assert parse_v2_io("7:0 \n254:0 rbytes=1 wbytes=2 rios=3 wios=4\n") == IoUsage(1, 2, 3, 4)


def test_v1_io_without_a_device_tells_nothing() -> None:
    assert parse_v1_io("Total 0\n") is None


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("12\n", 12),
        ("0\n", 0),
        ("max\n", NO_LIMIT),
        ("-1\n", NO_LIMIT),
        ("9223372036854771712\n", NO_LIMIT),
        ("9223372036854775807\n", NO_LIMIT),
        ("", None),
        (None, None),
    ],
)
def test_a_number_or_no_limit_or_nothing(text: str | None, number: int | None) -> None:
    assert parse_number(text) == number


def test_lines_that_are_no_counters_are_passed_over() -> None:
    assert parse_flat("a 1\nb x\nc\n\nd 2\n") == {"a": 1, "d": 2}


def test_pressure_of_older_kernels_has_no_full_line_for_cpus() -> None:
    assert parse_pressure(PRESSURE.splitlines(True)[0]) == Pressure(some=PRESSED.some)


def test_no_pressure_where_the_kernel_was_told_not_to_count_it() -> None:
    assert parse_pressure("") is None
