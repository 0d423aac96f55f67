"""From the engine's values to protobuf messages."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from google.protobuf.json_format import ParseDict
from google.protobuf.struct_pb2 import Struct

from ocigrpc.conmon.log_line import Stream
from ocigrpc.engine.logs.values import LogBatch
from ocigrpc.engine.model.events import Event, EventBatch
from ocigrpc.engine.model.values import (
    Condition,
    ContainerView,
    Counts,
    ExitStatus,
    Position,
    Provenance,
    State,
    Versions,
)
from ocigrpc.service.times import duration, timestamp
from ocigrpc.settings.values import MonitorLostPolicy
from ocigrpc.v1 import (
    container_pb2,
    event_pb2,
    log_pb2,
    runtime_pb2,
)

# The engine's states in the contract's terms.
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

_CONDITIONS = {
    True: runtime_pb2.CONDITION_STATUS_TRUE,
    False: runtime_pb2.CONDITION_STATUS_FALSE,
}

# The streams of logs in the contract's terms.
LOG_STREAMS = {
    Stream.STDOUT: log_pb2.LOG_STREAM_STDOUT,
    Stream.STDERR: log_pb2.LOG_STREAM_STDERR,
}

# Longest message of several events; one event alone may be longer.
EVENTS_MESSAGE_BYTES = 256 << 10

# The engine's policies for a lost monitor in the contract's terms.
POLICIES = {
    MonitorLostPolicy.LEAVE: container_pb2.MONITOR_LOST_POLICY_LEAVE,
    MonitorLostPolicy.KILL: container_pb2.MONITOR_LOST_POLICY_KILL,
}


def version(service_version: str, versions: Versions) -> runtime_pb2.VersionResponse:
    """Names and versions of the service and of the programs that it runs."""
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
    conditions: Iterable[Condition],
    settings: Mapping[str, object],
    seccomp_profile: str,
    counts: Counts,
) -> runtime_pb2.StatusResponse:
    """The conditions of the service, the settings, which have JSON's types, and counts."""
    return runtime_pb2.StatusResponse(
        conditions=[
            runtime_pb2.Condition(
                type=condition.type,
                status=_CONDITIONS[condition.status],
                reason=condition.reason,
                message=condition.message,
            )
            for condition in conditions
        ],
        settings=ParseDict(dict(settings), Struct()),
        default_seccomp_profile=seccomp_profile,
        uptime=duration(counts.uptime_ns),
        containers=_container_counts(counts),
        events=runtime_pb2.EventCounts(
            kept=counts.events_kept, first=counts.first_event, last=counts.last_event
        ),
        store_bytes=counts.store_bytes,
    )


def _container_counts(counts: Counts) -> runtime_pb2.ContainerCounts:
    number = Counter(counts.states)
    return runtime_pb2.ContainerCounts(
        total=number.total(),
        creating=number[State.CREATING],
        created=number[State.CREATED],
        running=number[State.RUNNING],
        paused=number[State.PAUSED],
        stopped=number[State.STOPPED],
        unknown=number[State.UNKNOWN],
        limit=counts.container_limit,
    )


def container_status(view: ContainerView) -> container_pb2.ContainerStatus:
    """Everything that is known of a container."""
    return container_pb2.ContainerStatus(
        container_id=view.container_id,
        name=view.name,
        state=STATES[view.state],
        pid=view.pid,
        created_at=timestamp(view.created_ns),
        started_at=timestamp(view.started_ns),
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


def listed(view: ContainerView) -> tuple[Position, container_pb2.ContainerSummary]:
    """A container as an entry of a list, and where it stands there."""
    return (view.created_ns, view.container_id), container_pb2.ContainerSummary(
        container_id=view.container_id,
        name=view.name,
        state=STATES[view.state],
        pid=view.pid,
        created_at=timestamp(view.created_ns),
        started_at=timestamp(view.started_ns),
        exit_status=None if view.exit_status is None else exit_status(view.exit_status),
        labels=view.labels,
        runtime_handler=view.runtime_handler,
        command_line=view.command_line,
        monitor_lost=view.monitor_lost,
    )


def exit_status(ended: ExitStatus) -> container_pb2.ExitStatus:
    """How a container ended; an unknown exit code stays absent."""
    return container_pb2.ExitStatus(
        exit_code=ended.exit_code,
        signal=ended.signal,
        finished_at=timestamp(ended.finished_ns),
        oom_killed=ended.oom_killed,
        provenance=_PROVENANCES[ended.provenance],
        message=ended.message,
    )


def watch_events_responses(batch: EventBatch) -> Iterator[event_pb2.WatchEventsResponse]:
    """The events of a batch in messages, each with the cursor after its last event."""
    gap = event_pb2.EventGap(first=batch.gap.first, last=batch.gap.last) if batch.gap else None
    events: list[event_pb2.ContainerEvent] = []
    size_bytes = 0
    for event in map(_event, batch.events):
        if events and size_bytes + event.ByteSize() > EVENTS_MESSAGE_BYTES:
            yield event_pb2.WatchEventsResponse(cursor=events[-1].sequence, events=events)
            events, size_bytes = [], 0
        events.append(event)
        size_bytes += event.ByteSize()
    yield event_pb2.WatchEventsResponse(cursor=batch.cursor, gap=gap, events=events)


def _event(event: Event) -> event_pb2.ContainerEvent:
    return event_pb2.ContainerEvent(
        sequence=event.sequence,
        time=timestamp(event.time_ns),
        kind=f"EVENT_KIND_{event.kind.name}",
        container_id=event.object_id,
        name=event.name,
        exit_status=exit_status(event.exit_status) if event.exit_status else None,
    )


def log_response(batch: LogBatch) -> log_pb2.ContainerLogsResponse:
    """A batch as a message."""
    return log_pb2.ContainerLogsResponse(
        lines=[
            log_pb2.LogLine(
                time=timestamp(line.time_ns),
                stream=LOG_STREAMS[line.stream],
                partial=line.partial,
                content=line.content,
            )
            for line in batch.lines
        ],
        skipped_lines=batch.skipped,
        gap=batch.gap,
    )
