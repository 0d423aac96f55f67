"""From the engine's values to protobuf messages."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from google.protobuf.json_format import ParseDict
from google.protobuf.struct_pb2 import Struct

from ocigrpc.engine.model.values import (
    Condition,
    ContainerView,
    ExitStatus,
    MonitorLostPolicy,
    Position,
    Provenance,
    State,
    Versions,
)
from ocigrpc.v1 import container_pb2, runtime_pb2

# The engine's states in the contract's words.
STATES = {
    State.CREATING: container_pb2.CONTAINER_STATE_CREATING,
    State.CREATED: container_pb2.CONTAINER_STATE_CREATED,
    State.RUNNING: container_pb2.CONTAINER_STATE_RUNNING,
    State.PAUSED: container_pb2.CONTAINER_STATE_PAUSED,
    State.STOPPED: container_pb2.CONTAINER_STATE_STOPPED,
    State.UNKNOWN: container_pb2.CONTAINER_STATE_UNKNOWN,
}

_PROVENANCES = {
    Provenance.EXIT_FILE: container_pb2.EXIT_PROVENANCE_EXIT_FILE,
    Provenance.PENDING: container_pb2.EXIT_PROVENANCE_PENDING,
    Provenance.FILE_MISSING: container_pb2.EXIT_PROVENANCE_FILE_MISSING,
    Provenance.FILE_EMPTY: container_pb2.EXIT_PROVENANCE_FILE_EMPTY,
    Provenance.FILE_INVALID: container_pb2.EXIT_PROVENANCE_FILE_INVALID,
    Provenance.MONITOR_LOST: container_pb2.EXIT_PROVENANCE_MONITOR_LOST,
    Provenance.REBOOT: container_pb2.EXIT_PROVENANCE_REBOOT,
    Provenance.MONITOR_HUNG: container_pb2.EXIT_PROVENANCE_MONITOR_HUNG,
}

# The engine's policies for a lost monitor in the contract's words.
POLICIES = {
    MonitorLostPolicy.LEAVE: container_pb2.MONITOR_LOST_POLICY_LEAVE,
    MonitorLostPolicy.KILL: container_pb2.MONITOR_LOST_POLICY_KILL,
}


def version(service_version: str, versions: Versions) -> runtime_pb2.VersionResponse:
    """Names and versions of the service and of the programs it drives."""
    return runtime_pb2.VersionResponse(
        runtime_name="ocigrpc",
        runtime_version=service_version,
        runtime_api_version="v1",
        conmon_version=versions.conmon,
        runtime_handlers=[
            runtime_pb2.RuntimeHandlerVersion(
                name=handler.name, path=handler.path, version=handler.version
            )
            for handler in versions.handlers
        ],
    )


def status(
    conditions: Iterable[Condition], settings: Mapping[str, object], seccomp_profile: str
) -> runtime_pb2.StatusResponse:
    """What works and what does not, and the settings, made of types that JSON has."""
    return runtime_pb2.StatusResponse(
        conditions=[
            runtime_pb2.Condition(
                type=condition.type,
                status=condition.status,
                reason=condition.reason,
                message=condition.message,
            )
            for condition in conditions
        ],
        settings=ParseDict(dict(settings), Struct()),
        default_seccomp_profile=seccomp_profile,
    )


def container_status(view: ContainerView) -> container_pb2.ContainerStatus:
    """All that is known of a container."""
    return container_pb2.ContainerStatus(
        container_id=view.container_id,
        name=view.name,
        state=STATES[view.state],
        pid=view.pid,
        created_at=view.created_ns,
        started_at=view.started_ns,
        exit_status=None if view.exit_status is None else exit_status(view.exit_status),
        log_path=view.log_path,
        labels=view.labels,
        annotations=view.annotations,
        runtime_handler=view.runtime_handler,
        bundle_path=view.bundle_path,
        cgroup_path=view.cgroup_path,
        terminal=view.terminal,
        stdin=view.stdin,
        monitor_lost=view.monitor_lost,
        monitor_lost_policy=POLICIES[view.monitor_lost_policy],
        runtime_state=view.runtime_state,
        message=view.message,
    )


def listed(view: ContainerView) -> tuple[Position, container_pb2.ContainerStatus]:
    """The same as an entry of a list."""
    return (view.created_ns, view.container_id), container_status(view)


def exit_status(ended: ExitStatus) -> container_pb2.ExitStatus:
    """How a container ended; an exit code that nobody knows stays absent."""
    return container_pb2.ExitStatus(
        exit_code=ended.exit_code,
        signal=ended.signal,
        finished_at=ended.finished_ns,
        oom_killed=ended.oom_killed,
        provenance=_PROVENANCES[ended.provenance],
        message=ended.message,
    )
