"""What all containers of a service share: its settings, cgroup hierarchies and OCI runtimes."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from threading import BoundedSemaphore
from typing import NamedTuple

from ocigrpc.engine.model.rootfs import NoRootFilesystems, RootFilesystems
from ocigrpc.errors import LimitReached, RuntimeFailed
from ocigrpc.failing import host_failing
from ocigrpc.host.cgroups.hierarchy import Hierarchies
from ocigrpc.host.processes.provenance import marked
from ocigrpc.oci.options import Options
from ocigrpc.oci.paths import ContainerPaths
from ocigrpc.oci.runtime import Runtime, pauses_by_freezer
from ocigrpc.settings.values import Settings

# Most clients that wait for runtimes to report states at once. A runtime that hangs must not hold
# up the others, whom the kernel alone can answer.
ASKING_LIMIT = 16


class _InForce(NamedTuple):
    """One object, so that at no time a runtime is known here and not there."""

    settings: Settings
    runtimes: Mapping[str, Runtime]


class Context:
    """The settings and the host, as every verb needs them."""

    def __init__(self, settings: Settings, hierarchies: Hierarchies) -> None:
        self._in_force = _InForce(settings, _runtimes(settings))
        self.hierarchies = hierarchies
        self.conmon_options = Options()
        self._may_ask = BoundedSemaphore(ASKING_LIMIT)
        # Those of images, from whoever knows images.
        self.roots: RootFilesystems = NoRootFilesystems()
        self._run_dir = str(Path(settings.run_dir))

    def reload(self, settings: Settings) -> None:
        """Use other settings from now on, which have all runtimes that were there."""
        self._in_force = _InForce(settings, _runtimes(settings))

    @property
    def settings(self) -> Settings:
        """Those in force."""
        return self._in_force.settings

    @property
    def runtimes(self) -> Mapping[str, Runtime]:
        """The OCI runtimes of the settings, by their names."""
        return self._in_force.runtimes

    @contextmanager
    def asking(self) -> Iterator[None]:
        """Ask a runtime for a client in a ``with``; raises ``LimitReached`` (TOO_MANY_CALLS)."""
        if not self._may_ask.acquire(blocking=False):
            raise LimitReached(
                f"{ASKING_LIMIT} calls wait for OCI runtimes to report states",
                reason="TOO_MANY_CALLS",
                limit=ASKING_LIMIT,
            )
        try:
            yield
        finally:
            self._may_ask.release()

    def runtime(self, name: str) -> Runtime:
        """The OCI runtime of this name; raises ``RuntimeFailed`` (RUNTIME_NOT_CONFIGURED)."""
        try:
            return self.runtimes[name]
        except KeyError:
            raise RuntimeFailed(
                f"the settings have no OCI runtime {name!r} any more",
                reason="RUNTIME_NOT_CONFIGURED",
                runtime_handler=name,
            ) from None

    def paths(self, container_id: str) -> ContainerPaths:
        """Where the files of a container are."""
        return ContainerPaths(self._run_dir, container_id)

    def log_path(self, container_id: str) -> str:
        """Where a container's log is, unless its creator has chosen another place."""
        return f"{self.settings.logs.dir}/{container_id}.log"

    def make_directories(self) -> None:
        """Make the directories that all containers share, where they are missing.

        Raises ``HostFailed`` with the path.
        """
        paths = self.paths("")
        bundles, log_dir = os.path.dirname(paths.bundle), self.settings.logs.dir
        for directory in (bundles, paths.exits, paths.sockets, log_dir):
            if not os.path.isdir(directory):
                with host_failing("make", directory):
                    Path(directory).mkdir(mode=0o700, parents=True, exist_ok=True)


def _runtimes(settings: Settings) -> Mapping[str, Runtime]:
    verb_timeout_s, mark = settings.timeouts.verb_s, marked(settings.run_dir)
    found = {}
    for name, handler in settings.runtimes.items():
        root = ("--root", handler.root) if handler.root else ()
        argv = (*root, *handler.args)
        by_freezer = handler.pause == "freezer" or (
            handler.pause == "auto" and pauses_by_freezer(handler.path)
        )
        found[name] = Runtime(
            name, handler.path, argv, verb_timeout_s, mark, pauses_by_freezer=by_freezer
        )
    return found
