"""Where a container and its monitor are kept: two cgroups, by either cgroup manager.

They are siblings under the container's parent, unless the settings have a parent for monitors.
With ``cgroupfs`` the service makes the monitor's group and the runtime the container's; with
``systemd`` both are transient scopes, and the monitor's is ordered to be stopped after the
container's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Self

from ocigrpc.engine.model.record import Record
from ocigrpc.errors import CgroupFailed, ContainerExists, Timeout
from ocigrpc.host.cgroups import systemd
from ocigrpc.host.cgroups.cgroup import Cgroup, GroupIdentity
from ocigrpc.host.cgroups.hierarchy import Hierarchies
from ocigrpc.log import get_logger
from ocigrpc.settings.values import CgroupManager, Settings
from ocigrpc.waiting import Deadline

_CONTAINER, _MONITOR = "ocigrpc-container", "ocigrpc-conmon"
_KEEP_S = 10.0
# An annotation of the spec: crun(1).
_SUBGROUP = "run.oci.systemd.subgroup"

log = get_logger()


def placed_by(cgroups_path: str) -> tuple[str, str]:
    """The manager and the parent of cgroups with this ``linux.cgroupsPath``."""
    if cgroups_path.startswith("/"):
        return CgroupManager.CGROUPFS, cgroups_path.rpartition("/")[0]
    return CgroupManager.SYSTEMD, cgroups_path.partition(":")[0]


def is_group_of(cgroups_path: str, container_id: str) -> bool:
    """Whether a ``linux.cgroupsPath`` is that of this container."""
    ours = f"/{_CONTAINER}-{container_id}", f":{_CONTAINER}:{container_id}"
    return cgroups_path.endswith(ours)


def id_of_group(name: str) -> str:
    """The container whose cgroup, or whose monitor's, has this name; empty if it is none's."""
    stems = [stem for stem in (_CONTAINER, _MONITOR) if name.startswith(f"{stem}-")]
    return name.removeprefix(f"{stems[0]}-").removesuffix(".scope") if stems else ""


class ContainerCgroups:
    """The two cgroups of one container: ``container``'s own, and its ``monitor``'s.

    ``monitor_parent`` is the parent of the latter; empty for the same one. Names prove nothing:
    after :meth:`pin` they are those very groups, and what has their names later is not touched.
    """

    def __init__(
        self,
        hierarchies: Hierarchies,
        manager: str,
        parent: str,
        container_id: str,
        monitor_parent: str = "",
    ) -> None:
        self.manager = manager
        self.parent = parent
        self.monitor_parent = monitor_parent
        self.by_systemd = manager == CgroupManager.SYSTEMD
        self._container_id = container_id
        self.container = hierarchies.group(self._path(parent, _CONTAINER))
        self.monitor = hierarchies.group(self._path(monitor_parent or parent, _MONITOR))

    @classmethod
    def of(cls, record: Record, hierarchies: Hierarchies) -> Self:
        """The cgroups of a recorded container, pinned as far as it is known which they are."""
        found = cls(
            hierarchies,
            record.cgroup_manager,
            record.cgroup_parent,
            record.container_id,
            record.monitor_parent,
        )
        found.pin(record.container_group, record.monitor_group)
        return found

    @property
    def cgroups_path(self) -> str:
        """``linux.cgroupsPath`` of the spec, in the form that the manager wants."""
        if self.by_systemd:
            return f"{self.parent}:{_CONTAINER}:{self._container_id}"
        return self.container.path

    def pin(
        self, container: GroupIdentity | None = None, monitor: GroupIdentity | None = None
    ) -> None:
        """Use those very groups from now on, and no others with their names."""
        if container is not None:
            before, self.container = self.container, self.container.pinned(container)
            if before.is_held:
                before.release()
                self.container.hold()
        if monitor is not None:
            self.monitor = self.monitor.pinned(monitor)

    @property
    def is_pinned(self) -> bool:
        """Whether it is known which groups are the container's."""
        return self.container.is_pinned

    def annotations(self, spec: Mapping[str, object]) -> dict[str, str]:
        """Annotations that make the runtime use the group itself, and none below it.

        crun makes one below a scope, which it freezes, and expects the groups of exec in.
        """
        given = spec.get("annotations")
        if not self.by_systemd or (isinstance(given, dict) and _SUBGROUP in given):
            return {}
        return {_SUBGROUP: ""}

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
        """Move conmon into its cgroup; it must not have become a daemon yet.

        Raises ``ContainerExists`` (CGROUP_IN_USE) when there is a scope of its name, or of
        the container's, ``CgroupFailed``, ``Timeout`` or ``Cancelled``.
        """
        if self.by_systemd:
            self._start_scope(monitor_pid, deadline)
        else:
            self.monitor.create()
            self.monitor.add(monitor_pid)
        self.pin(monitor=self.monitor.identity())

    def keep_beside_monitor(self, pid: int) -> None:
        """Move a process that is to outlive the service into the monitor's cgroup.

        Systemd ends with a service what is in that one's own. If the monitor is gone, and its group
        with it, the process stays where it is.
        """
        if self.monitor.exists():
            try:
                self.monitor.add(pid)
            except CgroupFailed as error:
                # The process, or the monitor, has just ended.
                log.warning("cgroup.not_moved", pid=pid, error=error.message)

    def _start_scope(self, monitor_pid: int, deadline: Deadline) -> None:
        try:
            systemd.start_scope(
                self._unit(_MONITOR),
                [monitor_pid],
                self.monitor_parent or self.parent,
                deadline,
                description=f"conmon of container {self._container_id}",
                before=[self._unit(_CONTAINER)],
                # Whatever slice it is in, the runtime would take it for the container's.
                without=self._unit(_CONTAINER),
            )
        except CgroupFailed as error:
            if error.reason != "SCOPE_EXISTS":
                raise
            raise ContainerExists(
                error.message, reason="CGROUP_IN_USE", **error.metadata
            ) from error

    def keep_limits(self, texts: Mapping[str, str]) -> None:
        """Pass limits on to the manager that were set without it.

        ``texts`` are files of cgroup v2. Whenever systemd sets a limit, it sets all that it knows.
        """
        if self.by_systemd:
            try:
                systemd.set_limits(self._unit(_CONTAINER), texts, Deadline(_KEEP_S))
            except (CgroupFailed, Timeout) as error:
                log.warning("limits.not_kept", reason=error.reason, error=error.message)

    def remove_container(self, deadline: Deadline) -> None:
        """Remove the container's group, which has no processes any more."""
        self._remove(_CONTAINER, self.container, deadline)

    def remove_monitor(self, deadline: Deadline) -> None:
        """Remove the group of a monitor that has ended."""
        self._remove(_MONITOR, self.monitor, deadline)

    def _remove(self, stem: str, group: Cgroup, deadline: Deadline) -> None:
        if self.by_systemd and group.exists():
            # systemd removes a scope with its last process; if it still exists, that has failed.
            systemd.stop_scope(self._unit(stem), deadline)
        else:
            group.remove(deadline)

    def _path(self, parent: str, stem: str) -> str:
        if self.by_systemd:
            return systemd.scope_path(parent, self._unit(stem))
        return f"{parent.rstrip('/')}/{stem}-{self._container_id}"

    def _unit(self, stem: str) -> str:
        return f"{stem}-{self._container_id}.scope"


def parents(hierarchies: Hierarchies, settings: Settings) -> Sequence[Cgroup]:
    """The parents in the settings, that of monitors first; none with systemd, which makes them."""
    if settings.cgroup.manager is CgroupManager.SYSTEMD:
        return []
    paths = (settings.conmon.cgroup_parent, settings.cgroup.parent)
    return [hierarchies.group(path) for path in paths if path]


def topmost_missing(hierarchies: Hierarchies, path: str) -> str:
    """The first cgroup on the way down to ``path`` that does not exist; or nothing."""
    return next((each for each in _way_down(path) if not hierarchies.group(each).exists()), "")


def remove_made_parents(hierarchies: Hierarchies, record: Record, settings: Settings) -> None:
    """Remove the cgroups above its own that were made for such containers, if they are empty.

    Those of the settings stay as long as the service.
    """
    staying = ("", settings.conmon.cgroup_parent, settings.cgroup.parent)
    if record.monitor_parent not in staying and record.cgroup_manager == CgroupManager.CGROUPFS:
        hierarchies.group(record.monitor_parent).remove_if_empty()
    remove_made(hierarchies, record.cgroup_parent, record.made_parent)


def remove_made(hierarchies: Hierarchies, path: str, first: str) -> None:
    """Remove the empty cgroups on the way up from ``path`` to ``first``; none, if that is empty.

    ``first`` is what :func:`topmost_missing` was before they were made.
    """
    for each in reversed(_way_down(path)):
        if first and len(each) >= len(first):
            hierarchies.group(each).remove_if_empty()


def _way_down(path: str) -> Sequence[str]:
    """Every cgroup from below the root down to ``path``."""
    names = path.strip("/").split("/")
    return ["/" + "/".join(names[: depth + 1]) for depth in range(len(names))]
