"""Where systemd puts slices and scopes; the rule is in systemd.slice(5)."""

import pytest

from ocigrpc.errors import CgroupFailed
from ocigrpc.host.cgroups.systemd import limit_properties, scope_path, slice_path


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("-.slice", "/"),
        ("system.slice", "/system.slice"),
        ("a-b.slice", "/a.slice/a-b.slice"),
        ("a-b-c_d.slice", "/a.slice/a-b.slice/a-b-c_d.slice"),
        (r"kube-pod\x2done.slice", r"/kube.slice/kube-pod\x2done.slice"),
    ],
)
def test_slice_path(name: str, path: str) -> None:
    assert slice_path(name) == path


@pytest.mark.parametrize(
    "name",
    ["", "a", ".slice", "-a.slice", "a-.slice", "a--b.slice", "--.slice", "a/b.slice"],
)
def test_what_is_no_slice_is_refused(name: str) -> None:
    with pytest.raises(CgroupFailed) as caught:
        slice_path(name)
    assert caught.value.reason == "SLICE_NAME_INVALID"


@pytest.mark.parametrize("name", ["../x.slice", "a.slice\n", "a b.slice", "a.scope"])
def test_what_could_leave_its_place_is_refused(name: str) -> None:
    with pytest.raises(CgroupFailed) as caught:
        slice_path(name)
    assert caught.value.reason == "SLICE_NAME_INVALID"


def test_scope_path_is_below_its_slice() -> None:
    assert scope_path("a-b.slice", "x.scope") == "/a.slice/a-b.slice/x.scope"
    assert scope_path("-.slice", "x.scope") == "/x.scope"


@pytest.mark.parametrize(
    "unit", ["", "x", ".scope", "a/b.scope", "x.scope\n", "x y.scope", "x" * 250 + ".scope"]
)
def test_what_is_no_scope_is_refused(unit: str) -> None:
    with pytest.raises(CgroupFailed) as caught:
        scope_path("a.slice", unit)
    assert caught.value.reason == "SCOPE_NAME_INVALID"


INFINITY = (1 << 64) - 1


@pytest.mark.parametrize(
    ("name", "text", "properties"),
    [
        (
            *("cpu.max", "50000 100000"),
            [("CPUQuotaPerSecUSec", ("t", 500_000)), ("CPUQuotaPeriodUSec", ("t", 100_000))],
        ),
        (
            *("cpu.max", "max 100000"),
            [("CPUQuotaPerSecUSec", ("t", INFINITY)), ("CPUQuotaPeriodUSec", ("t", 100_000))],
        ),
        ("cpu.weight", "39", [("CPUWeight", ("t", 39))]),
        ("cpuset.cpus", "0,9", [("AllowedCPUs", ("ay", b"\x01\x02"))]),
        ("cpuset.mems", "", [("AllowedMemoryNodes", ("ay", b""))]),
        ("memory.max", "max", [("MemoryMax", ("t", INFINITY))]),
        ("pids.max", "33\n", [("TasksMax", ("t", 33))]),
        ("hugetlb.2MB.max", "0", []),
    ],
)
def test_what_systemd_calls_a_limit(
    name: str, text: str, properties: list[tuple[str, tuple[str, object]]]
) -> None:
    assert limit_properties(name, text) == properties
