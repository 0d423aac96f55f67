"""Limits of a group: read from the files of each generation, and put back."""

from __future__ import annotations

from pathlib import Path

import pytest

from ocigrpc.host.cgroup import Cgroup
from ocigrpc.host.cgroup_limits import Limits, Snapshot, read_limits
from ocigrpc.host.cgroup_part import Part
from ocigrpc.host.cgroup_stats import NO_LIMIT

V1 = {
    "cpu": {"cpu.shares": "512", "cpu.cfs_period_us": "100000", "cpu.cfs_quota_us": "-1"},
    "cpuset": {"cpuset.cpus": "0-1", "cpuset.mems": "0"},
    "memory": {
        "memory.limit_in_bytes": "67108864",
        "memory.memsw.limit_in_bytes": "9223372036854771712",
    },
    "pids": {"pids.max": "33"},
}
V2 = {
    "cpu.weight": "39",
    "cpu.max": "max 100000",
    "cpuset.cpus": "",
    "cpuset.mems": "0",
    "memory.max": "67108864",
    "memory.swap.max": "1048576",
    "pids.max": "max",
    "memory.high": "33554432",
}


def v1(directory: Path) -> Cgroup:
    parts = []
    for controller, files in V1.items():
        (directory / controller).mkdir()
        for name, text in files.items():
            (directory / controller / name).write_text(f"{text}\n")
        parts.append(
            Part(str(directory / controller), str(directory), frozenset({controller}), False)
        )
    return Cgroup("/c", tuple(parts))


def v2(directory: Path, **files: str) -> Cgroup:
    for name, text in (V2 | files).items():
        (directory / name).write_text(f"{text}\n")
    return Cgroup("/c", (Part(str(directory), str(directory), frozenset(), True),))


def test_limits_of_a_v1_group(tmp_path: Path) -> None:
    assert read_limits([v1(tmp_path)]) == Limits(
        cpu_shares=512,
        cpu_quota_us=NO_LIMIT,
        cpu_period_us=100_000,
        cpuset_cpus="0-1",
        cpuset_mems="0",
        memory_limit_bytes=67_108_864,
        memory_swap_limit_bytes=NO_LIMIT,
        pids_limit=33,
    )


def test_limits_of_a_v2_group(tmp_path: Path) -> None:
    assert read_limits([v2(tmp_path)], {"memory.high", "memory.missing"}) == Limits(
        cpu_weight=39,
        cpu_quota_us=NO_LIMIT,
        cpu_period_us=100_000,
        cpuset_cpus="",
        cpuset_mems="0",
        memory_limit_bytes=67_108_864,
        memory_swap_limit_bytes=68_157_440,
        pids_limit=NO_LIMIT,
        unified={"memory.high": "33554432"},
    )


@pytest.mark.parametrize(("memory", "swap"), [("max", "1"), ("1", "max"), ("max", "max")])
def test_memory_and_swap_have_no_limit_together_when_one_has_none(
    tmp_path: Path, memory: str, swap: str
) -> None:
    group = v2(tmp_path, **{"memory.max": memory, "memory.swap.max": swap})
    assert read_limits([group]).memory_swap_limit_bytes == NO_LIMIT


def test_what_the_host_does_not_limit_is_unknown(tmp_path: Path) -> None:
    group = Cgroup("/c", (Part(str(tmp_path), str(tmp_path), frozenset(), True),))
    assert read_limits([group], {"memory.high"}) == Limits()


def test_of_groups_in_groups_the_tightest_limits_hold(tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    outer = v2(tmp_path, **{"cpu.max": "50000 100000", "memory.max": "9999", "memory.high": "1"})
    inner = {"cpu.max": "60000 200000", "memory.max": "max", "pids.max": "5", "memory.high": "2"}
    told = read_limits([outer, v2(tmp_path / "inner", **inner, **{"cpu.weight": "7"})], V2)
    assert (told.cpu_quota_us, told.cpu_period_us) == (60_000, 200_000)
    assert (told.memory_limit_bytes, told.pids_limit) == (9999, 5)
    assert told.cpu_weight == 39
    assert told.unified["memory.high"] == "2"


def test_a_snapshot_puts_back_what_has_changed_since(tmp_path: Path) -> None:
    group = v2(tmp_path)
    before = Snapshot.take([group], {"memory.high"})
    for name in ("memory.high", "pids.max"):
        (tmp_path / name).write_text("7\n")
    assert before.restore() == []
    assert {name: (tmp_path / name).read_text().strip() for name in V2} == V2


def test_a_snapshot_leaves_alone_what_has_not_changed(tmp_path: Path) -> None:
    group = v2(tmp_path)
    before = Snapshot.take([group])
    written_ns = (tmp_path / "memory.max").stat().st_mtime_ns
    (tmp_path / "pids.max").write_text("7\n")
    before.restore()
    assert (tmp_path / "memory.max").stat().st_mtime_ns == written_ns


def test_a_snapshot_of_a_group_that_is_gone_has_nothing_to_put_back(tmp_path: Path) -> None:
    group = v2(tmp_path)
    before = Snapshot.take([group])
    for name in V2:
        (tmp_path / name).unlink()
    assert before.restore() == []


def test_a_snapshot_names_what_it_could_not_put_back() -> None:
    # The kernel refuses to write it, and says another uuid at each reading.
    part = Part("/proc/sys/kernel/random", "/", frozenset(), True)
    before = Snapshot.take([Cgroup("/c", (part,))], {"uuid"})
    assert before.restore() == ["uuid"]
