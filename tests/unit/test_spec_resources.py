"""Resources, rlimits and devices: what is passed on, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocigrpc.errors import InvalidArgument
from ocigrpc.oci.config import ContainerConfig, Device, Resources, Rlimit
from ocigrpc.oci.devices import Devices, devices_of, host_devices
from ocigrpc.oci.resources import oom_score_adj_of, resources_of, rlimits_of
from ocigrpc.oci.violations import Violations


def resources(limits: Resources) -> dict[str, object]:
    violations = Violations()
    config = ContainerConfig("/", resources=limits)
    found = resources_of(config, violations)
    oom_score_adj_of(config, violations)
    violations.raise_any()
    return found


def rlimits(*limits: Rlimit) -> list[dict[str, object]]:
    violations = Violations()
    found = rlimits_of(ContainerConfig("/", rlimits=limits), violations)
    violations.raise_any()
    return found


def devices(*wanted: Device, privileged: bool = False) -> Devices:
    violations = Violations()
    config = ContainerConfig("/", devices=wanted, privileged=privileged)
    found = devices_of(config, violations)
    violations.raise_any()
    return found


def test_no_limits_are_an_empty_section() -> None:
    assert resources(Resources()) == {}


def test_every_limit_has_its_place() -> None:
    everything = Resources(
        cpu_period=1000,
        cpu_quota=-1,
        cpu_shares=2,
        memory_limit_in_bytes=4096,
        oom_score_adj=-1000,
        cpuset_cpus="0-2,4",
        cpuset_mems="0",
        memory_swap_limit_in_bytes=4096,
        pids_limit=1,
        unified={"memory.high": "1000000"},
    )
    assert resources(everything) == {
        "cpu": {"shares": 2, "quota": -1, "period": 1000, "cpus": "0-2,4", "mems": "0"},
        "memory": {"limit": 4096, "swap": 4096},
        "pids": {"limit": 1},
        "unified": {"memory.high": "1000000"},
    }


def test_limits_on_groups_below_are_limits_too() -> None:
    depth = {"cgroup.max.depth": "3", "cgroup.max.descendants": "max"}
    assert resources(Resources(unified=depth)) == {"unified": depth}


def test_swap_without_a_limit_needs_no_limit_of_memory() -> None:
    assert resources(Resources(memory_swap_limit_in_bytes=-1)) == {"memory": {"swap": -1}}


@pytest.mark.parametrize(
    ("field", "reason", "limits"),
    [
        ("cpu_period", "OUT_OF_RANGE", Resources(cpu_period=999)),
        ("cpu_period", "OUT_OF_RANGE", Resources(cpu_period=1_000_001)),
        ("cpu_quota", "OUT_OF_RANGE", Resources(cpu_quota=999)),
        ("cpu_quota", "OUT_OF_RANGE", Resources(cpu_quota=-2)),
        ("cpu_shares", "OUT_OF_RANGE", Resources(cpu_shares=1)),
        ("cpu_shares", "OUT_OF_RANGE", Resources(cpu_shares=262_145)),
        ("memory_limit_in_bytes", "OUT_OF_RANGE", Resources(memory_limit_in_bytes=-1)),
        ("memory_swap_limit_in_bytes", "OUT_OF_RANGE", Resources(memory_swap_limit_in_bytes=-2)),
        (
            "memory_swap_limit_in_bytes",
            "OUT_OF_RANGE",
            Resources(memory_limit_in_bytes=4096, memory_swap_limit_in_bytes=4095),
        ),
        ("memory_swap_limit_in_bytes", "NOT_APPLICABLE", Resources(memory_swap_limit_in_bytes=1)),
        ("oom_score_adj", "OUT_OF_RANGE", Resources(oom_score_adj=1001)),
        ("oom_score_adj", "OUT_OF_RANGE", Resources(oom_score_adj=-1001)),
        ("pids_limit", "OUT_OF_RANGE", Resources(pids_limit=-1)),
        ("cpuset_mems", "MALFORMED", Resources(cpuset_mems="x")),
        ('unified["../x"]', "MALFORMED", Resources(unified={"../x": "1"})),
        ('unified["memory.x/y"]', "MALFORMED", Resources(unified={"memory.x/y": "1"})),
        ('unified["tasks"]', "MALFORMED", Resources(unified={"tasks": "1"})),
        ('unified["cgroup.procs"]', "NOT_APPLICABLE", Resources(unified={"cgroup.procs": "1"})),
        ('unified["cgroup.kill"]', "NOT_APPLICABLE", Resources(unified={"cgroup.kill": "1"})),
        ('unified["memory.high"]', "NUL_BYTE", Resources(unified={"memory.high": "\0"})),
    ],
)
def test_a_wrong_limit_is_refused(field: str, reason: str, limits: Resources) -> None:
    with pytest.raises(InvalidArgument) as caught:
        resources(limits)
    assert caught.value.reason == reason
    assert [each.field for each in caught.value.violations] == [f"config.resources.{field}"]


@given(st.lists(st.tuples(st.integers(0, 999), st.integers(0, 999)), min_size=1))
def test_a_cpuset_is_a_list_of_rising_ranges(ranges: list[tuple[int, int]]) -> None:
    text = ",".join(f"{low}-{high}" for low, high in ranges)
    if all(low <= high for low, high in ranges):
        assert resources(Resources(cpuset_cpus=text)) == {"cpu": {"cpus": text}}
    else:
        with pytest.raises(InvalidArgument):
            resources(Resources(cpuset_cpus=text))


@pytest.mark.parametrize("text", ["-", "1-", ",", "1,", " 1", "1\n", "a", "1--2", "\u0661"])
def test_other_text_is_no_cpuset(text: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        resources(Resources(cpuset_cpus=text))
    assert caught.value.reason == "MALFORMED"


def test_rlimits_are_passed_on() -> None:
    unlimited = (1 << 64) - 1
    assert rlimits(Rlimit("RLIMIT_CORE", 0, unlimited)) == [
        {"type": "RLIMIT_CORE", "soft": 0, "hard": unlimited}
    ]


@pytest.mark.parametrize(
    ("field", "reason", "limit"),
    [
        ("type", "UNKNOWN_RLIMIT", Rlimit("NOFILE", 1, 1)),
        ("type", "UNKNOWN_RLIMIT", Rlimit("", 1, 1)),
        ("type", "DUPLICATE", Rlimit("RLIMIT_CPU", 1, 1)),
        ("soft", "OUT_OF_RANGE", Rlimit("RLIMIT_AS", 2, 1)),
    ],
)
def test_a_wrong_rlimit_is_refused(field: str, reason: str, limit: Rlimit) -> None:
    with pytest.raises(InvalidArgument) as caught:
        rlimits(Rlimit("RLIMIT_CPU", 1, 1), limit)
    assert caught.value.reason == reason
    assert [each.field for each in caught.value.violations] == [f"config.rlimits[1].{field}"]


def test_a_device_comes_with_its_node_and_its_rule(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/dev/zero")
    found = devices(Device(str(tmp_path / "link"), "/dev/mine", "rw"))
    (node,) = found.nodes
    assert (node["path"], node["type"], node["major"], node["minor"]) == ("/dev/mine", "c", 1, 5)
    assert node["fileMode"] == 0o666
    assert found.rules == [
        {"allow": False, "access": "rwm"},
        {"allow": True, "type": "c", "major": 1, "minor": 5, "access": "rw"},
    ]


def test_a_privileged_container_gets_the_hosts_devices_without_the_runtimes_own() -> None:
    paths = {node["path"] for node in devices(privileged=True).nodes}
    assert "/dev/kmsg" in paths
    assert not paths & {"/dev/null", "/dev/zero", "/dev/tty", "/dev/console", "/dev/ptmx"}


def test_a_directory_without_devices_gives_none(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("/dev/zero")
    assert host_devices(str(tmp_path)) == {}


@pytest.mark.parametrize(
    ("field", "reason", "device"),
    [
        ("host_path", "REQUIRED", Device("")),
        ("host_path", "PATH_NOT_ABSOLUTE", Device("zero")),
        ("host_path", "DEVICE_NOT_FOUND", Device("/dev/nowhere")),
        ("host_path", "NOT_A_DEVICE", Device("/etc/passwd")),
        ("host_path", "NOT_A_DEVICE", Device("/dev/shm")),
        ("container_path", "PATH_NOT_ABSOLUTE", Device("/dev/kmsg", "kmsg")),
        ("container_path", "DUPLICATE", Device("/dev/kmsg", "/dev/null")),
        ("container_path", "DUPLICATE", Device("/dev/kmsg", "/dev/./first")),
        ("permissions", "MALFORMED", Device("/dev/kmsg", permissions="rr")),
        ("permissions", "MALFORMED", Device("/dev/kmsg", permissions="x")),
        ("permissions", "MALFORMED", Device("/dev/kmsg", permissions="rwm\n")),
    ],
)
def test_a_wrong_device_is_refused(field: str, reason: str, device: Device) -> None:
    with pytest.raises(InvalidArgument) as caught:
        devices(Device("/dev/zero", "/dev/first"), device)
    assert caught.value.reason == reason
    assert [each.field for each in caught.value.violations] == [f"config.devices[1].{field}"]
