"""What is a container's, and may be ended, thawed or removed: names prove nothing of it.

The runtime's entry of a container is the one that was there when the container had been made,
and before that one that names our bundle. Its cgroups are those that it was in then, and before
that those in which a process descends from our conmon.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from enum import Enum, auto

from ocigrpc.engine.containers.cgroups import ContainerCgroups
from ocigrpc.engine.model.record import Record
from ocigrpc.errors import ContainerExists, PreconditionFailed, RuntimeFailed, Timeout
from ocigrpc.host.cgroups.cgroup import Cgroup, GroupIdentity
from ocigrpc.host.cgroups.hierarchy import Hierarchies
from ocigrpc.host.files.mounts import source_of, unmount
from ocigrpc.host.files.statx import FileIdentity
from ocigrpc.host.files.tree import mount_in_the_way, mounts_at, remove_tree
from ocigrpc.host.processes.process import Process, boot_id
from ocigrpc.host.processes.provenance import comes_from, has_ended
from ocigrpc.log import get_logger
from ocigrpc.oci.runtime import Runtime, RuntimeState
from ocigrpc.oci.shown_bundle import shown_bundle
from ocigrpc.waiting import Deadline

log = get_logger()

# In the output of runc and crun for an id that somebody has.
_TAKEN = "already exists"

# How often to check whether the processes of a group are still the same.
_LOOKS = 8


class Entry(Enum):
    """What a runtime has under a container's id."""

    NONE = auto()
    OURS = auto()
    # Left by a runtime that was killed before it had stored the bundle.
    HALF_MADE = auto()
    ANOTHERS = auto()


def entry_of(runtime: Runtime, record: Record, deadline: Deadline) -> Entry:
    """What a runtime has under the container's id; it is asked only if its files don't show it.

    Raises ``RuntimeFailed`` or ``Timeout`` when it can't be asked, ``Cancelled``.
    """
    path, known = runtime.entry_path(record.container_id), record.runtime_entry
    if known is not None and known.is_taken:
        now = FileIdentity.of(known.path)
        if now.is_taken:
            return Entry.OURS if now == known else Entry.ANOTHERS
        if path in ("", known.path):
            return Entry.NONE
    # Even with nothing at the path: one that goes by a runtime's name may keep it elsewhere.
    found = _runtime_state(runtime, record, deadline)
    if found is not None:
        return Entry.OURS if _names_bundle(found, record) else Entry.ANOTHERS
    if not path or not os.path.lexists(path):
        return Entry.NONE
    # There was none before ours was begun.
    return Entry.HALF_MADE if known == FileIdentity(path) else Entry.ANOTHERS


def _runtime_state(runtime: Runtime, record: Record, deadline: Deadline) -> RuntimeState | None:
    """The runtime's state of the id; None when it knows no such container."""
    try:
        return runtime.state(record.container_id, deadline)
    except RuntimeFailed as error:
        if error.reason != RuntimeFailed.reason:
            raise
        return None


def _names_bundle(found: RuntimeState, record: Record) -> bool:
    # Runtimes may have followed links on the way to it.
    own = os.path.realpath(record.bundle_path)
    return os.path.realpath(found.bundle or "/") in (own, f"{own}/bundle")


def refuse_taken(runtime: Runtime, record: Record) -> None:
    """Raise ``ContainerExists`` (RUNTIME_ID_IN_USE) when the runtime knows the id already.

    As far as its files show it; the runtime itself checks the rest, see :func:`is_taken`.
    """
    if record.runtime_entry is not None and os.path.lexists(record.runtime_entry.path):
        raise id_in_use(runtime, record)


def id_in_use(runtime: Runtime, record: Record) -> ContainerExists:
    """The error that the runtime has somebody else's container of this id."""
    return ContainerExists(
        f"OCI runtime {runtime.name!r} has a container {record.container_id!r} already, "
        "which is not ours",
        reason="RUNTIME_ID_IN_USE",
        container_id=record.container_id,
        runtime_handler=runtime.name,
        path=runtime.entry_path(record.container_id),
    )


def is_taken(runtime: Runtime, record: Record, failure: RuntimeFailed, deadline: Deadline) -> bool:
    """Whether a create has failed because the runtime has another's container of this id."""
    entry = entry_of(runtime, record, deadline)
    refused = _TAKEN in failure.metadata.get("output", "")
    return entry is Entry.ANOTHERS or (entry is Entry.HALF_MADE and refused)


def entry_made(record: Record) -> FileIdentity | None:
    """What the runtime has made for a container; None where its files don't show it."""
    known = record.runtime_entry
    made = FileIdentity.of(known.path) if known is not None else None
    return made if made is not None and made.is_taken else None


def require_entry(record: Record) -> None:
    """Raise ``PreconditionFailed`` unless the runtime's container of this id is still ours.

    RUNTIME_CONTAINER_REPLACED: a verb would be done to another's.
    """
    known = record.runtime_entry
    if known is None or not known.is_taken:
        return
    now = FileIdentity.of(known.path)
    if now.is_taken and now != known:
        raise PreconditionFailed(
            f"the OCI runtime has another container {record.container_id!r} by now",
            reason="RUNTIME_CONTAINER_REPLACED",
            container_id=record.container_id,
            path=known.path,
        )


def delete_entry(
    runtime: Runtime, record: Record, cgroups: ContainerCgroups, deadline: Deadline
) -> None:
    """Have a runtime delete the container, or what is left of it; another's is left alone.

    Raises what its ``delete`` raises; ``PreconditionFailed`` MOUNT_IN_THE_WAY, and
    CGROUP_NOT_OURS since runtimes kill whatever is in a cgroup of the container's name.
    """
    entry = entry_of(runtime, record, deadline)
    if entry is Entry.ANOTHERS:
        log.warning(
            "runtime.entry_of_another",
            container_id=record.container_id,
            runtime_handler=runtime.name,
        )
    if entry in (Entry.NONE, Entry.ANOTHERS):
        return
    if pids := cgroups.container.replacing_members():
        path = cgroups.container.path
        raise PreconditionFailed(
            f"cgroup {path} is not the container's, but has its name, and processes",
            reason="CGROUP_NOT_OURS",
            path=path,
            pids=" ".join(map(str, pids[:64])),
        )
    path = runtime.entry_path(record.container_id)
    before = FileIdentity.of(path) if path else None
    if path:
        _unmount_own(runtime, path)
    if entry is Entry.OURS:
        runtime.delete(record.container_id, deadline, shown_bundle(record.bundle_path))
    # Runtimes succeed even when a mount has kept them from deleting it.
    if before is not None and before.is_taken and FileIdentity.of(path) == before:
        remove_tree(os.path.dirname(path), path)


def refuse_entry_mounts(runtime: Runtime, record: Record) -> None:
    """Raise ``PreconditionFailed`` (MOUNT_IN_THE_WAY) for another's mount in our entry.

    Runtimes delete what is behind it.
    """
    known = record.runtime_entry
    if known is not None and known.is_taken and FileIdentity.of(known.path) == known:
        _own_mounts(runtime, known.path)


def _own_mounts(runtime: Runtime, path: str) -> Sequence[str]:
    """What the runtime has mounted in the directory; another's mount is an error."""
    found = mounts_at(os.path.dirname(path), path)
    for mount_point in found:
        if not runtime.is_own_mount(mount_point, source_of(mount_point)):
            raise mount_in_the_way(mount_point)
    return found


def _unmount_own(runtime: Runtime, path: str) -> None:
    """Unmount what the runtime was killed over in the directory; another's mount is an error."""
    while found := _own_mounts(runtime, path):
        for mount_point in found:
            log.info("runtime.mount_left", path=mount_point)
            unmount(mount_point)


def member(pid: int, group: Cgroup, hierarchies: Hierarchies) -> Process:
    """The process of this pid, proved to be in the group or below it.

    A pid that another program reports may be another process's by the time that we look.
    Raises ``ProcessLookupError`` when it is, ``CgroupFailed``.
    """
    with ExitStack() as undo:
        process = undo.enter_context(Process(pid))
        # Only now that it is held, it stays the same.
        if not f"{hierarchies.group_of(pid)}/".startswith(f"{group.path}/"):
            raise ProcessLookupError(pid)
        undo.pop_all()
    return process


@dataclass
class Claim:
    """Finds out which cgroups of their names are the container's, unless that is known.

    What is not proved to be is not touched from then on.
    """

    cgroups: ContainerCgroups
    record: Record
    runtimes: Sequence[Runtime]
    monitor_is_ours: bool = False
    container_is_ours: bool = False

    def prove(self, deadline: Deadline) -> None:
        """Prove it, by its processes: before any of them is killed.

        Raises ``CgroupFailed``.
        """
        monitor, container = self.cgroups.monitor, self.cgroups.container
        self.monitor_is_ours = monitor.is_pinned or self._is_ours(monitor)
        self.container_is_ours = (
            container.is_pinned or self._is_ours(container) or self._is_named(deadline)
        )

    def pin_monitor(self) -> None:
        """Pin the monitor's group, if it is ours."""
        self.cgroups.pin(monitor=_identity(self.cgroups.monitor, self.monitor_is_ours))

    def pin_container(self) -> None:
        """Pin the container's, once its runtime makes no more of it."""
        self.cgroups.pin(container=_identity(self.cgroups.container, self.container_is_ours))

    def _is_ours(self, group: Cgroup) -> bool:
        """Whether any process in it is; one that is empty is nobody else's loss."""
        known = [each for each in (self.record.init, self.record.monitor) if each is not None]
        bundle = self.record.bundle_path
        seen = set[int]()
        for _ in range(_LOOKS):
            found = [pid for pid in group.members() if not has_ended(pid)]
            if not found or any(comes_from(pid, bundle, known) for pid in found):
                return True
            # They may have ended while they were checked, and left others.
            if seen.issuperset(found):
                break
            seen.update(found)
        return False

    def _is_named(self, deadline: Deadline) -> bool:
        """Whether the first process of our bundle, as a runtime knows it, is in it."""
        members = self.cgroups.container.members()
        for runtime in self.runtimes:
            try:
                found = _runtime_state(runtime, self.record, deadline)
            except (RuntimeFailed, Timeout):
                continue
            if found is not None and _names_bundle(found, self.record) and found.pid in members:
                return True
        return False


def _identity(group: Cgroup, is_ours: bool) -> GroupIdentity | None:
    """What to pin a group to: itself, or nothing; None if it is pinned already."""
    if group.is_pinned:
        return None
    if is_ours:
        return group.identity()
    log.warning("cgroup.of_another", path=group.path)
    return GroupIdentity(boot_id())
