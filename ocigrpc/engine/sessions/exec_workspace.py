"""What each exec has for itself: a directory and a cgroup, removed at its end.

They share a name, from which a later start of the service sees, without a record, what they
are for.
"""

from __future__ import annotations

import os
import secrets
import signal
from collections.abc import Sequence, Set
from pathlib import Path

from ocigrpc.engine.containers.container import Container
from ocigrpc.engine.containers.teardown import attempt
from ocigrpc.host.files.tree import remove_tree
from ocigrpc.log import get_logger
from ocigrpc.oci.exec import ExecFiles
from ocigrpc.waiting import Deadline

log = get_logger()

_PREFIX = "exec-"
# Of programs that may run on without their clients or the service.
_KEPT_PREFIX = "exec-kept-"


class ExecWorkspace:
    """The directory and the cgroup of one exec, which need not exist yet."""

    def __init__(self, container: Container, name: str) -> None:
        self._container = container
        self._is_spared = False
        self._is_ended = False
        self.name = name
        self.container_id = container.container_id
        self.files = ExecFiles(Path(container.paths.bundle, name))
        self.group = container.cgroups.container.child(name)

    @property
    def is_kept(self) -> bool:
        """Whether its program may run on without its client or the service."""
        return self.name.startswith(_KEPT_PREFIX)

    def spare(self) -> None:
        """Let the processes that a program has left in the cgroup live on."""
        self._is_spared = True

    def close(self) -> None:
        """Kill all in the cgroup, unless it is spared, and remove what was made.

        Where processes live on, both stay until :func:`sweep` finds the cgroup empty.
        """
        try:
            if not (self._is_spared and self.group.populated()):
                self.remove()
        finally:
            self.files.close()

    def remove(self) -> None:
        """Kill all in the cgroup, and remove both."""
        self.end_group()
        if not self.files.remove():
            run_dir, directory = self._container.paths.run_dir, self.files.directory
            # What can't be removed is removed with the container's own directory.
            attempt(lambda: remove_tree(run_dir, str(directory)))

    def end_group(self) -> None:
        """Kill all in the cgroup, and remove it."""
        if self._is_ended:
            return
        container_group = self._container.cgroups.container
        # Once the container's cgroup is gone, this name may be that of somebody else's cgroup.
        if not container_group.exists() or not self.group.exists():
            return
        if container_group.frozen():
            # With cgroup v1 they die when they are thawed; the group goes with the container.
            attempt(lambda: self.group.signal(signal.SIGKILL), self.group.remove_if_empty)
            return
        deadline = Deadline(self._container.context.settings.timeouts.kill_s)
        self._is_ended = not attempt(lambda: self.group.end(deadline))


def new_workspace(container: Container, *, kept: bool) -> ExecWorkspace:
    """A workspace with a name of its own; nothing is made yet."""
    name = f"{_KEPT_PREFIX if kept else _PREFIX}{secrets.token_hex(8)}"
    return ExecWorkspace(container, name)


def sweep(container: Container, active: Set[str]) -> None:
    """Remove what was made for programs that have left processes behind, which have ended.

    ``active`` are the names of those whose programs still run.
    """
    for workspace in _workspaces(container):
        if workspace.is_kept and workspace.name not in active and not workspace.group.populated():
            workspace.remove()


def cut_off_execs(container: Container) -> Sequence[ExecWorkspace]:
    """Those whose service has died, except for programs that run on without it."""
    return [
        workspace
        for workspace in _workspaces(container)
        if not (workspace.is_kept and workspace.group.populated())
    ]


def end_execs(workspaces: Sequence[ExecWorkspace]) -> None:
    """End programs whose service has died, and remove what was made for them."""
    for workspace in workspaces:
        # Without it a runtime that has outlived the service can't begin the program any more.
        workspace.files.process.unlink(missing_ok=True)
        workspace.remove()
        log.info("exec.cut_off", container_id=workspace.container_id)


def _workspaces(container: Container) -> Sequence[ExecWorkspace]:
    try:
        names = os.listdir(container.paths.bundle)
    except OSError:
        return []
    return [ExecWorkspace(container, each) for each in names if each.startswith(_PREFIX)]
