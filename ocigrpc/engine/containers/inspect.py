"""What a container runs, and how: its spec, and its processes."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import NamedTuple

from msgspec import Struct

from ocigrpc.engine.containers.container import Container
from ocigrpc.engine.model.values import State
from ocigrpc.errors import HostFailed
from ocigrpc.host.processes.usage import ProcessUsage, process_usage, uid_ranges
from ocigrpc.oci.bundle import SpecFile
from ocigrpc.oci.spec.root_files import RunningRoot
from ocigrpc.oci.spec.users import user_names
from ocigrpc.waiting import Deadline

# How many processes are read before the members of the cgroup are listed again.
_BATCH = 128


class Inspection(Struct, frozen=True):
    """The spec of a container, None when there is none, and what is known besides."""

    spec: SpecFile | None
    seccomp_profile: str
    restart_safe: bool


class ContainerProcess(NamedTuple):
    """A process, and its user's name in the container's /etc/passwd, empty if there is none."""

    usage: ProcessUsage
    user: str


def inspect(container: Container, own_groups: Collection[str]) -> Inspection:
    """What a container runs; ``own_groups`` are the cgroups that the service is in."""
    record = container.record
    paths = (container.cgroups.container.path, container.cgroups.monitor.path)
    is_ours = any(f"{path}/".startswith(f"{own}/") for path in paths for own in own_groups)
    return Inspection(
        spec=None if record.state is State.CREATING else SpecFile.at(container.paths.spec_file),
        seccomp_profile=record.seccomp_profile,
        # The next start undoes what was being created.
        restart_safe=not (is_ours or record.monitor_lost or record.state is State.CREATING),
    )


def processes_of(
    container: Container, after_pid: int, deadline: Deadline
) -> Iterator[ContainerProcess]:
    """The processes in its cgroup and below it, by rising id, behind ``after_pid``.

    Raises ``Timeout`` or ``Cancelled``.
    """
    if container.record.state is State.CREATING and not container.cgroups.is_pinned:
        # It is not known yet whose the cgroup of its name is.
        return
    group = container.cgroups.container
    pids = [pid for pid in group.members() if pid > after_pid]
    users = _user_names(container) if pids else {}
    for first in range(0, len(pids), _BATCH):
        deadline.check()
        batch = pids[first : first + _BATCH]
        found = [usage for pid in batch if (usage := process_usage(pid)) is not None]
        # A process that has ended meanwhile may have left its id to another, outside.
        members = set(group.members())
        for usage in found:
            if usage.pid in members:
                yield ContainerProcess(usage, users.get(usage.uid, ""))


def _user_names(container: Container) -> Mapping[int, str]:
    """The names in the container's /etc/passwd, by the host's uids; none if it can't be read."""
    init = container.init
    if init is None:
        return {}
    try:
        ranges = list(uid_ranges(init.pid))
        # Fails when the process has ended, and the ranges may be another one's.
        with RunningRoot(init) as root:
            names = user_names(root)
    except (OSError, HostFailed):
        return {}
    return {
        here + uid - first: name
        for first, here, count in ranges
        for uid, name in names.items()
        if first <= uid < first + count
    }
