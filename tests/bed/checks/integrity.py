"""Whether a service and its host agree: every container complete, or gone without a trace."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ocigrpc.errors import Timeout
from ocigrpc.host.cgroups.hierarchy import Hierarchies
from ocigrpc.v1.container_pb2 import ContainerState, ContainerStatus
from tests.bed.hosts.leaks import until
from tests.bed.services.service import Service


def expect_integrity(service: Service) -> None:
    """Wait until each container is complete or gone, while no call changes any."""
    found: list[str] = []

    def agrees() -> bool:
        found[:] = integrity_flaws(service)
        return not found

    try:
        until(agrees)
    except Timeout:
        raise AssertionError(found) from None


def integrity_flaws(service: Service) -> list[str]:
    """What is there without a record, and what records are without."""
    containers = service.statuses()
    ids = [each.container_id for each in containers]
    strays = [leak for leak in service.leaks() if not any(_belongs(leak, i) for i in ids)]
    return strays + [
        f"{each.container_id} without {lacking}"
        for each in containers
        for lacking in _lacking(service.directory, each)
    ]


def _belongs(leak: str, container_id: str) -> bool:
    if "/exec-" in leak:
        return False
    # A process belongs to the container whose cgroup it is in. A runtime that names one is
    # an orphan of the service.
    mark = f"-{container_id}" if leak.startswith("process") else container_id
    return mark in leak


def _lacking(directory: Path, status: ContainerStatus) -> Iterator[str]:
    bundle = Path(status.bundle_path)
    runtime = "crun" if status.runtime_handler == "crun" else "runc"
    state = directory / runtime / status.container_id
    for path in (bundle / "config.json", Path(status.log_path), state):
        if not path.exists():
            yield str(path)
    members = Hierarchies.detect().group(status.cgroup_path).members()
    if status.state == ContainerState.CONTAINER_STATE_STOPPED:
        if not status.exit_status.HasField("exit_code"):
            yield "an exit code"
        if members:
            yield f"an end of {members}"
        return
    if status.state == ContainerState.CONTAINER_STATE_CREATING:
        yield "an end of its creation"
    if status.pid not in members:
        yield f"its process {status.pid} in its cgroup"
    if status.monitor_lost or not _is_monitor(bundle, status.container_id):
        yield "its monitor"
    if any(bundle.glob("exec-*")):
        yield "an end of its programs' files"


def _is_monitor(bundle: Path, container_id: str) -> bool:
    try:
        pid = (bundle / "conmon.pid").read_text()
        argv = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
    except OSError:
        return False
    return container_id in argv
