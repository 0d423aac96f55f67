"""What works and what does not, and how to mend it."""

from __future__ import annotations

from collections.abc import Sequence

from ocigrpc.deadline import Deadline
from ocigrpc.engine.enclosure import SYSTEMD
from ocigrpc.engine.node import Node
from ocigrpc.engine.recovery import Recovery
from ocigrpc.engine.store import Store
from ocigrpc.engine.values import Condition, HandlerVersion, Versions
from ocigrpc.errors import OcigrpcError, StoreFailed
from ocigrpc.host import systemd
from ocigrpc.oci.runtime import find_program, program_version

_VERSION_TIMEOUT_S = 5.0
_SYSTEMD_TIMEOUT_S = 5.0


class Health:
    """Looks at the programs, the cgroups and the store."""

    def __init__(self, node: Node, store: Store, recovery: Recovery) -> None:
        self._node = node
        self._store = store
        self._recovery = recovery

    def versions(self, deadline: Deadline) -> Versions:
        """What each program says of its version, in at most a few seconds each."""
        return Versions(
            conmon=_version(self._node.settings.conmon_path, deadline),
            handlers=tuple(
                HandlerVersion(name, runtime.path, _version(runtime.path, deadline))
                for name, runtime in sorted(self._node.runtimes.items())
            ),
        )

    def conditions(self, deadline: Deadline) -> Sequence[Condition]:
        """The conditions of ``Status``."""
        return (
            self._runtimes(deadline),
            self._monitor(deadline),
            self._cgroups(deadline),
            self._writable_store(),
            self._recovery.condition(),
        )

    def _runtimes(self, deadline: Deadline) -> Condition:
        default = self._node.settings.default_runtime
        broken = {
            name: problem
            for name, runtime in sorted(self._node.runtimes.items())
            if (problem := program_problem(runtime.path, deadline))
        }
        reason = "" if default not in broken else "DefaultRuntimeBroken"
        return Condition("RuntimeReady", not reason, reason, "; ".join(broken.values()))

    def _monitor(self, deadline: Deadline) -> Condition:
        problem = program_problem(self._node.settings.conmon_path, deadline)
        return Condition("MonitorReady", not problem, "ConmonBroken" if problem else "", problem)

    def _cgroups(self, deadline: Deadline) -> Condition:
        settings = self._node.settings
        try:
            if settings.cgroup_manager == SYSTEMD:
                systemd.ping(deadline.within(_SYSTEMD_TIMEOUT_S))
            else:
                self._node.parent_cgroup().create()
        except OcigrpcError as error:
            return Condition("CgroupsReady", False, "CgroupManagerFailed", error.message)
        return Condition("CgroupsReady", True)

    def _writable_store(self) -> Condition:
        try:
            self._store.check()
        except StoreFailed as error:
            return Condition("StoreReady", False, "StoreFailed", error.message)
        return Condition("StoreReady", True)


def program_problem(path: str, deadline: Deadline) -> str:
    """What is wrong with a program of the settings, and how to mend it; or nothing."""
    if find_program(path) is None:
        package = path.rsplit("/", 1)[-1]
        return f"{path} is missing or can't be executed; try: apt-get install {package}"
    if not _version(path, deadline):
        return f"{path} --version fails"
    return ""


def _version(path: str, deadline: Deadline) -> str:
    return program_version(path, deadline.within(_VERSION_TIMEOUT_S))
