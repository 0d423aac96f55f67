"""Resources, rlimits and devices: what is passed on, and what is refused."""

from __future__ import annotations

import os
import resource
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocigrpc.errors import InvalidArgument
from ocigrpc.host.cgroups.limits import (
    SHARES_MAX,
    WEIGHT_MAX,
    shares_of_weight,
    weight_of_shares,
)
from ocigrpc.oci.spec.config import (
    ContainerConfig,
    Device,
    DeviceCgroupRule,
    DeviceType,
    HugepageLimit,
    Resources,
    Rlimit,
)
from ocigrpc.oci.spec.devices import Devices, devices_in, devices_of
from ocigrpc.oci.spec.resources import (
    changes_of,
    limits_of,
    oom_score_adj_of,
    resources_of,
    rlimits_of,
    with_weight,
)
from ocigrpc.violations import Violations


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


def huge(*sizes: str, limit: int = 0) -> Resources:
    return Resources(hugepage_limits=tuple(HugepageLimit(size, limit) for size in sizes))


def test_no_limits_are_an_empty_section() -> None:
    assert resources(Resources()) == {}


def test_every_limit_has_its_place() -> None:
    everything = Resources(
        cpu_period=1000,
        cpu_quota=1000,
        cpu_shares=2,
        memory_limit_in_bytes=4096,
        oom_score_adj=-1000,
        cpuset_cpus="0-2,4",
        cpuset_mems="0",
        memory_swap_limit_in_bytes=4096,
        pids_limit=1,
        unified={"memory.high": "1000000"},
        hugepage_limits=(HugepageLimit("2MB", 0), HugepageLimit("1GB", 1 << 30)),
    )
    assert resources(everything) == {
        "cpu": {"shares": 2, "quota": 1000, "period": 1000, "cpus": "0-2,4", "mems": "0"},
        "memory": {"limit": 4096, "swap": 4096},
        "pids": {"limit": 1},
        "unified": {"memory.high": "1000000"},
        "hugepageLimits": [
            {"pageSize": "2MB", "limit": 0},
            {"pageSize": "1GB", "limit": 1 << 30},
        ],
    }


NO_LIMITS = Resources(
    cpu_shares=-1,
    cpu_quota=-1,
    cpuset_cpus="",
    memory_limit_in_bytes=-1,
    memory_swap_limit_in_bytes=-1,
    pids_limit=-1,
    hugepage_limits=(HugepageLimit("2MB", -1),),
)


def test_no_limit_is_what_a_new_cgroup_has() -> None:
    assert resources(NO_LIMITS) == {}


def test_a_limit_is_lifted_by_the_runtime_where_each_can() -> None:
    assert changes_of(NO_LIMITS, unified=False) == {"memory": {"limit": -1, "swap": -1}}
    assert changes_of(NO_LIMITS, unified=True) == {
        "cpu": {"quota": -1},
        "memory": {"limit": -1, "swap": -1},
        "pids": {"limit": -1},
    }


def test_with_cgroup2_shares_are_a_weight_that_no_runtime_makes_by_its_own_rule() -> None:
    limits = limits_of(Resources(cpu_shares=1024, cpuset_cpus="0", unified={"io.weight": "5"}))
    assert with_weight(limits) == {
        "cpu": {"cpus": "0"},
        "unified": {"io.weight": "5", "cpu.weight": "39"},
    }
    assert with_weight({"pids": {"limit": 1}}) == {"pids": {"limit": 1}}
    assert limits_of(Resources(cpu_weight=39)) == {"cpu": {"shares": 999}}


@given(st.integers(1, WEIGHT_MAX))
def test_a_weight_is_the_one_of_its_shares(weight: int) -> None:
    shares = shares_of_weight(weight)
    assert weight_of_shares(shares) == weight
    assert shares == 2 or weight_of_shares(shares - 1) == weight - 1


def test_the_shares_that_there_are_are_the_weights_that_there_are() -> None:
    assert (weight_of_shares(2), weight_of_shares(SHARES_MAX)) == (1, WEIGHT_MAX)
    assert (shares_of_weight(1), shares_of_weight(WEIGHT_MAX)) == (2, SHARES_MAX)


def test_limits_on_groups_below_are_limits_too() -> None:
    depth = {"cgroup.max.depth": "3", "cgroup.max.descendants": "max"}
    assert resources(Resources(unified=depth)) == {"unified": depth}


def test_swap_without_a_limit_needs_no_limit_of_memory() -> None:
    assert resources(Resources(memory_swap_limit_in_bytes=-1)) == {}


@pytest.mark.parametrize(
    ("field", "reason", "limits"),
    [
        ("cpu_period", "OUT_OF_RANGE", Resources(cpu_period=999)),
        ("cpu_period", "OUT_OF_RANGE", Resources(cpu_period=1_000_001)),
        ("cpu_quota", "OUT_OF_RANGE", Resources(cpu_quota=999)),
        ("cpu_quota", "OUT_OF_RANGE", Resources(cpu_quota=-2)),
        ("cpu_shares", "OUT_OF_RANGE", Resources(cpu_shares=1)),
        ("cpu_shares", "OUT_OF_RANGE", Resources(cpu_shares=262_145)),
        ("cpu_quota", "OUT_OF_RANGE", Resources(cpu_quota=1 << 44)),
        ("cpu_shares", "OUT_OF_RANGE", Resources(cpu_shares=-2)),
        ("cpu_weight", "OUT_OF_RANGE", Resources(cpu_weight=10_001)),
        ("cpu_weight", "CONFLICT", Resources(cpu_shares=1024, cpu_weight=100)),
        ("cpu_weight", "CONFLICT", Resources(cpu_shares=1024, cpu_weight=-1)),
        ("memory_limit_in_bytes", "OUT_OF_RANGE", Resources(memory_limit_in_bytes=-2)),
        ("memory_swap_limit_in_bytes", "OUT_OF_RANGE", Resources(memory_swap_limit_in_bytes=-2)),
        (
            "memory_swap_limit_in_bytes",
            "OUT_OF_RANGE",
            Resources(memory_limit_in_bytes=4096, memory_swap_limit_in_bytes=4095),
        ),
        ("memory_swap_limit_in_bytes", "NOT_APPLICABLE", Resources(memory_swap_limit_in_bytes=1)),
        ("oom_score_adj", "OUT_OF_RANGE", Resources(oom_score_adj=1001)),
        ("oom_score_adj", "OUT_OF_RANGE", Resources(oom_score_adj=-1001)),
        ("pids_limit", "OUT_OF_RANGE", Resources(pids_limit=-2)),
        ("pids_limit", "OUT_OF_RANGE", Resources(pids_limit=(1 << 22) + 1)),
        ("hugepage_limits[0].page_size", "MALFORMED", huge("../2MB")),
        ("hugepage_limits[0].page_size", "MALFORMED", huge("")),
        ("hugepage_limits[1].page_size", "DUPLICATE", huge("2MB", "2MB")),
        ("hugepage_limits[0].limit", "OUT_OF_RANGE", huge("2MB", limit=-2)),
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
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert rlimits(Rlimit("RLIMIT_CORE", 0, unlimited)) == [
        {"type": "RLIMIT_CORE", "soft": 0, "hard": unlimited},
        # The service's own, which a runtime might have raised for itself.
        {"type": "RLIMIT_NOFILE", "soft": soft, "hard": hard},
    ]
    assert rlimits(Rlimit("RLIMIT_NOFILE", 1, 2)) == [
        {"type": "RLIMIT_NOFILE", "soft": 1, "hard": 2}
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


def make_device(path: Path, minor: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    os.mknod(path, stat.S_IFCHR | 0o640, os.makedev(1, minor))


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A directory of devices: a (1:5), deep/er/b (1:7), and what is none."""
    make_device(tmp_path / "tree/a", 5)
    make_device(tmp_path / "tree/deep/er/b", 7)
    (tmp_path / "tree/file").touch()
    (tmp_path / "tree/link").symlink_to("/dev/zero")
    (tmp_path / "tree/loop").symlink_to(".")
    os.mkfifo(tmp_path / "tree/fifo")
    return tmp_path / "tree"


def test_a_directory_gives_every_device_in_it(tree: Path) -> None:
    found = devices(Device(f"{tree}/", "/dev/mine", "r"))
    assert {(each["path"], each["minor"]) for each in found.nodes} == {
        ("/dev/mine/a", 5),
        ("/dev/mine/deep/er/b", 7),
    }
    assert [(each["minor"], each["access"]) for each in found.rules[1:]] == [(5, "r"), (7, "r")]
    same = devices(Device(str(tree)))
    assert {each["path"] for each in same.nodes} == {f"{tree}/a", f"{tree}/deep/er/b"}


@pytest.mark.parametrize("turned", [False, True])
def test_a_device_that_is_named_by_itself_is_as_it_says_there(tree: Path, turned: bool) -> None:
    wanted = [Device(str(tree)), Device(str(tree / "a"), permissions="r"), Device(str(tree))]
    found = devices(*(reversed(wanted) if turned else wanted))
    assert sorted(str(each["path"]) for each in found.nodes) == [f"{tree}/a", f"{tree}/deep/er/b"]
    accesses = {each["minor"]: each["access"] for each in found.rules[1:]}
    assert accesses == {5: "r", 7: "rwm"}


def test_what_every_container_has_is_left_out_of_a_directory(tree: Path) -> None:
    make_device(tree / "null", 3)
    paths = {each["path"] for each in devices(Device(str(tree), "/dev")).nodes}
    assert paths == {"/dev/a", "/dev/deep/er/b"}


@pytest.mark.parametrize("limit", ["HOST_DEVICES_LIMIT", "_ENTRIES_LIMIT"])
def test_a_directory_with_too_much_in_it_is_refused(
    tree: Path, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    monkeypatch.setattr(f"ocigrpc.oci.spec.devices.{limit}", 1)
    with pytest.raises(InvalidArgument) as caught:
        devices(Device(str(tree)))
    assert caught.value.reason == "TOO_MANY"
    assert [each.field for each in caught.value.violations] == ["config.devices[0].host_path"]


def test_privileged_has_devices_in_directories_and_no_terminals_of_others() -> None:
    paths = {str(node["path"]) for node in devices(privileged=True).nodes}
    beside = {str(path) for path in Path("/dev").glob("*/*") if path.is_char_device()}
    apart = ("/dev/pts/", "/dev/shm/", "/dev/mqueue/", "/dev/fd/")
    assert {path for path in beside if not path.startswith(apart)} <= paths
    assert not {path for path in paths if path.startswith(apart)}


def test_a_rule_is_passed_on() -> None:
    wanted = (
        DeviceCgroupRule(DeviceType.CHARACTER, 189, permissions="rw"),
        DeviceCgroupRule(DeviceType.BLOCK, minor=0),
        DeviceCgroupRule(DeviceType.ALL, 7, 1, "m"),
    )
    config = ContainerConfig("/", device_cgroup_rules=wanted)
    violations = Violations()
    assert devices_of(config, violations).rules[1:] == [
        {"allow": True, "type": "c", "major": 189, "access": "rw"},
        {"allow": True, "type": "b", "minor": 0, "access": "rwm"},
        {"allow": True, "type": "c", "major": 7, "minor": 1, "access": "m"},
        {"allow": True, "type": "b", "major": 7, "minor": 1, "access": "m"},
    ]
    violations.raise_any()


@pytest.mark.parametrize(
    ("field", "reason", "rule"),
    [
        ("major", "OUT_OF_RANGE", DeviceCgroupRule(DeviceType.ALL, 4096)),
        ("minor", "OUT_OF_RANGE", DeviceCgroupRule(DeviceType.ALL, minor=1 << 20)),
        ("permissions", "MALFORMED", DeviceCgroupRule(DeviceType.ALL, permissions="rr")),
    ],
)
def test_a_wrong_rule_is_refused(field: str, reason: str, rule: DeviceCgroupRule) -> None:
    violations = Violations()
    devices_of(ContainerConfig("/", device_cgroup_rules=(rule,)), violations)
    with pytest.raises(InvalidArgument) as caught:
        violations.raise_any()
    assert caught.value.reason == reason
    assert caught.value.violations[0].field == f"config.device_cgroup_rules[0].{field}"


def test_a_directory_without_devices_gives_none(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("/dev/zero")
    assert devices_in(str(tmp_path), "/dev") == {}


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
