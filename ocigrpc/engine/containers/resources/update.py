"""Changing the limits of a running container: all that are requested, or none."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import msgspec

from ocigrpc.engine.containers.container import Container
from ocigrpc.engine.containers.ownership import require_entry
from ocigrpc.engine.containers.resources import checks
from ocigrpc.engine.containers.status import ALIVE, guarded_state
from ocigrpc.engine.model.events import EventKind
from ocigrpc.errors import CannotRun, CgroupFailed, OcigrpcError, RuntimeFailed
from ocigrpc.host.cgroups.cgroup import Cgroup
from ocigrpc.host.cgroups.hierarchy import Kind
from ocigrpc.host.cgroups.limit_files import Snapshot
from ocigrpc.host.cgroups.limits import Limits, read_limits
from ocigrpc.log import get_logger
from ocigrpc.oci.runtime import remove_update_files
from ocigrpc.oci.spec.config import Resources
from ocigrpc.oci.spec.resources import changes_of, check_limits
from ocigrpc.violations import Violations
from ocigrpc.waiting import Deadline

# The path of the limits in a request.
FIELD = "resources"

log = get_logger()


def update(container: Container, resources: Resources, deadline: Deadline) -> Limits:
    """Change the limits that are set in ``resources``; all limits after that.

    Raises ``InvalidArgument``, ``WrongState``, ``Busy``, ``StoreFailed``; ``CannotRun``,
    ``RuntimeFailed``, ``Timeout`` and ``Cancelled``, after a first change with ``restored`` in
    the metadata: whether all limits are as before.
    """
    _check(resources)
    with (
        container.lock("update", deadline),
        guarded_state(container, deadline, *ALIVE),
    ):
        require_entry(container.record)
        groups = _groups(container)
        _change(container, groups, resources, deadline)
        limits = read_limits(groups, resources.unified)
    log.info("container.updated", container_id=container.container_id)
    return limits


def limits_in_force(container: Container) -> Limits:
    """The limits of a container that is alive, without those that the host does not support."""
    return read_limits(_groups(container))


def _check(resources: Resources) -> None:
    found = Violations()
    check_limits(resources, FIELD, found)
    found.allow(
        not resources.oom_score_adj,
        f"{FIELD}.oom_score_adj",
        "is set once, when the program starts",
        "NOT_APPLICABLE",
    )
    found.raise_any()
    found.allow(resources != Resources(), FIELD, "has no limit to change", "REQUIRED")
    found.raise_any()


def _change(
    container: Container,
    groups: Sequence[Cgroup],
    resources: Resources,
    deadline: Deadline,
) -> None:
    outer, found = groups[0], Violations()
    checks.check_host(resources, FIELD, container.context.hierarchies, found)
    checks.check_cpusets(resources, FIELD, outer, found)
    found.raise_any()
    wanted = checks.completed(checks.wanted_of(resources), read_limits(groups))
    with_cpusets = wanted.cpuset_cpus is not None or wanted.cpuset_mems is not None
    before = Snapshot.take(groups, resources.unified, with_cpusets_below=with_cpusets)
    wanted = checks.available(outer, wanted, before, FIELD)
    checks.refuse_above_swap(wanted)
    checks.refuse_in_use(outer, wanted)
    after = before.with_limits(groups, wanted)
    with _one_update(container, before):
        try:
            after.move_cpusets()
            _run(container, resources, wanted, deadline)
            # Set what the runtime can't, and reset what it has changed besides.
            if left := " ".join(after.restore(container.cgroups.keep_limits)):
                problem = f"the kernel does not accept the new limits: {left}"
                raise CannotRun(problem, reason="LIMIT_REFUSED", files=left)
        except RuntimeFailed as error:
            raise checks.refused(error, outer, wanted) from error


def _run(container: Container, resources: Resources, wanted: Limits, deadline: Deadline) -> None:
    both = msgspec.structs.replace(
        resources,
        memory_limit_in_bytes=wanted.memory_limit_bytes or 0,
        memory_swap_limit_in_bytes=wanted.memory_swap_limit_bytes or 0,
    )
    changes = changes_of(both, unified=container.context.hierarchies.kind is Kind.V2)
    container.runtime.update(container.container_id, changes, container.paths.bundle, deadline)


def _groups(container: Container) -> Sequence[Cgroup]:
    """Its cgroup, and the one below it that its first process is in, if there is one.

    With systemd on cgroup v2, crun makes that one and sets its limits there.
    """
    outer = container.cgroups.container
    if not outer.decisive.has_groups():
        return [outer]
    try:
        path = container.context.hierarchies.group_of(container.init_pid)
    except (ProcessLookupError, CgroupFailed):
        return [outer]
    if not path.startswith(f"{outer.path}/"):
        return [outer]
    name = path.removeprefix(f"{outer.path}/").partition("/")[0]
    inner = outer.child(name)
    return [outer, inner.pinned(inner.identity())]


def undo_update(container: Container) -> None:
    """Restore the limits that a service was changing when it died: no client got an answer.

    Must run before any other change of them.
    """
    before = container.record.limits_before
    changed = before.restore(container.cgroups.keep_limits) if before is not None else ()
    remove_update_files(container.paths.bundle)
    container.update("update", limits_before=None)
    (log.warning if changed else log.info)(
        "container.update_undone", container_id=container.container_id, changed=changed
    )


@contextmanager
def _one_update(container: Container, before: Snapshot) -> Iterator[None]:
    """Change limits in a ``with``, and undo that if it fails, or at the next start if we die.

    ``before`` are the present limits. Raises ``StoreFailed``.
    """
    container.begin("update", limits_before=before)
    try:
        yield
    except BaseException as error:
        try:
            if isinstance(error, OcigrpcError):
                _put_back(container, before, error)
        finally:
            container.update("update", limits_before=None)
        raise
    container.record_event(EventKind.UPDATED, "update", limits_before=None)


def _put_back(container: Container, before: Snapshot, error: OcigrpcError) -> None:
    """Restore the limits, and add to the error's metadata whether that worked.

    Runtimes set one limit after the other; on failure runc restores some, crun none.
    """
    changed = before.restore(container.cgroups.keep_limits)
    error.metadata["restored"] = "false" if changed else "true"
    if changed:
        error.metadata["changed"] = " ".join(changed)
        log.error("limits.not_restored", files=changed, reason=error.reason)
