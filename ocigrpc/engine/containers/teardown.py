"""The end of all that was made for a container: when it is removed, or its create is undone."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial

from ocigrpc.conmon.log_names import kept_logs
from ocigrpc.engine.containers.cgroups import ContainerCgroups, remove_made_parents
from ocigrpc.engine.containers.container import Container
from ocigrpc.engine.containers.ownership import Claim, delete_entry, refuse_entry_mounts
from ocigrpc.engine.model.record import Record
from ocigrpc.engine.model.values import State
from ocigrpc.errors import CgroupFailed, OcigrpcError
from ocigrpc.failing import host_failure
from ocigrpc.host.cgroups.cgroup import Cgroup
from ocigrpc.host.files.tree import mount_in_the_way, mounts_at, refuse_mounts, remove_tree
from ocigrpc.host.processes.programs import find_program
from ocigrpc.log import get_logger
from ocigrpc.oci.null_device import keep_null_device_from
from ocigrpc.oci.runtime import Runtime
from ocigrpc.oci.shown_bundle import hide_bundle, shown_bundle
from ocigrpc.waiting import Deadline

log = get_logger()


def teardown(container: Container, deadline: Deadline) -> Sequence[OcigrpcError]:
    """End a container's processes and remove its files; the errors, which are logged already.

    Its files stay when a process does, so that it can be removed whole later.
    """
    errors = end_processes(container, deadline)
    # A copy that went on meanwhile would find files gone, and make some that nobody removes.
    errors = errors or attempt(partial(container.files.end, deadline))
    if errors:
        return errors
    if container.record.state is State.CREATING:
        attempt(partial(keep_null_device_from, container.paths.spec_file))
        remove_new_log(container.record)
    return [*remove_files(container), *release_root(container, deadline)]


def end_processes(container: Container, deadline: Deadline) -> Sequence[OcigrpcError]:
    """Kill all that is left of a container and its monitor, in the runtime and cgroups.

    What is not proved to be the container's is left alone. Each step is tried, whatever
    became of those before; answers the errors, which are logged already.
    """
    record, cgroups, context = container.record, container.cgroups, container.context
    runtimes = _runtimes_of(container)
    claim = Claim(cgroups, record, runtimes)
    return attempt(
        lambda: claim.prove(deadline),
        # The monitor first: it would report as failed what we end on purpose.
        claim.pin_monitor,
        lambda: _end(cgroups, cgroups.monitor, deadline),
        claim.pin_container,
        lambda: _end(cgroups, cgroups.container, deadline),
        # A runtime takes a frozen container for one that lives, and would kill the process that
        # has its number now. The group is looked up at this step: a pin has replaced it.
        lambda: cgroups.container.thaw(),
        *(partial(delete_entry, each, record, cgroups, deadline) for each in runtimes),
        lambda: cgroups.remove_monitor(deadline),
        lambda: cgroups.remove_container(deadline),
        lambda: remove_made_parents(context.hierarchies, record, context.settings),
    )


def _end(cgroups: ContainerCgroups, group: Cgroup, deadline: Deadline) -> None:
    """Leave no process in one of the two groups; remove it, if it has none by now."""
    # Mostly all have ended. Then removing the group takes less than to see that it is empty; but
    # scopes are for systemd to remove.
    if not cgroups.by_systemd:
        with suppress(CgroupFailed):
            if group.try_remove():
                return
    group.kill(deadline)


def claim_cgroups(container: Container, deadline: Deadline) -> None:
    """Pin the cgroups of a container that an older service has made, if they are its own."""
    claim = Claim(container.cgroups, container.record, _runtimes_of(container))
    attempt(lambda: claim.prove(deadline), claim.pin_monitor, claim.pin_container)


def _runtimes_of(container: Container) -> Sequence[Runtime]:
    """The one that made a container, or all that may have."""
    if container.record.runtime_handler:
        return [container.runtime]
    return [each for each in container.context.runtimes.values() if find_program(each.path)]


def remove_new_log(record: Record) -> None:
    """Remove the log that a create has made, and nothing has written to."""
    with suppress(OSError):
        if record.log_is_new and not os.lstat(record.log_path).st_size:
            os.unlink(record.log_path)


def refuse_mounts_in_the_way(container: Container) -> None:
    """Raise ``PreconditionFailed`` (MOUNT_IN_THE_WAY) for a mount where files will go."""
    record, paths = container.record, container.paths
    shown = shown_bundle(paths.bundle)
    for mount_point in mounts_at(paths.run_dir, *_own_paths(container)):
        if mount_point != shown:
            raise mount_in_the_way(mount_point)
    if record.log_is_ours:
        refuse_mounts(os.path.dirname(record.log_path), *_own_logs(container))
    if record.rootfs_id:
        container.context.roots.refuse_mounts(record.rootfs_id)
    for runtime in _runtimes_of(container):
        refuse_entry_mounts(runtime, record)


def remove_files(container: Container) -> Sequence[OcigrpcError]:
    """Remove all files that were made for a container.

    Each is tried, whatever became of those before; answers the errors, which are logged
    already.
    """
    paths = container.paths
    steps: list[Callable[[], None]] = [
        partial(hide_bundle, paths.bundle),
        partial(remove_tree, paths.run_dir, *_own_paths(container)),
    ]
    if container.record.log_is_ours:
        steps.append(lambda: _remove_logs(container))
    return attempt(*steps)


def release_root(container: Container, deadline: Deadline) -> Sequence[OcigrpcError]:
    """Give back the root filesystem that it was lent, if any; the errors, which are logged."""
    rootfs_id, roots = container.record.rootfs_id, container.context.roots
    return attempt(partial(roots.release, rootfs_id, deadline)) if rootfs_id else ()


def attempt(*steps: Callable[[], None]) -> Sequence[OcigrpcError]:
    """Try every step, and answer the errors, which are logged already."""
    errors: list[OcigrpcError] = []
    for step in steps:
        try:
            step()
        except (OcigrpcError, OSError) as error:
            failure = host_failure(error)
            log.error("attempt.failed", reason=failure.reason, error=failure.message)
            errors.append(failure)
    return errors


def _own_paths(container: Container) -> Sequence[str]:
    paths = container.paths
    return paths.bundle, paths.exit_copy, paths.socket_link


def _remove_logs(container: Container) -> None:
    container.give_up_log()
    remove_tree(os.path.dirname(container.record.log_path), *_own_logs(container))


def _own_logs(container: Container) -> Sequence[str]:
    return kept_logs(container.record.log_path, rotated=container.log_is_rotated)
