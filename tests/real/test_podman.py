"""The specs that podman makes for the same requests: where ours differ, it is written down here.

podman is asked to create containers, and to run programs in them, with a runtime that notes
what it is given. A difference that is not in a table fails, and so does an entry of the
tables that is no difference any more.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Any

import pytest

from ocigrpc.oci.exec import ExecProcess, process_of
from ocigrpc.oci.spec.build import spec_of
from ocigrpc.oci.spec.config import (
    ContainerConfig,
    Device,
    Mount,
    Namespace,
    NamespaceMode,
    NamespaceType,
    Resources,
    Rlimit,
)
from ocigrpc.oci.spec.root_files import PlannedRoot
from tests.bed.bundles.podman import COMMAND, Podman
from tests.bed.bundles.spec_differences import Differences, differences

# As podman is asked for.
RLIMITS = (Rlimit("RLIMIT_NOFILE", 100, 200),)

# What podman is asked for, and the same of ours.
CASES: Mapping[str, tuple[tuple[str, ...], dict[str, Any]]] = {
    "root": ((), {}),
    "user": (("--user", "alice"), {"user": "alice"}),
    "numbers": (
        ("--user", "1001:5", "--group-add", "77"),
        {"user": "1001:5", "supplemental_groups": (77,)},
    ),
    "capabilities": (
        ("--cap-add", "NET_RAW", "--cap-drop", "CHOWN"),
        {"add_capabilities": ("NET_RAW",), "drop_capabilities": ("CHOWN",)},
    ),
    "capabilities of a user": (
        ("--user", "alice", "--cap-add", "NET_RAW", "--cap-drop", "CHOWN"),
        {"user": "alice", "add_capabilities": ("NET_RAW",), "drop_capabilities": ("CHOWN",)},
    ),
    "privileged": (("--privileged",), {"privileged": True}),
    "privileged user": (
        ("--privileged", "--user", "alice"),
        {"privileged": True, "user": "alice"},
    ),
    "terminal": (("--tty",), {}),
    "devices": (
        ("--device", "/dev/fuse", "--device", "/dev/kmsg:/dev/mine:r"),
        {"devices": (Device("/dev/fuse"), Device("/dev/kmsg", "/dev/mine", "r"))},
    ),
    "limits": (
        (
            *("--memory", "64m", "--memory-swap", "128m", "--cpu-period", "100000"),
            *("--cpu-quota", "50000", "--cpu-shares", "512", "--cpuset-cpus", "0"),
            *("--pids-limit", "50", "--oom-score-adj", "500"),
        ),
        {
            "resources": Resources(
                cpu_period=100_000,
                cpu_quota=50_000,
                cpu_shares=512,
                memory_limit_in_bytes=64 << 20,
                memory_swap_limit_in_bytes=128 << 20,
                cpuset_cpus="0",
                pids_limit=50,
                oom_score_adj=500,
            )
        },
    ),
    "mounts": (
        (
            *("--volume", "/etc:/data", "--volume", "/etc:/kept:ro", "--tmpfs", "/scratch"),
            *("--read-only", "--read-only-tmpfs=false", "--workdir", "/bin", "--env", "A=b"),
            *("--hostname", "h", "--sysctl", "net.ipv4.ip_forward=1"),
            *("--security-opt", "no-new-privileges"),
        ),
        {
            "mounts": (
                Mount("/data", "/etc"),
                Mount("/kept", "/etc", readonly=True),
                Mount("/scratch", type="tmpfs"),
            ),
            "readonly_rootfs": True,
            "working_dir": "/bin",
            "env": {"A": "b"},
            "hostname": "h",
            "sysctls": {"net.ipv4.ip_forward": "1"},
        },
    ),
    "namespaces of the host": (
        tuple(f"--{name}=host" for name in ("pid", "ipc", "uts", "network", "cgroupns")),
        {"namespaces": tuple(Namespace(kind, NamespaceMode.HOST) for kind in NamespaceType)},
    ),
}

KEPT: Mapping[str, str] = {
    "annotations.*": "podman's notes to itself; ours are the client's",
    "linux.cgroupsPath": "each has its containers in a place of its own",
    "mounts./etc/*": "podman writes these files; here mounts are the client's to bring",
    "mounts./run/.containerenv": "the same",
    "mounts./dev/shm": "podman's is shared between containers on request; ours is its own",
    "mounts./scratch": "the client says all options of its own mounts",
    "linux.namespaces.cgroup": "ours is private on cgroup v1 hosts as well: less is seen",
    "linux.maskedPaths./proc/asound": "ours is hidden, as with docker; podman's read-only",
    "linux.readonlyPaths./proc/asound": "the same",
    "linux.resources.pids.limit": "a limit that is absent is none, as in CRI; podman has 2048",
    "process.rlimits.RLIMIT_NPROC": "podman raises it; ours is that of the service, as in CRI",
    "process.env.HOME": "the runtime finds it in the container, and anew for each user of exec",
    "process.env.HOSTNAME": "ours is left out when the name is the host's",
    "process.noNewPrivileges": "ours is the safe default; podman has to be asked",
    "process.user.additionalGids": "ours has the primary group of root as well",
    "linux.devices./dev/*": "the runtime makes these in every container",
}
"""Differences of specs, by their paths, and why they are kept."""

KEPT_OF_EXEC: Mapping[str, str] = {
    "process.user.additionalGids": "ours has the primary group here as well",
    "process.env.HOME": "the runtime finds it in the container, and anew for each user",
    "process.env.HOSTNAME": "ours is that of the container, podman's is left out",
    "process.noNewPrivileges": "ours is the safe default; podman has to be asked",
    "process.rlimits.RLIMIT_NPROC": "podman's was asked for here, to let it run anywhere",
    "process.capabilities.effective": "podman leaves another user what the kernel takes away",
    "process.capabilities.permitted": "the same",
    "process.capabilities.ambient": "podman leaves another user what was given to one",
    "process.capabilities.inheritable": "podman takes one user by two names for two",
}
"""The same of the processes of exec."""

KEPT_OF_VERSION: Mapping[str, Mapping[str, str]] = {
    "4": {
        "linux.maskedPaths./sys/devices/virtual/powercap": "ours is hidden, as with podman 5",
        "process.env.TERM": "ours is set when there is a terminal, as with podman 5",
        "process.user.umask": "for exec podman 4 leaves it to the runtime, and runc to its caller",
    },
    "5": {
        "linux.maskedPaths./sys/dev/block": "ours is hidden, as with podman 4",
        "mounts./dev": "ours is noexec, as with podman 4",
    },
}
"""What is kept of one of podman's versions, and is no difference of the other."""

STRICTER = frozenset(
    {
        "process.noNewPrivileges",
        "process.user.additionalGids",
        "linux.namespaces.cgroup",
        "linux.maskedPaths./proc/asound",
        "linux.maskedPaths./sys/devices/virtual/powercap",
        "linux.maskedPaths./sys/dev/block",
    }
)
"""Those where ours has to have all that podman's has, and more."""

MADE_BY_RUNTIME = frozenset(
    f"linux.devices./dev/{name}" for name in "null zero full random urandom tty ptmx".split()
)


@pytest.fixture(scope="module")
def podman(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Podman]:
    asked = Podman(tmp_path_factory.mktemp("podman"))
    try:
        yield asked
    finally:
        asked.clear()


def is_kept(path: str, theirs: Any, ours: Any, table: Mapping[str, str]) -> bool:
    """Whether the table has this difference."""
    if path in STRICTER and not (ours and set(listed(theirs)) <= set(listed(ours))):
        return False
    if path.startswith("linux.devices."):
        return path in MADE_BY_RUNTIME
    return any(fnmatchcase(path, pattern) for pattern in table)


def listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def ours(podman: Podman, name: str, container_id: str) -> Any:
    """Our spec of the same."""
    _, fields = CASES[name]
    config = ContainerConfig(str(podman.rootfs), COMMAND, rlimits=RLIMITS, **fields)
    return spec_of(config, container_id=container_id, terminal=name == "terminal")


@pytest.fixture(scope="module")
def of_specs(podman: Podman) -> dict[str, Differences]:
    """The differences of the specs of each case."""
    found = {}
    for name, (words, _) in CASES.items():
        theirs = podman.spec(words)
        del theirs["ociVersion"]
        mine = ours(podman, name, theirs["linux"]["cgroupsPath"].rpartition("libpod-")[2])
        del mine["ociVersion"]
        found[name] = differences(theirs, mine)
    return found


@pytest.fixture(scope="module")
def of_execs(podman: Podman) -> dict[str, Differences]:
    """The differences of the processes of exec, in some of the containers."""
    found = {}
    for name in ("root", "capabilities of a user", "privileged"):
        for user in ("", "root", "alice", "1001:5", "7"):
            words = ("--user", user) if user else ()
            theirs = podman.process(CASES[name][0], words)
            spec = ours(podman, name, "c" * 64)
            asked = ExecProcess(("true",), user=user)
            files = PlannedRoot(str(podman.rootfs), [])
            mine = process_of(spec["process"], asked, files, terminal=False)
            # Said for this test alone.
            theirs["env"].remove("REALLY=1")
            mine["args"] = ["true"]
            found[f"exec of {user!r} in {name}"] = differences(
                {"process": theirs}, {"process": mine}
            )
    return found


def test_a_spec_differs_from_podmans_only_as_is_written_down(
    of_specs: dict[str, Differences],
) -> None:
    assert unknown(of_specs, {**KEPT, **of_this_version()}) == {}


def test_a_program_of_exec_differs_from_podmans_only_as_is_written_down(
    of_execs: dict[str, Differences],
) -> None:
    assert unknown(of_execs, {**KEPT_OF_EXEC, **of_this_version()}) == {}


def test_what_is_written_down_is_a_difference(
    of_specs: dict[str, Differences], of_execs: dict[str, Differences]
) -> None:
    table = {**KEPT, **KEPT_OF_EXEC, **of_this_version()}
    paths = {path for each in (*of_specs.values(), *of_execs.values()) for path in each}
    assert [each for each in table if not any(fnmatchcase(path, each) for path in paths)] == []


def of_this_version() -> Mapping[str, str]:
    """What is kept of the podman that there is; of a version that nobody has looked at, nothing."""
    ended = subprocess.run(["podman", "--version"], capture_output=True, text=True, check=True)
    major = ended.stdout.removeprefix("podman version ").partition(".")[0]
    return KEPT_OF_VERSION.get(major, {})


def unknown(found: dict[str, Differences], table: Mapping[str, str]) -> dict[str, Differences]:
    """What the table does not have."""
    left = {
        name: {path: both for path, both in each.items() if not is_kept(path, *both, table)}
        for name, each in found.items()
    }
    return {name: each for name, each in left.items() if each}
