"""Containers without a record, as when the store was lost: known by their directories alone."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path

from ocigrpc.engine.containers.cgroups import ContainerCgroups, is_group_of, placed_by
from ocigrpc.engine.containers.context import Context
from ocigrpc.engine.model.record import Record
from ocigrpc.engine.model.values import State
from ocigrpc.errors import HostFailed, StoreFailed
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


def refuse_lost_store(path: Path, context: Context) -> None:
    """Raise ``StoreFailed`` (STORE_MISSING) when there are containers, and no store of them.

    Without it, every one of them would be taken for a remnant, and ended.
    """
    if os.path.lexists(path):
        return
    found = [each for each in bundled_ids(context) if has_made(context, each)]
    if found:
        run_dir = context.settings.run_dir
        raise StoreFailed(
            f"store {path}: it is gone, but there are {len(found)} containers in {run_dir}",
            reason="STORE_MISSING",
            path=path,
            containers=len(found),
            run_dir=run_dir,
        )
