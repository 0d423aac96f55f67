"""The client's side of limits, and the files that hold them."""

from __future__ import annotations

from pathlib import Path

from ocigrpc.host.cgroups.limits import weight_of_shares
from ocigrpc.v1 import config_pb2
from tests.bed.services.service import Service

MIB = 1 << 20
EVERYTHING = {
    # The fewest that are this weight.
    "cpu_shares": 501,
    "cpu_weight": 20,
    "cpu_quota": 50_000,
    "cpu_period": 200_000,
    "cpuset_cpus": "0",
    "cpuset_mems": "0",
    "memory_limit_in_bytes": 64 * MIB,
    "memory_swap_limit_in_bytes": 128 * MIB,
    "pids_limit": 33,
}

# What takes all of them away.
NOTHING = {
    "cpu_shares": -1,
    "cpu_quota": -1,
    "cpuset_cpus": "",
    "cpuset_mems": "",
    "memory_limit_in_bytes": -1,
    "memory_swap_limit_in_bytes": -1,
    "pids_limit": -1,
}

_V1_FILES = {
    "cpu.shares": "501",
    "cpu.cfs_quota_us": "50000",
    "cpu.cfs_period_us": "200000",
    "cpuset.cpus": "0",
    "cpuset.mems": "0",
    "memory.limit_in_bytes": str(64 * MIB),
    "memory.memsw.limit_in_bytes": str(128 * MIB),
    "pids.max": "33",
}
_V2_FILES = {
    "cpu.weight": "20",
    "cpu.max": "50000 200000",
    "cpuset.cpus": "0",
    "cpuset.mems": "0",
    "memory.max": str(64 * MIB),
    "memory.swap.max": str(64 * MIB),
    "pids.max": "33",
}
_MORE_FILES = ("cgroup.max.depth", "cgroup.max.descendants", "memory.high")


def is_v2(service: Service) -> bool:
    """Whether the service's host has cgroup v2 alone."""
    return [(root / "cgroup.controllers").exists() for root in service.host.cgroup_roots] == [True]


def files_of_everything(service: Service) -> dict[str, str]:
    """What the files hold when EVERYTHING is in force."""
    return _V2_FILES if is_v2(service) else _V1_FILES


def update(
    service: Service, container_id: str, **limits: object
) -> config_pb2.LinuxContainerResources:
    resources = config_pb2.LinuxContainerResources(**limits)  # type: ignore[arg-type]
    return send_back(service, container_id, resources)


def send_back(
    service: Service, container_id: str, resources: config_pb2.LinuxContainerResources
) -> config_pb2.LinuxContainerResources:
    return service.client.update_container_resources(container_id, resources)


def in_force(service: Service, container_id: str) -> config_pb2.LinuxContainerResources:
    return service.client.container_status(container_id).resources


def directories(service: Service, container_id: str) -> list[Path]:
    """The container's group in every hierarchy."""
    path = service.status(container_id).cgroup_path
    return [Path(f"{root}{path}") for root in service.host.cgroup_roots]


def files(service: Service, container_id: str) -> dict[str, str]:
    """What the files of a container's group hold that are about limits."""
    names = (*files_of_everything(service), *_MORE_FILES)
    groups = directories(service, container_id)
    found = [group / name for group in groups for name in names if (group / name).exists()]
    return {file.name: file.read_text().strip() for file in found}


def weight_file(service: Service, shares: int) -> dict[str, str]:
    """The file that has the weight, and what it holds of these shares."""
    if is_v2(service):
        return {"cpu.weight": str(weight_of_shares(shares))}
    return {"cpu.shares": str(shares)}


def same_limits(service: Service, before: dict[str, str], after: dict[str, str]) -> bool:
    """Whether files limit the same: an empty cpuset of cgroup v2 is all that the host has."""
    (root,) = service.host.cgroup_roots if is_v2(service) else (None,)
    if root is not None:
        for name in ("cpuset.cpus", "cpuset.mems"):
            everything = (root / f"{name}.effective").read_text().strip()
            if before.get(name) == "" and after.get(name) == everything:
                after = after | {name: ""}
    return before == after
