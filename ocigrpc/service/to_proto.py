"""From the engine's values to protobuf messages."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from weakref import WeakKeyDictionary

from google.protobuf.json_format import ParseDict
from google.protobuf.struct_pb2 import Struct

from ocigrpc.conmon.log_line import Stream
from ocigrpc.engine.logs.reader import LogBatch
from ocigrpc.engine.model.events import Event, EventBatch
from ocigrpc.engine.model.record import ContainerView
from ocigrpc.engine.model.values import (
    Condition,
    Counts,
    ExitStatus,
    ObjectKind,
    Position,
    State,
    Versions,
)
from ocigrpc.service.times import duration, fill_timestamp, timestamp
from ocigrpc.v1 import container_pb2, event_pb2, log_pb2, runtime_pb2

# Longest message of several events; one event alone may be longer.
EVENTS_MESSAGE_BYTES = 256 << 10

# Longest entry of a list that is kept, for as long as its container is shown in the same way.
# Making one takes ten times as long as finding it again. Labels make some a hundred times longer.
_KEPT_BYTES = 4 << 10
_listed: WeakKeyDictionary[ContainerView, bytes] = WeakKeyDictionary()

_STATES = {
    each: container_pb2.ContainerState.Value(f"CONTAINER_STATE_{each.name}") for each in State
}
_STREAMS = {
    Stream.STDOUT: log_pb2.LOG_STREAM_STDOUT,
    Stream.STDERR: log_pb2.LOG_STREAM_STDERR,
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
                status=f"CONDITION_STATUS_{'TRUE' if condition.status else 'FALSE'}",
                reason=condition.reason,
                message=condition.message,
            )
            for condition in conditions
        ],
        settings=ParseDict(dict(settings), Struct()),
        default_seccomp_profile=seccomp_profile,
        uptime=duration(counts.uptime_ns),
        containers=runtime_pb2.ContainerCounts(
            total=len(counts.states),
            limit=counts.container_limit,
            **{state.name.lower(): number for state, number in Counter(counts.states).items()},
        ),
        events=runtime_pb2.EventCounts(
            kept=counts.events_kept, first=counts.first_event, last=counts.last_event
        ),
        store_bytes=counts.store_bytes,
    )


def container_status(view: ContainerView) -> container_pb2.ContainerStatus:
    """Everything that is known of a container."""
    record = view.record
    return container_pb2.ContainerStatus(
        container_id=record.container_id,
        name=record.name,
        state=f"CONTAINER_STATE_{view.state.name}",
        pid=view.pid,
        created_at=timestamp(record.created_ns),
        started_at=timestamp(record.started_ns),
        exit_status=None if view.exit_status is None else exit_status(view.exit_status),
        log_path=record.log_path,
        labels=record.labels,
        annotations=record.annotations,
        runtime_handler=record.runtime_handler,
        bundle_path=record.bundle_path,
        cgroup_path=record.cgroup_path,
        terminal=record.terminal,
        stdin=record.stdin,
        monitor_lost=record.monitor_lost,
        monitor_lost_policy=f"MONITOR_LOST_POLICY_{record.monitor_lost_policy.name}",
        auto_remove=record.auto_remove,
        image_id=record.image_id,
        image_name=record.image_name,
        rootfs_limit_bytes=record.rootfs_limit_bytes,
        runtime_state=view.runtime_state,
        message=view.message,
    )


def add_listed(entries: list[bytes], view: ContainerView) -> tuple[Position, int]:
    """Add a container to a list: where it stands there, and the size of its entry.

    The entry is an encoded answer with nothing else in it: see :func:`list_response`.
    """
    encoded = _listed.get(view)
    if encoded is None:
        encoded = _encoded(view)
        if len(encoded) <= _KEPT_BYTES:
            _listed[view] = encoded
    entries.append(encoded)
    return view.record.position, len(encoded)


def list_response(
    entries: Iterable[bytes], next_page_token: str
) -> runtime_pb2.ListContainersResponse:
    """The answer of all entries: encoded messages that are joined are one with all they list."""
    answer = runtime_pb2.ListContainersResponse.FromString(b"".join(entries))
    answer.next_page_token = next_page_token
    return answer


def _encoded(view: ContainerView) -> bytes:
    record = view.record
    answer = runtime_pb2.ListContainersResponse()
    entry = answer.containers.add(
        container_id=record.container_id,
        name=record.name,
        state=_STATES[view.state],
        pid=view.pid,
        exit_status=None if view.exit_status is None else exit_status(view.exit_status),
        # Passing an empty map is expensive.
        labels=record.labels or None,
        runtime_handler=record.runtime_handler,
        command_line=record.command_line,
        monitor_lost=record.monitor_lost,
        image_id=record.image_id,
        image_name=record.image_name,
    )
    fill_timestamp(entry.created_at, record.created_ns)
    fill_timestamp(entry.started_at, record.started_ns)
    return answer.SerializeToString()


def exit_status(ended: ExitStatus) -> container_pb2.ExitStatus:
    """How a container ended; an unknown exit code stays absent."""
    return container_pb2.ExitStatus(
        exit_code=ended.exit_code,
        signal=ended.signal,
        finished_at=timestamp(ended.finished_ns),
        oom_killed=ended.oom_killed,
        provenance=f"EXIT_PROVENANCE_{ended.provenance.name}",
        message=ended.message,
    )


# Of the last batch alone: all followers get the same one at the same time.
@lru_cache(maxsize=1)
def watch_events_responses(batch: EventBatch) -> Sequence[event_pb2.WatchEventsResponse]:
    """The events of a batch in messages, each with the cursor after its last event."""
    return tuple(_watch_events_responses(batch))


def _watch_events_responses(batch: EventBatch) -> Iterator[event_pb2.WatchEventsResponse]:
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
        container_id=event.object_id if event.object_kind is ObjectKind.CONTAINER else "",
        image_id=event.object_id if event.object_kind is ObjectKind.IMAGE else "",
        name=event.name,
        exit_status=exit_status(event.exit_status) if event.exit_status else None,
    )


def log_response(batch: LogBatch) -> log_pb2.ContainerLogsResponse:
    """A batch as a message."""
    response = log_pb2.ContainerLogsResponse(skipped_lines=batch.skipped, gap=batch.gap)
    # Each line is filled in where it is, since protobuf copies a message that is passed: that
    # takes twice as long, for lines of which there are 100,000 a second.
    add = response.lines.add
    for line in batch.lines:
        added = add(stream=_STREAMS[line.stream], partial=line.partial, content=line.content)
        fill_timestamp(added.time, line.time_ns)
    return response
