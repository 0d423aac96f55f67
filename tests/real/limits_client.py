"""The client's side of limits, and the files that hold them."""

from __future__ import annotations

from pathlib import Path

from ocigrpc.v1 import config_pb2, limits_pb2, runtime_pb2
from tests.real.remains import LIMIT_S
from tests.real.service import Service

MIB = 1 << 20
EVERYTHING = {
    "cpu_shares": 512,
    "cpu_quota": 50_000,
    "cpu_period": 200_000,
    "cpuset_cpus": "0",
    "cpuset_mems": "0",
    "memory_limit_in_bytes": 64 * MIB,
    "memory_swap_limit_in_bytes": 128 * MIB,
    "pids_limit": 33,
}
FILES = {
    "cpu.shares": "512",
    "cpu.cfs_quota_us": "50000",
    "cpu.cfs_period_us": "200000",
    "cpuset.cpus": "0",
    "cpuset.mems": "0",
    "memory.limit_in_bytes": str(64 * MIB),
    "memory.memsw.limit_in_bytes": str(128 * MIB),
    "pids.max": "33",
}
"""What the files of cgroup v1 hold then."""


def update(service: Service, container_id: str, **limits: object) -> limits_pb2.ContainerLimits:
    resources = config_pb2.LinuxContainerResources(**limits)  # type: ignore[arg-type]
    request = runtime_pb2.UpdateContainerResourcesRequest(
        container_id=container_id, resources=resources
    )
    return service.rpc.UpdateContainerResources(request, timeout=LIMIT_S).limits


def files(service: Service, container_id: str) -> dict[str, str]:
    """What the files of a container's group hold that are about limits."""
    path = service.status(container_id).cgroup_path
    groups = [Path(f"{root}{path}") for root in service.host.cgroup_roots]
    names = (*FILES, "cgroup.max.depth", "cgroup.max.descendants")
    found = [group / name for group in groups for name in names if (group / name).exists()]
    return {file.name: file.read_text().strip() for file in found}
