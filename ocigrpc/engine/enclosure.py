"""Where a container and its monitor are kept: two cgroups, by either cgroup manager.

They are siblings under the container's parent. With ``cgroupfs`` the service makes the
monitor's group and the runtime the container's; with ``systemd`` both are transient
scopes, and the monitor's is ordered to be stopped after the container's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from msgspec import Struct

from ocigrpc.deadline import Deadline
from ocigrpc.errors import ContainerExists, OcigrpcError
from ocigrpc.host import systemd
from ocigrpc.host.cgroup import Cgroup, Hierarchies
from ocigrpc.log import get_logger

log = get_logger()

SYSTEMD = "systemd"
_CONTAINER, _MONITOR = "ocigrpc-container", "ocigrpc-conmon"


class Enclosure(Struct, frozen=True):
    """The two cgroups of one container."""

    hierarchies: Hierarchies
    manager: str
    parent: str
    container_id: str

    @property
    def by_systemd(self) -> bool:
        """Whether systemd makes the groups."""
        return self.manager == SYSTEMD

    @property
    def cgroups_path(self) -> str:
        """``linux.cgroupsPath`` of the spec, in the form that the manager wants."""
        if self.by_systemd:
            return f"{self.parent}:{_CONTAINER}:{self.container_id}"
        return self._path(_CONTAINER)

    @property
    def container(self) -> Cgroup:
        """The container's group, made by the runtime."""
        return self.hierarchies.group(self._path(_CONTAINER))

    @property
    def monitor(self) -> Cgroup:
        """conmon's group."""
        return self.hierarchies.group(self._path(_MONITOR))

    def refuse_occupied(self) -> None:
        """Raise ``ContainerExists`` (CGROUP_IN_USE) when a process is where ours would be."""
        for group in (self.container, self.monitor):
            if group.populated():
                raise ContainerExists(
                    f"cgroup {group.path} has processes already",
                    reason="CGROUP_IN_USE",
                    path=group.path,
                )

    def enter(self, monitor_pid: int, deadline: Deadline) -> None:
        """Put conmon where it belongs; it must not have become a daemon yet.

        Raises ``CgroupFailed``, ``Timeout`` or ``Cancelled``.
        """
        if self.by_systemd:
            systemd.start_scope(
                self._unit(_MONITOR),
                [monitor_pid],
                self.parent,
                deadline,
                description=f"conmon of container {self.container_id}",
                before=[self._unit(_CONTAINER)],
            )
        else:
            self.monitor.create()
            self.monitor.add(monitor_pid)

    def kill(self, deadline: Deadline) -> None:
        """End every process of container and monitor; errors are logged, and returned from."""
        # The monitor first: it would report as failed what we end on purpose.
        self._try_each(deadline, self.monitor.kill, self.container.kill)

    def remove(self, deadline: Deadline) -> None:
        """Remove both groups, which have no processes any more; errors are logged."""
        self._try_each(deadline, *self._removals(_MONITOR), *self._removals(_CONTAINER))

    def remove_monitor(self, deadline: Deadline) -> None:
        """Remove the group of a monitor that has ended; errors are logged."""
        self._try_each(deadline, *self._removals(_MONITOR))

    def _removals(self, stem: str) -> Iterator[Callable[[Deadline], None]]:
        group = self.hierarchies.group(self._path(stem))
        if not self.by_systemd:
            yield group.remove
        elif group.exists():
            # systemd removes a scope with its last process; this one has lost its way.
            yield lambda deadline: systemd.stop_scope(self._unit(stem), deadline)

    def _try_each(self, deadline: Deadline, *steps: Callable[[Deadline], None]) -> None:
        for step in steps:
            try:
                step(deadline)
            except OcigrpcError as error:
                # One step's failure must not keep the others from being tried.
                log.error("cgroup.left", reason=error.reason, error=error.message, **error.metadata)

    def _path(self, stem: str) -> str:
        if self.by_systemd:
            return systemd.scope_path(self.parent, self._unit(stem))
        return f"{self.parent.rstrip('/')}/{stem}-{self.container_id}"

    def _unit(self, stem: str) -> str:
        return f"{stem}-{self.container_id}.scope"
