"""Changing the limits of a container that lives: all that is asked for, or nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from ocigrpc.deadline import Deadline
from ocigrpc.engine.container import Container
from ocigrpc.engine.events import EventKind
from ocigrpc.engine.node import Node
from ocigrpc.engine.ownership import require_entry
from ocigrpc.engine.truth import ALIVE, Truth
from ocigrpc.errors import CgroupFailed, OcigrpcError
from ocigrpc.host.cgroup import Cgroup
from ocigrpc.host.cgroup_limits import Limits, Snapshot, read_limits
from ocigrpc.host.hierarchy import Kind
from ocigrpc.log import get_logger
from ocigrpc.oci.config import Resources
from ocigrpc.oci.resources import limits_of
from ocigrpc.oci.runtime import remove_update_files
from ocigrpc.oci.violations import Violations

FIELD = "resources"
"""Where a request has them, for the paths of wrong fields."""

log = get_logger()


class Limiting:
    """Changes limits through the OCI runtime, which has to know them too."""

    def __init__(self, node: Node, truth: Truth) -> None:
        self._node = node
        self._truth = truth

    def update(self, container: Container, resources: Resources, deadline: Deadline) -> Limits:
        """Change the limits that are set in ``resources``; what all of them are afterwards.

        Raises ``InvalidArgument``, ``WrongState``, ``Busy``, ``StoreFailed``;
        ``RuntimeFailed``, ``Timeout`` and ``Cancelled`` with ``restored`` in the metadata:
        whether all is as it was before.
        """
        wanted = self._checked(resources)
        with (
            container.turn("update", deadline),
            self._truth.required(container, deadline, *ALIVE),
        ):
            require_entry(container.record)
            runtime = self._node.runtime(container.record.runtime_handler)
            directory = self._node.layout(container.container_id).bundle
            groups = self._groups(container)
            with _one_update(container, Snapshot.take(groups, resources.unified)):
                runtime.update(container.container_id, wanted, directory, deadline)
            limits = read_limits(groups, resources.unified)
        log.info("container.updated", container_id=container.container_id)
        return limits

    def _checked(self, resources: Resources) -> dict[str, object]:
        found = Violations()
        wanted = limits_of(resources, FIELD, found)
        found.allow(
            not resources.oom_score_adj,
            f"{FIELD}.oom_score_adj",
            "is of the program, and can't be changed any more",
            "NOT_APPLICABLE",
        )
        found.allow(
            not resources.unified or self._node.hierarchies.kind is Kind.V2,
            f"{FIELD}.unified",
            "needs a host with cgroup v2 alone",
            "NOT_APPLICABLE",
        )
        found.raise_any()
        found.allow(bool(wanted), FIELD, "has no limit to change", "REQUIRED")
        found.raise_any()
        return wanted

    def _groups(self, container: Container) -> Sequence[Cgroup]:
        """Its cgroup, and the one below it that its first process is in, if there is one.

        With systemd on cgroup v2, crun makes such a one, and changes the limits of that.
        """
        outer = container.enclosure.container
        try:
            path = self._node.hierarchies.group_of(container.record.pid)
        except (ProcessLookupError, CgroupFailed):
            return [outer]
        if not path.startswith(f"{outer.path}/"):
            return [outer]
        name = path.removeprefix(f"{outer.path}/").partition("/")[0]
        inner = outer.child(name)
        return [outer, inner.pinned(inner.identity())]


def undo_update(container: Container, directory: Path) -> None:
    """Put back the limits that a service was changing when it died: nobody was told of new ones.

    ``directory`` is where the runtime's file was made. To be done before anybody else can
    change them.
    """
    before = container.record.limits_before
    changed = before.restore() if before is not None else ()
    remove_update_files(directory)
    container.change("update", limits_before=None)
    log.warning("container.update_undone", container_id=container.container_id, changed=changed)


@contextmanager
def _one_update(container: Container, before: Snapshot) -> Iterator[None]:
    """Change limits in a ``with``; if we don't see its end, the next service undoes it.

    ``before`` is what they are now. Raises ``StoreFailed``.
    """
    container.begin("update", limits_before=before)
    try:
        with _undone(before):
            yield
    except BaseException:
        container.change("update", limits_before=None)
        raise
    container.tell(EventKind.UPDATED, "update", limits_before=None)


@contextmanager
def _undone(before: Snapshot) -> Iterator[None]:
    """Put the limits back when the block fails, and say in the error whether that worked.

    Runtimes set one limit after the other; runc puts some of them back, crun none.
    """
    try:
        yield
    except OcigrpcError as error:
        changed = before.restore()
        error.metadata["restored"] = "false" if changed else "true"
        if changed:
            error.metadata["changed"] = " ".join(changed)
            log.error("limits.not_restored", files=changed, reason=error.reason)
        raise
