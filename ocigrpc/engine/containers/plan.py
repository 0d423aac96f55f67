"""What a create is going to do: all that can be checked and decided before it does anything."""

from __future__ import annotations

import os
import secrets
import time
from contextlib import suppress
from dataclasses import dataclass

from ocigrpc.conmon.argv import OPTIONS, ConmonOptions
from ocigrpc.conmon.log_path import check_log_path, place_of_log
from ocigrpc.engine.containers.cgroups import ContainerCgroups
from ocigrpc.engine.containers.context import Context
from ocigrpc.engine.containers.registry import Registry, log_in_use
from ocigrpc.engine.containers.resources.checks import check_cpusets, check_host
from ocigrpc.engine.model.record import Record, fingerprint
from ocigrpc.engine.model.signals import parse_signal
from ocigrpc.engine.model.values import (
    BundleSource,
    ConfigSource,
    CreateRequest,
    MonitorLostPolicy,
    SpecSource,
    State,
)
from ocigrpc.errors import HostFailed, InvalidArgument
from ocigrpc.host.cgroups.cgroup import Cgroup
from ocigrpc.host.cgroups.hierarchy import Hierarchies, Kind
from ocigrpc.host.files.statx import FileIdentity
from ocigrpc.host.processes.programs import find_program
from ocigrpc.oci.bundle import (
    Spec,
    adopt,
    asks_for_terminal,
    bundle_spec,
    has_hooks,
    table,
    text_spec,
)
from ocigrpc.oci.options import require_option
from ocigrpc.oci.runtime import Runtime
from ocigrpc.oci.spec.build import spec_of
from ocigrpc.oci.spec.config import Resources
from ocigrpc.oci.spec.resources import with_weight
from ocigrpc.settings.rules import cgroup_parent_problem
from ocigrpc.violations import Violations
from ocigrpc.waiting import Deadline

_UNIFIED_FIELDS = {
    BundleSource: "bundle_path",
    SpecSource: "spec_json",
    ConfigSource: "config.resources.unified",
}


@dataclass(frozen=True)
class Plan:
    """A request that has been checked, and what follows from it; nothing is done yet."""

    request: CreateRequest
    record: Record
    runtime: Runtime
    spec: Spec
    monitor: ConmonOptions
    cgroups: ContainerCgroups
    shown: str = ""
    """A bundle that its hooks are to see."""


class Planning:
    """Makes plans."""

    def __init__(self, node: Context, registry: Registry) -> None:
        self._node = node
        self._registry = registry

    def plan(self, request: CreateRequest, deadline: Deadline) -> Plan:
        """What follows from a request; raises ``InvalidArgument`` and what else is wrong."""
        runtime = self._node.requested_runtime(request.runtime_handler)
        container_id = request.container_id or secrets.token_hex(32)
        cgroups = self._cgroups(request, container_id)
        spec = _source_spec(request, container_id)
        self._refuse_unified(request, spec)
        if isinstance(request.source, ConfigSource):
            hierarchies = self._node.hierarchies
            _check_resources(request.source.config.resources, hierarchies, cgroups.container)
            if hierarchies.kind is Kind.V2:
                spec = _with_weight(spec)
        terminal = request.terminal or asks_for_terminal(spec)
        record = self._record(request, container_id, runtime, cgroups, terminal)
        shown = _bundle_with_hooks(request, spec)
        monitor = self._monitor(
            request, record, runtime, cgroups, deadline, shows_bundle=bool(shown)
        )
        annotations = {**cgroups.annotations(spec), **request.annotations}
        spec = adopt(spec, cgroups.cgroups_path, annotations, terminal)
        return Plan(request, record, runtime, spec, monitor, cgroups, shown)

    def _refuse_unified(self, request: CreateRequest, spec: Spec) -> None:
        """Raise ``InvalidArgument`` for files of cgroup2 where it is not alone.

        As an update does; runtimes fail, or pass them over.
        """
        if self._node.hierarchies.kind is Kind.V2:
            return
        if table(table(table(spec, "linux"), "resources"), "unified"):
            raise InvalidArgument.of(
                _UNIFIED_FIELDS[type(request.source)],
                "needs a host with cgroup v2 alone",
                reason="NOT_APPLICABLE",
            )

    def _record(
        self,
        request: CreateRequest,
        container_id: str,
        runtime: Runtime,
        cgroups: ContainerCgroups,
        terminal: bool,
    ) -> Record:
        log_path = request.log_path or self._node.log_path(container_id)
        entry_path = runtime.entry_path(container_id)
        if request.log_path:
            check_log_path(log_path)
            self._refuse_shared_log(container_id, log_path)
        return Record(
            container_id=container_id,
            fingerprint=fingerprint(request),
            created_ns=time.time_ns(),
            state=State.CREATING,
            runtime_handler=runtime.name,
            cgroup_manager=cgroups.manager,
            cgroup_parent=cgroups.parent,
            cgroup_path=cgroups.container.path,
            bundle_path=str(self._node.paths(container_id).bundle),
            log_path=log_path,
            stop_signal=parse_signal(request.stop_signal or "SIGTERM", "stop_signal"),
            name=request.name,
            log_place=place_of_log(log_path),
            log_is_ours=not request.log_path,
            log_is_new=not request.log_path or not os.path.lexists(log_path),
            log_size_max_bytes=request.log_size_max_bytes,
            log_limit_bytes=0
            if request.log_path or request.log_size_max_bytes
            else self._node.settings.logs.max_bytes,
            made_parent=self._made_parent(cgroups),
            labels=request.labels,
            annotations=request.annotations,
            terminal=terminal,
            stdin=request.stdin,
            stdin_once=request.stdin_once,
            runtime_entry=FileIdentity(entry_path) if entry_path else None,
            monitor_lost_policy=request.monitor_lost_policy
            or MonitorLostPolicy(self._node.settings.monitor_lost_policy),
        )

    def _refuse_shared_log(self, container_id: str, log_path: str) -> None:
        """Raise ``ContainerExists`` if what is there is another container's log by another name."""
        try:
            there = os.stat(log_path, follow_symlinks=False)
        except OSError:
            return
        for each in self._registry.all():
            with suppress(OSError):
                theirs = os.stat(each.record.log_path, follow_symlinks=False)
                if each.container_id != container_id and os.path.samestat(theirs, there):
                    raise log_in_use(log_path, each.container_id)

    def _monitor(
        self,
        request: CreateRequest,
        record: Record,
        runtime: Runtime,
        cgroups: ContainerCgroups,
        deadline: Deadline,
        *,
        shows_bundle: bool,
    ) -> ConmonOptions:
        settings = self._node.settings
        conmon_path = find_program(settings.conmon.path)
        if conmon_path is None:
            raise HostFailed(
                f"conmon is not at {settings.conmon.path!r}, or can't be executed",
                reason="MONITOR_NOT_FOUND",
                path=settings.conmon.path,
            )
        return ConmonOptions(
            conmon_path=conmon_path,
            container_id=record.container_id,
            paths=self._node.paths(record.container_id),
            runtime_path=runtime.find(),
            runtime_argv=runtime.global_argv,
            log_path=record.log_path,
            log_level=settings.conmon.log_level,
            log_size_max_bytes=record.log_size_max_bytes or record.log_limit_bytes,
            systemd_cgroup=cgroups.by_systemd,
            terminal=record.terminal,
            stdin=request.stdin,
            stdin_once=request.stdin_once,
            no_pivot=request.no_pivot,
            shows_bundle=shows_bundle,
            unknown=self._unknown(request, conmon_path, runtime, cgroups, deadline),
        )

    def _unknown(
        self,
        request: CreateRequest,
        conmon_path: str,
        runtime: Runtime,
        cgroups: ContainerCgroups,
        deadline: Deadline,
    ) -> frozenset[str]:
        """The options that conmon and the runtime don't know.

        Raises ``PreconditionFailed`` (OPTION_UNKNOWN) for one that the request needs.
        """
        by_conmon = self._node.conmon_options.unknown([conmon_path], OPTIONS, deadline)
        by_runtime = runtime.unknown_options("", deadline)
        if request.log_size_max_bytes:
            require_option("conmon", "--log-size-max", by_conmon)
        if request.no_pivot:
            require_option("conmon", "--no-pivot", by_conmon)
            require_option(runtime.name, "--no-pivot", runtime.unknown_options("create", deadline))
        if cgroups.by_systemd:
            require_option(runtime.name, "--systemd-cgroup", by_runtime)
        return by_conmon | by_runtime

    def _cgroups(self, request: CreateRequest, container_id: str) -> ContainerCgroups:
        settings = self._node.settings
        parent = request.cgroup_parent or settings.cgroup.parent
        problem = cgroup_parent_problem(settings.cgroup.manager, parent)
        if problem:
            raise InvalidArgument.of("cgroup_parent", problem, reason="INVALID_CGROUP_PARENT")
        return self._node.cgroups(settings.cgroup.manager, parent, container_id)

    def _made_parent(self, cgroups: ContainerCgroups) -> str:
        """The topmost cgroup above the container's that is there for our containers only."""
        if cgroups.by_systemd or cgroups.parent == self._node.settings.cgroup.parent:
            return ""  # systemd's, or here for as long as the service is.
        beside = (each.record for each in self._registry.all())
        known = [each.made_parent for each in beside if each.cgroup_parent == cgroups.parent]
        return known[0] if known else self._node.topmost_missing(cgroups.parent)


def _source_spec(request: CreateRequest, container_id: str) -> Spec:
    match request.source:
        case BundleSource(bundle_path):
            return bundle_spec(bundle_path)
        case SpecSource(spec_json):
            return text_spec(spec_json)
        case ConfigSource(config):
            return spec_of(config, container_id=container_id, terminal=request.terminal)


def _check_resources(resources: Resources, hierarchies: Hierarchies, group: Cgroup) -> None:
    found = Violations()
    check_host(resources, "config.resources", hierarchies, found)
    check_cpusets(resources, "config.resources", group, found)
    found.raise_any()


def _with_weight(spec: Spec) -> Spec:
    """The spec with the weight that cgroup v2 has; it was made of a config."""
    linux = table(spec, "linux")
    return {**spec, "linux": {**linux, "resources": with_weight(table(linux, "resources"))}}


def _bundle_with_hooks(request: CreateRequest, spec: Spec) -> str:
    """The bundle of a request, if hooks may look at it."""
    match request.source:
        case BundleSource(bundle_path) if has_hooks(spec):
            return bundle_path
        case _:
            return ""
