"""What a create is going to do: all that can be checked and decided before it does anything."""

from __future__ import annotations

import os
import secrets
import shlex
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass

import msgspec

from ocigrpc.conmon.argv import OPTIONS, ConmonOptions
from ocigrpc.conmon.log_path import check_log_path, place_of_log
from ocigrpc.engine.containers.cgroups import ContainerCgroups, topmost_missing
from ocigrpc.engine.containers.context import Context
from ocigrpc.engine.containers.creation.source import (
    complete_root,
    lent_root,
    source_spec,
    stop_signal_of,
)
from ocigrpc.engine.containers.registry import ContainerRegistry, log_in_use
from ocigrpc.engine.containers.resources.checks import check_cpusets, check_host
from ocigrpc.engine.model.record import Record, fingerprint
from ocigrpc.engine.model.rootfs import RootFilesystem
from ocigrpc.engine.model.values import (
    BundleSource,
    ConfigSource,
    CreateRequest,
    SpecSource,
    State,
)
from ocigrpc.errors import HostFailed, InvalidArgument, cut
from ocigrpc.host.cgroups.hierarchy import Kind
from ocigrpc.host.files.statx import FileIdentity
from ocigrpc.host.processes.programs import find_program
from ocigrpc.oci.bundle import Spec, adopt, asks_for_terminal, has_hooks, table
from ocigrpc.oci.options import require_option
from ocigrpc.oci.runtime import Runtime
from ocigrpc.oci.spec.config import Resources
from ocigrpc.oci.spec.resources import with_weight
from ocigrpc.oci.spec.seccomp import profile_path
from ocigrpc.settings.rules import cgroup_parent_problem
from ocigrpc.violations import Violations
from ocigrpc.waiting import Deadline

# Longest command line in a record: every list of containers has it.
_COMMAND_LINE_BYTES = 256

_UNIFIED_FIELDS = {
    BundleSource: "bundle_path",
    SpecSource: "spec_json",
    ConfigSource: "config.resources.unified",
}


@dataclass(frozen=True)
class Plan:
    """A request that has been checked, and what follows from it; nothing is done yet."""

    record: Record
    spec: Spec
    conmon: ConmonOptions
    shown: str = ""
    """A bundle that its hooks are to see."""


class Planner:
    """Makes the plan of one request; both raise ``InvalidArgument`` and what else is wrong."""

    def __init__(
        self, request: CreateRequest, context: Context, registry: ContainerRegistry
    ) -> None:
        self._request = request
        self._context = context
        self._settings = context.settings
        self._containers = registry
        self._runtime = _requested_runtime(context, request.runtime_handler)
        self._container_id = request.container_id or secrets.token_hex(32)
        self._cgroups = self._requested_cgroups()

    def plan(self, deadline: Deadline, undo: ExitStack) -> Plan:
        """What follows from the request; ``undo`` gives back what was lent for it."""
        request, cgroups = self._request, self._cgroups
        root = lent_root(request, self._container_id, self._context, undo)
        spec = source_spec(request, self._container_id, root)
        self._refuse_unified(spec)
        if isinstance(request.source, ConfigSource):
            self._check_resources(request.source.config.resources)
            if self._context.hierarchies.kind is Kind.V2:
                spec = _with_weight(spec)
        terminal = request.terminal or asks_for_terminal(spec)
        record = self._record(spec, terminal, root)
        source = request.source
        # A bundle that hooks may read.
        shown = source.bundle_path if isinstance(source, BundleSource) and has_hooks(spec) else ""
        conmon = self._conmon(record, deadline, shows_bundle=bool(shown))
        annotations = {**cgroups.annotations(spec), **request.annotations}
        spec = adopt(spec, cgroups.cgroups_path, annotations, terminal)
        if root is not None:
            complete_root(root, spec, self._context.roots)
        return Plan(record, spec, conmon, shown)

    def _requested_cgroups(self) -> ContainerCgroups:
        manager = self._settings.cgroup.manager
        parent = self._request.cgroup_parent or self._settings.cgroup.parent
        problem = cgroup_parent_problem(manager, parent)
        if problem:
            raise InvalidArgument.of("cgroup_parent", problem, reason="INVALID_CGROUP_PARENT")
        return ContainerCgroups(
            self._context.hierarchies,
            manager,
            parent,
            self._container_id,
            self._settings.conmon.cgroup_parent,
        )

    def _refuse_unified(self, spec: Spec) -> None:
        """Raise ``InvalidArgument`` for files of cgroup2 where it is not alone.

        As an update does; runtimes fail, or pass them over.
        """
        if self._context.hierarchies.kind is Kind.V2:
            return
        if table(table(table(spec, "linux"), "resources"), "unified"):
            raise InvalidArgument.of(
                _UNIFIED_FIELDS[type(self._request.source)],
                "needs a host with cgroup v2 alone",
                reason="NOT_APPLICABLE",
            )

    def _check_resources(self, resources: Resources) -> None:
        found = Violations()
        check_host(resources, "config.resources", self._context.hierarchies, found)
        check_cpusets(resources, "config.resources", self._cgroups.container, found)
        found.raise_any()

    def _record(self, spec: Spec, terminal: bool, root: RootFilesystem | None) -> Record:
        request, source = self._request, self._request.source
        container_id = self._container_id
        log_path = self._log_path()
        entry_path = self._runtime.entry_path(container_id)
        return Record(
            container_id=container_id,
            fingerprint=fingerprint(request),
            created_ns=time.time_ns(),
            state=State.CREATING,
            runtime_handler=self._runtime.name,
            cgroup_manager=self._cgroups.manager,
            cgroup_parent=self._cgroups.parent,
            monitor_parent=self._cgroups.monitor_parent,
            cgroup_path=self._cgroups.container.path,
            bundle_path=self._context.paths(container_id).bundle,
            log_path=log_path,
            stop_signal=stop_signal_of(request, root),
            name=request.name,
            log_place=place_of_log(log_path),
            log_is_ours=not request.log_path,
            log_is_new=not request.log_path or not os.path.lexists(log_path),
            log_size_max_bytes=request.log_size_max_bytes,
            log_limit_bytes=self._log_limit_bytes(),
            made_parent=self._made_parent(),
            labels=request.labels,
            annotations=request.annotations,
            command_line=_command_line(spec),
            seccomp_profile=profile_path(source.config) if isinstance(source, ConfigSource) else "",
            terminal=terminal,
            stdin=request.stdin,
            stdin_once=request.stdin_once,
            runtime_entry=FileIdentity(entry_path) if entry_path else None,
            monitor_lost_policy=request.monitor_lost_policy or self._settings.monitor_lost_policy,
            auto_remove=request.auto_remove,
            rootfs_id=root.rootfs_id if root else "",
            image_id=root.image_id if root else "",
            image_name=root.image_name if root else "",
            rootfs_limit_bytes=root.limit_bytes if root else 0,
        )

    def _log_path(self) -> str:
        """Where its log is going to be, which is no other container's."""
        log_path = self._request.log_path
        if not log_path:
            return self._context.log_path(self._container_id)
        check_log_path(log_path)
        self._refuse_shared_log(log_path)
        return log_path

    def _log_limit_bytes(self) -> int:
        """How large a log grows that the service rotates, else 0."""
        is_left_alone = self._request.log_path or self._request.log_size_max_bytes
        return 0 if is_left_alone else self._settings.logs.max_bytes

    def _refuse_shared_log(self, log_path: str) -> None:
        """Raise ``ContainerExists`` if what is there is another container's log by another name."""
        try:
            there = os.stat(log_path, follow_symlinks=False)
        except OSError:
            return
        for each in self._containers.all():
            with suppress(OSError):
                theirs = os.stat(each.record.log_path, follow_symlinks=False)
                if each.container_id != self._container_id and os.path.samestat(theirs, there):
                    raise log_in_use(log_path, each.container_id)

    def _made_parent(self) -> str:
        """The topmost cgroup above the container's that is there for our containers only."""
        parent = self._cgroups.parent
        if self._cgroups.by_systemd or parent == self._settings.cgroup.parent:
            return ""  # systemd's, or here for as long as the service is.
        beside = (each.record for each in self._containers.all())
        known = [each.made_parent for each in beside if each.cgroup_parent == parent]
        return known[0] if known else topmost_missing(self._context.hierarchies, parent)

    def _conmon(self, record: Record, deadline: Deadline, *, shows_bundle: bool) -> ConmonOptions:
        request, settings = self._request, self._settings
        conmon_path = find_program(settings.conmon.path)
        if conmon_path is None:
            raise HostFailed(
                f"conmon is not at {settings.conmon.path!r}, or can't be executed",
                reason="MONITOR_NOT_FOUND",
                path=settings.conmon.path,
            )
        runtime_path = self._runtime.find()
        return ConmonOptions(
            conmon_path=conmon_path,
            container_id=record.container_id,
            paths=self._context.paths(record.container_id),
            runtime_path=runtime_path,
            runtime_argv=self._runtime.global_argv,
            log_path=record.log_path,
            log_level=settings.conmon.log_level,
            log_size_max_bytes=record.log_size_max_bytes or record.log_limit_bytes,
            systemd_cgroup=self._cgroups.by_systemd,
            terminal=record.terminal,
            stdin=request.stdin,
            stdin_once=request.stdin_once,
            no_pivot=request.no_pivot,
            shows_bundle=shows_bundle,
            unknown=self._unknown_options(conmon_path, runtime_path, deadline),
        )

    def _unknown_options(
        self, conmon_path: str, runtime_path: str, deadline: Deadline
    ) -> frozenset[str]:
        """The options that conmon and the runtime don't know.

        Raises ``PreconditionFailed`` (OPTION_UNKNOWN) for one that the request needs.
        """
        request, runtime = self._request, self._runtime
        by_conmon = self._context.conmon_options.unknown([conmon_path], OPTIONS, deadline)
        by_runtime = runtime.unknown_options("", deadline, runtime_path)
        if request.log_size_max_bytes:
            require_option("conmon", "--log-size-max", by_conmon)
        if request.no_pivot:
            require_option("conmon", "--no-pivot", by_conmon)
            require_option(runtime.name, "--no-pivot", runtime.unknown_options("create", deadline))
        if self._cgroups.by_systemd:
            require_option(runtime.name, "--systemd-cgroup", by_runtime)
        return by_conmon | by_runtime


def _requested_runtime(context: Context, name: str) -> Runtime:
    """The OCI runtime that a request asks for, the default one for an empty name."""
    wanted = name or context.settings.default_runtime
    if wanted not in context.runtimes:
        raise InvalidArgument.of(
            "runtime_handler",
            f"{wanted!r} is not one of {', '.join(sorted(context.runtimes))}",
            reason="UNKNOWN_RUNTIME_HANDLER",
            runtime_handler=wanted,
        )
    return context.runtimes[wanted]


def _command_line(spec: Spec) -> str:
    args = msgspec.convert(table(spec, "process").get("args"), list[str])
    return cut(shlex.join(args), _COMMAND_LINE_BYTES)


def _with_weight(spec: Spec) -> Spec:
    """The spec with the weight that cgroup v2 has; it was made of a config."""
    linux = table(spec, "linux")
    return {**spec, "linux": {**linux, "resources": with_weight(table(linux, "resources"))}}
