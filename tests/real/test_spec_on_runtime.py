"""Specs of configs as real runtimes carry them out: what a container may do, and may not."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ocigrpc.oci.spec.capabilities import CAPABILITIES, DEFAULT_CAPABILITIES, held_capabilities
from ocigrpc.oci.spec.config import Device, Resources, Rlimit
from tests.bed.bundles.shell_container import (
    CONTAINER_ID,
    RUNTIMES,
    Ended,
    ShellContainers,
    lines_of,
)


@pytest.fixture(params=RUNTIMES)
def run(request: pytest.FixtureRequest, tmp_path: Path) -> ShellContainers:
    """``run(script, **config)``: a script in a container of each runtime."""
    return ShellContainers(str(request.param), tmp_path)


def status(ended: Ended) -> dict[str, str]:
    """The fields of /proc/PID/status."""
    pairs = [line.partition(":") for line in lines_of(ended)]
    return {key: value.strip() for key, _, value in pairs}


def bits(names: frozenset[str]) -> int:
    return sum(1 << CAPABILITIES.index(name) for name in names)


def test_a_container_has_safe_defaults(run: ShellContainers) -> None:
    seen = status(run("cat /proc/self/status"))
    default = bits(DEFAULT_CAPABILITIES)
    assert int(seen["CapBnd"], 16) == default
    assert int(seen["CapEff"], 16) == default
    assert int(seen["CapInh"], 16) == 0
    assert int(seen["CapAmb"], 16) == 0
    assert seen["NoNewPrivs"] == "1"
    assert seen["Seccomp"] == "2"
    assert (seen["Uid"].split()[0], seen["Gid"].split()[0]) == ("0", "0")


def test_a_container_has_its_own_namespaces_and_nothing_of_the_hosts(run: ShellContainers) -> None:
    script = (
        "hostname; echo $$; for n in pid net ipc uts cgroup mnt; do readlink /proc/self/ns/$n; done"
    )
    hostname, pid, *links = lines_of(run(script))
    assert hostname == CONTAINER_ID[:12]
    assert pid == "1"
    assert len(links) == 6
    assert not set(links) & {
        os.readlink(f"/proc/self/ns/{name}") for name in os.listdir("/proc/self/ns")
    }


def test_a_container_sees_only_its_own_cgroup(run: ShellContainers) -> None:
    assert {line.rpartition(":")[2] for line in lines_of(run("cat /proc/self/cgroup"))} <= {
        "/",
        "/container",
    }


def test_a_named_user_has_its_groups(run: ShellContainers) -> None:
    ended = run("id -u; id -g; id -G", user="alice", supplemental_groups=(7,))
    uid, gid, groups = lines_of(ended)
    assert (uid, gid, set(groups.split())) == ("1001", "1002", {"1002", "1003", "7"})


def test_a_user_that_is_not_root_has_no_effective_capabilities(run: ShellContainers) -> None:
    seen = status(run("cat /proc/self/status", user="1001:5"))
    assert int(seen["CapEff"], 16) == 0
    assert int(seen["CapBnd"], 16) == bits(DEFAULT_CAPABILITIES)
    assert seen["Gid"].split()[0] == "5"


def test_capabilities_are_dropped_and_added(run: ShellContainers) -> None:
    ended = run(
        "cat /proc/self/status", drop_capabilities=("ALL",), add_capabilities=("net_admin",)
    )
    assert int(status(ended)["CapEff"], 16) == bits(frozenset({"CAP_NET_ADMIN"}))


def test_environment_and_working_directory(run: ShellContainers) -> None:
    ended = run("pwd; echo $PATH; echo $GREETING", working_dir="/tmp", env={"GREETING": "a=b c"})
    assert lines_of(ended) == [
        "/tmp",
        "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "a=b c",
    ]


def test_masked_and_read_only_paths_hold(run: ShellContainers) -> None:
    script = """
        ls -d /sys/firmware/* /sys/dev/block/* 2>/dev/null
        cat /proc/keys /proc/timer_list 2>/dev/null
        (cat /proc/sys/vm/swappiness >/proc/sys/vm/swappiness) 2>&1 | grep -o Read-only
    """
    assert lines_of(run(script)) == ["Read-only"]


def test_sys_and_cgroups_are_read_only(run: ShellContainers) -> None:
    script = """
        own=$(sed -n 's/^[0-9]*:pids://p;s/^0:://p' /proc/self/cgroup | head -n 1)
        for d in /sys /sys/fs/cgroup/pids$own /sys/fs/cgroup$own
        do test -d $d && mkdir $d/x 2>&1 | grep -o Read-only; done | uniq
    """
    assert lines_of(run(script)) == ["Read-only"]


def test_a_read_only_root_can_not_be_written(run: ShellContainers) -> None:
    script = "touch /x 2>/dev/null || echo refused"
    assert lines_of(run(script, readonly_rootfs=True)) == ["refused"]
    assert lines_of(run(script)) == []


def test_sysctls_are_set_in_the_containers_namespace(run: ShellContainers) -> None:
    before = Path("/proc/sys/kernel/shmmni").read_text()
    ended = run(
        "cat /proc/sys/kernel/shmmni /proc/sys/net/ipv4/ip_default_ttl /proc/sys/fs/mqueue/msg_max",
        sysctls={
            "kernel.shmmni": "1234",
            "net.ipv4.ip_default_ttl": "77",
            "fs.mqueue.msg_max": "11",
        },
    )
    assert lines_of(ended) == ["1234", "77", "11"]
    assert Path("/proc/sys/kernel/shmmni").read_text() == before


def test_rlimits_are_set(run: ShellContainers) -> None:
    ended = run("ulimit -Sn; ulimit -Hn", rlimits=(Rlimit("RLIMIT_NOFILE", 100, 200),))
    assert lines_of(ended) == ["100", "200"]


def test_resources_are_set(run: ShellContainers) -> None:
    resources = Resources(
        cpu_period=100_000,
        cpu_quota=50_000,
        cpu_shares=512,
        memory_limit_in_bytes=64 << 20,
        memory_swap_limit_in_bytes=64 << 20,
        oom_score_adj=500,
        cpuset_cpus="0",
        pids_limit=50,
    )
    v1 = (
        "cpu/cpu.cfs_quota_us cpu/cpu.shares memory/memory.limit_in_bytes pids/pids.max"
        " cpuset/cpuset.cpus"
    )
    v2 = "cpu.max cpu.weight memory.max pids.max cpuset.cpus"
    names = v2 if Path("/sys/fs/cgroup/cgroup.controllers").exists() else v1
    ended = run(
        f"cat /proc/self/oom_score_adj; cd /sys/fs/cgroup; cat {names}", resources=resources
    )
    expected = (
        ["50000 100000", "20", str(64 << 20), "50", "0"]
        if names == v2
        else ["50000", "512", str(64 << 20), "50", "0"]
    )
    assert lines_of(ended) == ["500", *expected]


def test_a_device_can_be_used_and_others_can_not(run: ShellContainers) -> None:
    script = """
        dd if=/dev/mine of=/dev/null bs=1 count=1 2>/dev/null && echo mine
        head -c 1 /dev/urandom >/dev/null && echo urandom
        mknod /tmp/kmsg c 1 11 && (exec </tmp/kmsg) 2>/dev/null || echo refused
    """
    ended = run(
        script,
        devices=(Device("/dev/zero", "/dev/mine", "r"),),
        add_capabilities=("MKNOD",),
    )
    assert lines_of(ended) == ["mine", "urandom", "refused"]


def test_a_privileged_container_is_root_on_the_host(run: ShellContainers) -> None:
    script = """
        grep -e CapEff -e NoNewPrivs -e Seccomp: /proc/self/status
        ls -d /dev/kmsg; (exec </dev/kmsg) && echo kmsg: opened
        grep -c -e ' /proc/sys ' -e ' /sys/firmware ' /proc/self/mounts
    """
    cap, privileges, seccomp, node, opened, masks = run(script, privileged=True).stdout.splitlines()
    assert int(cap.split()[1], 16) == bits(held_capabilities())
    assert privileges.split()[1] == "0"
    assert seccomp.split()[1] == "0"
    assert (node, opened, masks) == ("/dev/kmsg", "kmsg: opened", "0")


def test_new_privileges_when_asked_for(run: ShellContainers) -> None:
    assert status(run("cat /proc/self/status", no_new_privileges=False))["NoNewPrivs"] == "0"
