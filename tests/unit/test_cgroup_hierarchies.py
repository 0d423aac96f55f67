"""Which hierarchies a host has, from the mountinfo of each kind of host."""

import pytest

from ocigrpc.errors import CgroupFailed
from ocigrpc.host.cgroups.hierarchy import Hierarchies, Kind, parse_proc_cgroup

V2 = """\
22 28 0:21 / /sys rw,nosuid shared:7 - sysfs sysfs rw
28 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
29 22 0:26 / /sys/fs/cgroup rw,nosuid,nodev,noexec shared:9 - cgroup2 cgroup2 rw,nsdelegate
"""

V1 = """\
22 28 0:21 / /sys rw shared:7 - sysfs sysfs rw
28 1 254:0 / / rw shared:1 - ext4 /dev/vda rw
31 22 0:26 / /sys/fs/cgroup ro shared:8 - tmpfs tmpfs ro,mode=755
32 31 0:27 / /sys/fs/cgroup/systemd rw shared:9 - cgroup cgroup rw,xattr,name=systemd
33 31 0:28 / /sys/fs/cgroup/cpu,cpuacct rw shared:10 - cgroup cgroup rw,cpu,cpuacct
34 31 0:29 / /sys/fs/cgroup/freezer rw shared:11 - cgroup cgroup rw,freezer
35 31 0:30 / /sys/fs/cgroup/cpuset rw shared:12 - cgroup cgroup rw,cpuset,clone_children
"""

HYBRID = V1 + "36 31 0:31 / /sys/fs/cgroup/unified rw shared:13 - cgroup2 cgroup2 rw\n"

APART = """\
27 1 254:0 / / rw,relatime - ext4 /dev/vda rw,discard
23 27 0:22 / /sys rw,relatime - sysfs sysfs rw
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu
33 31 0:30 / /sys/fs/cgroup/cpuacct rw,relatime - cgroup cgroup rw,cpuacct
36 31 0:33 / /sys/fs/cgroup/devices rw,relatime - cgroup cgroup rw,devices
37 31 0:34 / /sys/fs/cgroup/freezer rw,relatime - cgroup cgroup rw,freezer
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
"""


def mounts(mountinfo: str) -> dict[str, str]:
    """Mount points by controllers; "" for cgroup2."""
    return {
        ",".join(sorted(hierarchy.controllers)): hierarchy.mount_point
        for hierarchy in Hierarchies.parse(mountinfo).all
    }


@pytest.mark.parametrize(
    ("mountinfo", "kind"),
    [(V1, Kind.V1), (HYBRID, Kind.HYBRID), (V2, Kind.V2), (APART, Kind.HYBRID)],
)
def test_kind_of_host(mountinfo: str, kind: Kind) -> None:
    assert Hierarchies.parse(mountinfo).kind == kind


def test_controllers_mounted_together_are_one_hierarchy() -> None:
    assert mounts(V1) == {
        "name=systemd": "/sys/fs/cgroup/systemd",
        "cpu,cpuacct": "/sys/fs/cgroup/cpu,cpuacct",
        "freezer": "/sys/fs/cgroup/freezer",
        "cpuset": "/sys/fs/cgroup/cpuset",
    }


def test_controllers_mounted_apart_are_hierarchies_each() -> None:
    assert mounts(APART) == {
        "cpu": "/sys/fs/cgroup/cpu",
        "cpuacct": "/sys/fs/cgroup/cpuacct",
        "devices": "/sys/fs/cgroup/devices",
        "freezer": "/sys/fs/cgroup/freezer",
        "name=systemd": "/sys/fs/cgroup/systemd",
        "": "/sys/fs/cgroup/unified",
    }


def test_mounts_hidden_by_a_later_one_do_not_count() -> None:
    over = "50 31 0:38 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"
    assert mounts(HYBRID + over) == {"": "/sys/fs/cgroup"}


def test_a_mount_on_the_same_point_hides_the_one_below() -> None:
    over = "50 29 0:60 / /sys/fs/cgroup ro - tmpfs tmpfs ro\n"
    with pytest.raises(CgroupFailed) as caught:
        Hierarchies.parse(V2 + over)
    assert caught.value.reason == "CGROUPS_MISSING"


def test_a_hierarchy_mounted_twice_counts_once_where_most_of_it_is_seen() -> None:
    part = "20 28 0:26 /some/group /mnt/part rw - cgroup2 cgroup2 rw\n"
    assert mounts(part + V2) == mounts(V2 + part) == {"": "/sys/fs/cgroup"}


def test_escaped_mount_point() -> None:
    assert mounts(V2.replace("/sys/fs/cgroup", "/sys/c\\040g\\134roup")) == {"": "/sys/c g\\roup"}


def test_a_chroot_whose_root_mount_is_unseen() -> None:
    assert mounts("29 22 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n") == {"": "/sys/fs/cgroup"}


def test_no_cgroups_at_all() -> None:
    with pytest.raises(CgroupFailed) as caught:
        Hierarchies.parse("28 1 254:0 / / rw - ext4 /dev/vda rw\n")
    assert caught.value.reason == "CGROUPS_MISSING"


PROC_CGROUP = """\
7:freezer:/pods/a
4:memory:/elsewhere
2:cpu,cpuacct:/pods/a
1:name=systemd:/init.scope
0::/unified/a
"""


def test_proc_cgroup_by_controllers() -> None:
    assert parse_proc_cgroup("2:cpu,cpuacct:/a:b\n0::/c\n") == {
        frozenset({"cpu", "cpuacct"}): "/a:b",
        frozenset(): "/c",
    }


@pytest.mark.parametrize(
    ("mountinfo", "path"),
    [(V1, "/pods/a"), (HYBRID, "/pods/a"), (APART, "/pods/a"), (V2, "/unified/a")],
)
def test_group_of_a_process_is_the_freezers_or_the_unified_one(mountinfo: str, path: str) -> None:
    assert Hierarchies.parse(mountinfo).parse_group_of(PROC_CGROUP) == path


def test_group_of_a_process_without_a_freezer_is_the_first_v1_one() -> None:
    without = "".join(line for line in HYBRID.splitlines(True) if "freezer" not in line)
    assert Hierarchies.parse(without).parse_group_of(PROC_CGROUP) == "/init.scope"


def test_group_of_a_removed_group_is_its_name() -> None:
    assert Hierarchies.parse(V2).parse_group_of("0::/a/b (deleted)\n") == "/a/b"


BOUND = V2.replace(" / /sys/fs/cgroup ", " /docker/x /sys/fs/cgroup ")


@pytest.mark.parametrize(("reported", "path"), [("/docker/x", "/"), ("/docker/x/a", "/a")])
def test_group_below_a_bind_mounted_root_is_named_from_there(reported: str, path: str) -> None:
    assert Hierarchies.parse(BOUND).parse_group_of(f"0::{reported}\n") == path


@pytest.mark.parametrize("reported", ["/", "/docker/xy", "/docker", "/../other"])
def test_group_outside_a_bind_mounted_root(reported: str) -> None:
    with pytest.raises(CgroupFailed) as caught:
        Hierarchies.parse(BOUND).parse_group_of(f"0::{reported}\n")
    assert caught.value.reason == "CGROUP_OUTSIDE"


def test_group_outside_the_cgroup_namespace() -> None:
    with pytest.raises(CgroupFailed) as caught:
        Hierarchies.parse(V2).parse_group_of("0::/../b\n")
    assert caught.value.reason == "CGROUP_OUTSIDE"


LONG = "/" + "x" * 256


@pytest.mark.parametrize(
    "path",
    ["", "/", "a", "a/b", "//a", "/a//b", "/a/", "/a/../b", "/..", "/a/.", "/a\0", "/a\nb", LONG],
)
def test_what_is_no_group_path_is_refused(path: str) -> None:
    with pytest.raises(CgroupFailed) as caught:
        Hierarchies.parse(V2).group(path)
    assert caught.value.reason == "CGROUP_PATH_INVALID"


@pytest.mark.parametrize("path", ["/a", "/ocigrpc/ocigrpc-conmon-x", "/..a/b..", "/" + "x" * 255])
def test_group_keeps_its_path(path: str) -> None:
    assert Hierarchies.parse(V2).group(path).path == path
