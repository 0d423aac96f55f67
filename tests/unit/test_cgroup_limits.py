"""Limits of a group: read from the files of each generation, and put back."""

from __future__ import annotations

from pathlib import Path

import pytest

from ocigrpc.host.cgroups.cgroup import Cgroup
from ocigrpc.host.cgroups.controller import ControllerGroup
from ocigrpc.host.cgroups.limit_files import Snapshot, files_of
from ocigrpc.host.cgroups.limits import NO_LIMIT, Limits, read_limits

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


KEPT: dict[str, str] = {}


def v1(directory: Path) -> Cgroup:
    groups = []
    for controller, files in V1.items():
        (directory / controller).mkdir()
        for name, text in files.items():
            (directory / controller / name).write_text(f"{text}\n")
        groups.append(
            ControllerGroup(
                str(directory / controller), str(directory), frozenset({controller}), False
            )
        )
    return Cgroup("/c", tuple(groups))


def v2(directory: Path, **files: str) -> Cgroup:
    for name, text in (V2 | files).items():
        (directory / name).write_text(f"{text}\n")
    return Cgroup("/c", (ControllerGroup(str(directory), str(directory), frozenset(), True),))


def test_limits_of_a_v1_group(tmp_path: Path) -> None:
    assert read_limits([v1(tmp_path)]) == Limits(
        cpu_shares=512,
        cpu_weight=20,
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
        cpu_shares=999,
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
    group = Cgroup("/c", (ControllerGroup(str(tmp_path), str(tmp_path), frozenset(), True),))
    assert read_limits([group], {"memory.high"}) == Limits()


def test_of_groups_in_groups_the_tightest_limits_hold(tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    outer = v2(tmp_path, **{"cpu.max": "50000 100000", "memory.max": "9999", "memory.high": "1"})
    inner = {"cpu.max": "60000 200000", "memory.max": "max", "pids.max": "5", "memory.high": "2"}
    found = read_limits([outer, v2(tmp_path / "inner", **inner, **{"cpu.weight": "7"})], V2)
    assert (found.cpu_quota_us, found.cpu_period_us) == (60_000, 200_000)
    assert (found.memory_limit_bytes, found.pids_limit) == (9999, 5)
    assert found.cpu_weight == 39
    assert found.unified["memory.high"] == "2"


def test_a_snapshot_puts_back_what_has_changed_since(tmp_path: Path) -> None:
    group = v2(tmp_path)
    before = Snapshot.take([group], {"memory.high"})
    for name in ("memory.high", "pids.max"):
        (tmp_path / name).write_text("7\n")
    assert before.restore(KEPT.update) == []
    assert {name: (tmp_path / name).read_text().strip() for name in V2} == V2


def test_a_snapshot_leaves_alone_what_has_not_changed(tmp_path: Path) -> None:
    group = v2(tmp_path)
    before = Snapshot.take([group])
    written_ns = (tmp_path / "memory.max").stat().st_mtime_ns
    (tmp_path / "pids.max").write_text("7\n")
    before.restore(KEPT.update)
    assert (tmp_path / "memory.max").stat().st_mtime_ns == written_ns


def test_a_snapshot_of_a_group_that_is_gone_has_nothing_to_put_back(tmp_path: Path) -> None:
    group = v2(tmp_path)
    before = Snapshot.take([group])
    for name in V2:
        (tmp_path / name).unlink()
    assert before.restore(KEPT.update) == []


def test_a_snapshot_names_what_it_could_not_put_back() -> None:
    # The kernel refuses to write it, and says another uuid at each reading.
    group = ControllerGroup("/proc/sys/kernel/random", "/", frozenset(), True)
    before = Snapshot.take([Cgroup("/c", (group,))], {"uuid"})
    assert before.restore(KEPT.update) == ["uuid"]


WANTED = Limits(
    cpu_shares=999,
    cpu_weight=39,
    cpu_quota_us=NO_LIMIT,
    cpuset_cpus="0",
    cpuset_mems="",
    memory_limit_bytes=3 << 20,
    memory_swap_limit_bytes=5 << 20,
    pids_limit=NO_LIMIT,
    hugepage_limits={"2MB": 0},
)


def test_what_the_files_of_v1_are_to_hold(tmp_path: Path) -> None:
    group = v1(tmp_path)
    assert [(file.field, file.name, file.text) for file in files_of(group, WANTED, {})] == [
        ("cpu_shares", "cpu.shares", "999"),
        ("cpu_quota_us", "cpu.cfs_quota_us", "-1"),
        ("memory_limit_bytes", "memory.limit_in_bytes", str(3 << 20)),
        ("memory_swap_limit_bytes", "memory.memsw.limit_in_bytes", str(5 << 20)),
        ("pids_limit", "pids.max", "max"),
        ("cpuset_cpus", "cpuset.cpus", "0"),
        ("cpuset_mems", "cpuset.mems", ""),
        ("hugepage_limits", "hugetlb.2MB.limit_in_bytes", "0"),
    ]
    assert Snapshot.take([group]).lacks(group, WANTED) == ["hugepage_limits"]


def test_what_the_files_of_v2_are_to_hold(tmp_path: Path) -> None:
    group = v2(tmp_path, **{"cpu.max": "9000 200000"})
    now = Snapshot.take([group])
    assert now.lacks(group, WANTED) == ["hugepage_limits"]
    assert {name: text for (_, name), text in now.with_limits([group], WANTED).texts} == {
        "cpu.weight": "39",
        "cpu.max": "max 200000",
        "cpuset.cpus": "0",
        "cpuset.mems": "",
        "memory.max": str(3 << 20),
        "memory.swap.max": str(2 << 20),
        "pids.max": "max",
    }


def test_what_is_written_besides_the_runtime_is_told_to_who_keeps_the_group(tmp_path: Path) -> None:
    group = v2(tmp_path)
    kept: dict[str, str] = {}
    after = Snapshot.take([group]).with_limits([group], Limits(pids_limit=777, cpu_weight=39))
    assert after.restore(kept.update) == []
    found = {name: text.strip() for name, text in kept.items()}
    assert found == {name: V2[name] for name in kept} | {"pids.max": "777", "cpu.weight": "39"}
    assert kept.keys() == V2.keys() - {"memory.high"}
    assert (tmp_path / "pids.max").read_text() == "777\n"


def test_a_file_that_the_kernel_has_rounded_holds_what_is_wanted(tmp_path: Path) -> None:
    group = v2(tmp_path)
    after = Snapshot.take([group]).with_limits([group], Limits(memory_limit_bytes=8193))
    (tmp_path / "memory.max").write_text("8192\n")
    assert after.restore(KEPT.update) == []
    assert (tmp_path / "memory.max").read_text() == "8192\n"


def test_a_cpuset_of_v2_that_was_empty_gets_all_that_there_is(tmp_path: Path) -> None:
    # The kernel takes no empty one for a group with processes.
    (tmp_path / "cpuset.cpus.effective").write_text("0-3\n")
    group = v2(tmp_path)
    before = Snapshot.take([group])
    (tmp_path / "cpuset.cpus").write_text("0\n")
    assert before.restore(KEPT.update) == []
    assert (tmp_path / "cpuset.cpus").read_text() == "0-3\n"


def test_a_device_that_had_no_limit_has_none_again(tmp_path: Path) -> None:
    group = v2(tmp_path, **{"io.max": "8:0 rbps=1 wbps=max riops=max wiops=max"})
    before = Snapshot.take([group], {"io.max"})
    (tmp_path / "io.max").write_text("8:16 rbps=2 wbps=max riops=max wiops=max\n")
    before.restore(KEPT.update)
    # A plain file has the last line that was written.
    assert (tmp_path / "io.max").read_text() == "8:16 rbps=max wbps=max riops=max wiops=max\n"
