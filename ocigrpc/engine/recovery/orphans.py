"""Containers without a record, as when the store was lost: known by their directories alone."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence

from ocigrpc.engine.containers.cgroups import ContainerCgroups, is_group_of, placed_by
from ocigrpc.engine.containers.context import Context
from ocigrpc.engine.model.record import Record
from ocigrpc.engine.model.values import State
from ocigrpc.errors import HostFailed
from ocigrpc.oci.bundle import cgroups_path_of


def bundled_ids(context: Context) -> Sequence[str]:
    """The names of the directories of containers, and of all that are beside them."""
    with os.scandir(context.paths("").bundle) as entries:
        return sorted(each.name for each in entries if each.is_dir(follow_symlinks=False))


def has_made(context: Context, container_id: str) -> bool:
    """Whether such a directory is one that we have made: its spec names our cgroup."""
    try:
        return is_group_of(cgroups_path_of(context.paths(container_id)), container_id)
    except HostFailed:
        return False


def orphan_record(context: Context, container_id: str) -> Record:
    """What is known of a container without a record from what was made for it."""
    paths, settings = context.paths(container_id), context.settings
    try:
        manager, parent = placed_by(cgroups_path_of(paths))
    except HostFailed:
        # Without a spec the runtime made nothing: only conmon can have been there.
        manager, parent = settings.cgroup.manager, settings.cgroup.parent
    cgroups = ContainerCgroups(context.hierarchies, manager, parent, container_id)
    if manager == settings.cgroup.manager and not cgroups.monitor.exists():
        # Not beside the container, so where the settings have monitors, if it is anywhere.
        monitors = settings.conmon.cgroup_parent
        cgroups = ContainerCgroups(context.hierarchies, manager, parent, container_id, monitors)
    return Record(
        container_id=container_id,
        fingerprint="",
        created_ns=time.time_ns(),
        state=State.CREATING,
        runtime_handler="",
        cgroup_manager=cgroups.manager,
        cgroup_parent=cgroups.parent,
        monitor_parent=cgroups.monitor_parent,
        cgroup_path=cgroups.container.path,
        bundle_path=paths.bundle,
        log_path=context.log_path(container_id),
        stop_signal=signal.SIGTERM,
        log_is_ours=True,
    )
