"""Events, between the contract's words and the engine's."""

from __future__ import annotations

from collections.abc import Iterator

from ocigrpc.engine.model.events import Event, EventBatch, EventFilter, EventKind, marks_of
from ocigrpc.service.from_proto import WANTED_LIMIT_BYTES, check_labels
from ocigrpc.service.to_proto import exit_status
from ocigrpc.v1 import event_pb2
from ocigrpc.violations import Violations

# How long a message of several events may be; one event alone may be longer.
MESSAGE_BYTES = 256 << 10

_KINDS = {event_pb2.EventKind.Value(f"EVENT_KIND_{kind.name}"): kind for kind in EventKind}


def watch_events_request(
    request: event_pb2.WatchEventsRequest,
) -> tuple[int | None, EventFilter]:
    """Behind which number to begin, None for now, and which events."""
    asked = request.filter
    found = Violations()
    for index, number in enumerate(asked.kinds):
        found.allow(
            number in _KINDS, f"filter.kinds[{index}]", f"{number} is no kind", "INVALID_KIND"
        )
    check_labels(found, "filter.label_selector", asked.label_selector)
    found.text("filter.container_id", asked.container_id, WANTED_LIMIT_BYTES)
    found.allow(request.after >= 0, "after", "is negative", "OUT_OF_RANGE")
    found.raise_any()
    event_filter = EventFilter(
        container_id=asked.container_id,
        marks=frozenset(marks_of(asked.label_selector)),
        kinds=frozenset(_KINDS[number] for number in asked.kinds),
    )
    return request.after if request.HasField("after") else None, event_filter


def watch_events_responses(news: EventBatch) -> Iterator[event_pb2.WatchEventsResponse]:
    """News as messages, of which each has the cursor behind its last event."""
    gap = event_pb2.EventGap(first=news.gap.first, last=news.gap.last) if news.gap else None
    events: list[event_pb2.ContainerEvent] = []
    size_bytes = 0
    for event in map(_event, news.events):
        if events and size_bytes + event.ByteSize() > MESSAGE_BYTES:
            yield event_pb2.WatchEventsResponse(cursor=events[-1].sequence, events=events)
            events, size_bytes = [], 0
        events.append(event)
        size_bytes += event.ByteSize()
    yield event_pb2.WatchEventsResponse(cursor=news.cursor, gap=gap, events=events)


def _event(event: Event) -> event_pb2.ContainerEvent:
    return event_pb2.ContainerEvent(
        sequence=event.sequence,
        time=event.time_ns,
        kind=f"EVENT_KIND_{event.kind.name}",
        container_id=event.container_id,
        name=event.name,
        exit_status=exit_status(event.exit_status) if event.exit_status else None,
    )
