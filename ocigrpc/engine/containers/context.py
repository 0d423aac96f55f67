"""What the engine has to work with on this node, and where each container's things are."""

from __future__ import annotations

import os
import secrets
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import lru_cache, partial
from pathlib import Path

from ocigrpc.conmon.log_names import kept_logs
from ocigrpc.engine.containers.cgroups import ContainerCgroups, is_group_of, placed_by
from ocigrpc.engine.containers.ownership import Claim, delete_entry, refuse_entry_mounts
from ocigrpc.engine.model.record import Record
from ocigrpc.engine.model.values import State
from ocigrpc.errors import (
    HostFailed,
    InvalidArgument,
    OcigrpcError,
    RuntimeFailed,
    host_failing,
    host_failure,
)
from ocigrpc.host.cgroups.cgroup import Cgroup
from ocigrpc.host.cgroups.hierarchy import Hierarchies
from ocigrpc.host.files.tree import mount_in_the_way, mounts_at, refuse_mounts, remove_tree
from ocigrpc.host.processes.process import Process
from ocigrpc.host.processes.programs import find_program
from ocigrpc.host.processes.stale import marked
from ocigrpc.log import get_logger
from ocigrpc.oci.bundle import cgroups_path_of
from ocigrpc.oci.options import Options
from ocigrpc.oci.paths import ContainerPaths
from ocigrpc.oci.runtime import Runtime
from ocigrpc.oci.shown_bundle import hide_bundle, shown_bundle
from ocigrpc.settings.values import CgroupManager, RuntimeHandler, Settings
from ocigrpc.waiting import Deadline

log = get_logger()


class Context:
    """The settings and the host, as the verbs need them."""

    def __init__(self, settings: Settings, hierarchies: Hierarchies) -> None:
        self.settings = settings
        self.hierarchies = hierarchies
        self.conmon_options = Options()
        self._run_dir = Path(settings.run_dir)
        # Putting paths together is dear, and asked for many times in a container's life.
        self._paths = lru_cache(1024)(partial(ContainerPaths, self._run_dir))
        self.runtimes = {
            name: _runtime(name, handler, settings) for name, handler in settings.runtimes.items()
        }

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

    def requested_runtime(self, name: str) -> Runtime:
        """The OCI runtime that a request asks for, the default one for an empty name."""
        wanted = name or self.settings.default_runtime
        if wanted not in self.runtimes:
            raise InvalidArgument.of(
                "runtime_handler",
                f"{wanted!r} is not one of {', '.join(sorted(self.runtimes))}",
                reason="UNKNOWN_RUNTIME_HANDLER",
                runtime_handler=wanted,
            )
        return self.runtimes[wanted]

    def paths(self, container_id: str) -> ContainerPaths:
        """Where the container's files are."""
        return self._paths(container_id)

    def cgroups(self, manager: str, parent: str, container_id: str) -> ContainerCgroups:
        """The cgroups of a container."""
        return ContainerCgroups(self.hierarchies, manager, parent, container_id)

    def cgroups_of(self, record: Record) -> ContainerCgroups:
        """The cgroups of a recorded container."""
        found = self.cgroups(record.cgroup_manager, record.cgroup_parent, record.container_id)
        found.pin(record.container_group, record.monitor_group)
        return found

    def log_path(self, container_id: str) -> str:
        """Where a container's log is, unless its creator has said so."""
        return f"{self.settings.logs.dir}/{container_id}.log"

    def bundled_ids(self) -> Sequence[str]:
        """The names of the directories where those of containers are, whoever has made them."""
        with os.scandir(self._run_dir / "containers") as entries:
            return sorted(each.name for each in entries if each.is_dir(follow_symlinks=False))

    def has_made(self, container_id: str) -> bool:
        """Whether such a directory is one that we have made: its spec names our cgroup."""
        try:
            return is_group_of(cgroups_path_of(self.paths(container_id)), container_id)
        except HostFailed:
            return False

    def orphan(self, container_id: str) -> Record:
        """What can be told of a container without a record from what was made for it."""
        paths = self.paths(container_id)
        cgroups = self._cgroups_of_bundle(paths)
        return Record(
            container_id=container_id,
            fingerprint="",
            created_ns=time.time_ns(),
            state=State.CREATING,
            runtime_handler="",
            cgroup_manager=cgroups.manager,
            cgroup_parent=cgroups.parent,
            cgroup_path=cgroups.container.path,
            bundle_path=str(paths.bundle),
            log_path=self.log_path(container_id),
            stop_signal=signal.SIGTERM,
            log_is_ours=True,
        )

    def _cgroups_of_bundle(self, paths: ContainerPaths) -> ContainerCgroups:
        try:
            manager, parent = placed_by(cgroups_path_of(paths))
        except HostFailed:
            # Without a spec the runtime made nothing: only conmon can have been there.
            manager, parent = self.settings.cgroup.manager, self.settings.cgroup.parent
        return self.cgroups(manager, parent, paths.container_id)

    def member(self, pid: int, group: Cgroup) -> Process:
        """The process of this pid, proved to be in the group or below it.

        A pid that another program tells us may be a stranger's by the time that we look.
        Raises ``ProcessLookupError`` when it is, ``CgroupFailed``.
        """
        with ExitStack() as undo:
            process = undo.enter_context(Process(pid))
            # Only now that it is held, it stays the same.
            if not f"{self.hierarchies.group_of(pid)}/".startswith(f"{group.path}/"):
                raise ProcessLookupError(pid)
            undo.pop_all()
        return process

    def make_directories(self) -> None:
        """The directories that all containers share; raises ``HostFailed`` with the path.

        They are made again if somebody has removed them.
        """
        paths = self.paths("")
        log_dir = Path(self.settings.logs.dir)
        for directory in (self._run_dir / "containers", paths.exits, paths.sockets, log_dir):
            with host_failing("make", directory):
                directory.mkdir(mode=0o700, parents=True, exist_ok=True)

    def parent_cgroup(self) -> Cgroup:
        """The settings' own parent of all cgroups, with the cgroupfs manager."""
        return self.hierarchies.group(self.settings.cgroup.parent)

    @contextmanager
    def probe_cgroup(self) -> Iterator[Cgroup]:
        """A group below that parent which nobody else has; gone at the end of the block."""
        name = f"ocigrpc-probe-{secrets.token_hex(8)}"
        probe = self.hierarchies.group(f"{self.settings.cgroup.parent.rstrip('/')}/{name}")
        try:
            yield probe
        finally:
            probe.remove_if_empty()

    def topmost_missing(self, path: str) -> str:
        """The first cgroup on the way down to ``path`` that does not exist; or nothing."""
        return next(
            (each for each in _way_down(path) if not self.hierarchies.group(each).exists()), ""
        )

    def remove_empty_parent(self) -> None:
        """Leave no empty cgroup behind when the service ends."""
        if self.settings.cgroup.manager is not CgroupManager.SYSTEMD:
            self.parent_cgroup().remove_if_empty()

    def end_processes(
        self, record: Record, cgroups: ContainerCgroups, deadline: Deadline
    ) -> Sequence[OcigrpcError]:
        """Kill all that is left of a container and its monitor, in the runtime and cgroups.

        What is not proved to be the container's is left alone. Each step is tried, whatever
        became of those before; answers the errors, which are logged already.
        """
        runtimes = self._runtimes_of(record)
        claim = Claim(cgroups, record, runtimes)
        return attempt(
            lambda: claim.make(deadline),
            # The monitor first: it would report as failed what we end on purpose.
            claim.pin_monitor,
            lambda: cgroups.monitor.kill(deadline),
            claim.pin_container,
            lambda: cgroups.container.kill(deadline),
            *(partial(delete_entry, each, record, cgroups, deadline) for each in runtimes),
            lambda: cgroups.remove_monitor(deadline),
            lambda: cgroups.remove_container(deadline),
            lambda: self._remove_made_parents(record),
        )

    def claim(self, record: Record, cgroups: ContainerCgroups, deadline: Deadline) -> None:
        """Pin the cgroups of a container that an older service has made, if they are its."""
        claim = Claim(cgroups, record, self._runtimes_of(record))
        attempt(lambda: claim.make(deadline), claim.pin_monitor, claim.pin_container)

    def _runtimes_of(self, record: Record) -> Sequence[Runtime]:
        """The one that made a container, or all that may have."""
        if record.runtime_handler:
            return [self.runtime(record.runtime_handler)]
        return [each for each in self.runtimes.values() if find_program(each.path)]

    def _remove_made_parents(self, record: Record) -> None:
        for path in reversed(_way_down(record.cgroup_parent)):
            if record.made_parent and len(path) >= len(record.made_parent):
                self.hierarchies.group(path).remove_if_empty()

    def remove_new_log(self, record: Record) -> None:
        """Remove the log that a create has made, and nothing has written to."""
        with suppress(OSError):
            if record.log_is_new and not os.lstat(record.log_path).st_size:
                os.unlink(record.log_path)

    def refuse_mounts(self, record: Record) -> None:
        """Raise ``PreconditionFailed`` (MOUNT_IN_THE_WAY) for a mount where files will go."""
        paths = self.paths(record.container_id)
        ours = (paths.bundle, paths.exit_copy, paths.socket_link)
        shown = str(shown_bundle(paths.bundle))
        for path in map(str, ours):
            for mount_point in mounts_at(str(self._run_dir), path):
                if mount_point != shown:
                    raise mount_in_the_way(mount_point)
        if record.log_is_ours:
            refuse_mounts(os.path.dirname(record.log_path), *kept_logs(record.log_path))
        for runtime in self._runtimes_of(record):
            refuse_entry_mounts(runtime, record)

    def remove_files(self, record: Record) -> Sequence[OcigrpcError]:
        """Remove all files that were made for a container.

        Each is tried, whatever became of those before; answers the errors, which are logged
        already.
        """
        paths = self.paths(record.container_id)
        ours = (paths.bundle, paths.exit_copy, paths.socket_link)
        steps = [partial(hide_bundle, paths.bundle)]
        steps += [partial(remove_tree, str(self._run_dir), str(path)) for path in ours]
        if record.log_is_ours:
            steps += _removals(record.log_path)
        errors = attempt(*steps)
        if record.log_is_ours and not errors:
            # One that was given a number meanwhile.
            errors = attempt(*_removals(record.log_path))
        return errors

    def remove_work(self, directory: Path) -> None:
        """Remove a directory of a container's own directory; what can't be, goes with that."""
        attempt(lambda: remove_tree(str(self._run_dir), str(directory)))


def _removals(log_path: str) -> Sequence[partial[None]]:
    paths = kept_logs(log_path)
    return [partial(remove_tree, os.path.dirname(path), path) for path in paths]


def _way_down(path: str) -> Sequence[str]:
    """Every cgroup from below the root down to ``path``."""
    names = path.strip("/").split("/")
    return ["/" + "/".join(names[: depth + 1]) for depth in range(len(names))]


def attempt(*steps: Callable[[], None]) -> Sequence[OcigrpcError]:
    """Try every step, and answer the errors, which are logged already."""
    errors: list[OcigrpcError] = []
    for step in steps:
        try:
            step()
        except (OcigrpcError, OSError) as error:
            failure = error if isinstance(error, OcigrpcError) else host_failure(error)
            log.error("attempt.failed", reason=failure.reason, error=failure.message)
            errors.append(failure)
    return errors


def _runtime(name: str, handler: RuntimeHandler, settings: Settings) -> Runtime:
    root = ("--root", handler.root) if handler.root else ()
    return Runtime(
        name,
        handler.path,
        (*root, *handler.args),
        settings.timeouts.verb_s,
        marked(settings.run_dir),
    )
