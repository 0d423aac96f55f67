"""What a container runs, and how: its spec, and its processes."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from msgspec import Struct

from ocigrpc.engine.containers.container import Container
from ocigrpc.engine.model.values import State
from ocigrpc.host.processes.usage import ProcessUsage, process_usage
from ocigrpc.oci.bundle import runtime_spec
from ocigrpc.oci.spec.types import RuntimeSpec
from ocigrpc.waiting import Deadline

# How many processes are read before the members of the cgroup are listed again.
_BATCH = 128


class Inspection(Struct, frozen=True):
    """The spec of a container, None when its file can't be read, and what is known besides."""

    spec: RuntimeSpec | None
    seccomp_profile: str
    restart_safe: bool


def inspect(container: Container, own_groups: Collection[str]) -> Inspection:
    """What a container runs; ``own_groups`` are the cgroups that the service is in."""
    record = container.record
    paths = (container.cgroups.container.path, container.cgroups.monitor.path)
    is_ours = any(f"{path}/".startswith(f"{own}/") for path in paths for own in own_groups)
    return Inspection(
        spec=None if record.state is State.CREATING else runtime_spec(container.paths.spec_file),
        seccomp_profile=record.seccomp_profile,
        # The next start undoes what was being created.
        restart_safe=not (is_ours or record.monitor_lost or record.state is State.CREATING),
    )


def processes_of(
    container: Container, after_pid: int, deadline: Deadline
) -> Iterator[ProcessUsage]:
    """The processes in its cgroup and below it, by rising id, behind ``after_pid``.

    Raises ``Timeout`` or ``Cancelled``.
    """
    if container.record.state is State.CREATING and not container.cgroups.is_pinned:
        # It is not known yet whose the cgroup of its name is.
        return
    group = container.cgroups.container
    pids = [pid for pid in group.members() if pid > after_pid]
    for first in range(0, len(pids), _BATCH):
        deadline.check()
        batch = pids[first : first + _BATCH]
        found = [usage for pid in batch if (usage := process_usage(pid)) is not None]
        # A process that has ended meanwhile may have left its id to another, outside.
        members = set(group.members())
        yield from (usage for usage in found if usage.pid in members)
