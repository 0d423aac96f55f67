"""What happens to containers and images, as events: plain values, and the rules that make them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from enum import StrEnum

import msgspec
from msgspec import Struct

from ocigrpc.engine.model.record import Record
from ocigrpc.engine.model.values import ExitStatus, ObjectKind, State

# Even among ten million labels hardly two have the same mark.
_MARK_BYTES = 7


class EventKind(StrEnum):
    """What has happened to a container, or to an image: the last four."""

    CREATED = "created"
    STARTED = "started"
    PAUSED = "paused"
    RESUMED = "resumed"
    UPDATED = "updated"
    MONITOR_LOST = "monitor_lost"
    OOM = "oom"
    EXITED = "exited"
    REMOVED = "removed"
    PULLED = "pulled"
    TAGGED = "tagged"
    UNTAGGED = "untagged"


class Event(Struct, frozen=True, omit_defaults=True):
    """One thing that has happened. ``exit_status`` is there when it has exited.

    ``sequence`` is 0 until the event log has given it a number. ``marks`` stand for the labels
    of the container, which may be thousands of times as long.
    """

    kind: EventKind
    object_id: str
    time_ns: int
    sequence: int = 0
    name: str = ""
    marks: tuple[int, ...] = ()
    exit_status: ExitStatus | None = None
    object_kind: ObjectKind = ObjectKind.CONTAINER


class EventFilter(Struct, frozen=True):
    """Which events; empty fields match all. ``marks`` are those of labels that it must have.

    Of containers alone, unless ``object_kinds`` has others.
    """

    object_id: str = ""
    marks: frozenset[int] = frozenset()
    kinds: frozenset[EventKind] = frozenset()
    object_kinds: frozenset[ObjectKind] = frozenset({ObjectKind.CONTAINER})

    def matches(self, event: Event) -> bool:
        """Whether it is one of them."""
        return (
            self.object_id in ("", event.object_id)
            and event.object_kind in self.object_kinds
            and (not self.kinds or event.kind in self.kinds)
            and self.marks.issubset(event.marks)
        )


def marks_of(labels: Mapping[str, str]) -> tuple[int, ...]:
    """A number for each label: equal ones for equal labels, hardly ever for others."""
    texts = (f"{key}\0{value}".encode() for key, value in labels.items())
    hashes = (hashlib.blake2b(text, digest_size=_MARK_BYTES) for text in texts)
    return tuple(int.from_bytes(each.digest()) for each in hashes)


class Gap(Struct, frozen=True):
    """The first and the last number of those that are missing."""

    first: int
    last: int


class EventBatch(Struct, frozen=True):
    """All events from the end of the last batch up to ``cursor``."""

    cursor: int
    events: tuple[Event, ...] = ()
    gap: Gap | None = None


def event_of(kind: EventKind, record: Record, time_ns: int) -> Event:
    """An event of the container of this record."""
    return Event(
        kind=kind,
        object_id=record.key.object_id,
        object_kind=record.key.kind,
        time_ns=time_ns,
        name=record.name,
        marks=marks_of(record.labels),
        exit_status=record.exit_status if kind is EventKind.EXITED else None,
    )


def events_between(before: Record, after: Record, time_ns: int) -> tuple[Event, ...]:
    """What has happened to a container from one record of it to a later one, in order.

    Several things may have happened. What left no trace in the later record, such as a pause
    that has ended, makes no event; nor does what was undone, as a create can be.
    """
    if before is after:
        return ()
    return tuple(event_of(kind, after, time_ns) for kind in _kinds(before, after))


def last_events(before: Record, after: Record, time_ns: int) -> tuple[Event, ...]:
    """The same for a container that is removed, ``after`` being its last record."""
    if before.state is State.CREATING:
        return ()
    removed = event_of(EventKind.REMOVED, after, time_ns)
    return (*events_between(before, after, time_ns), removed)


def numbered(events: tuple[Event, ...], first: int) -> tuple[Event, ...]:
    """The events with their numbers, beginning with ``first``."""
    return tuple(
        msgspec.structs.replace(event, sequence=first + index) for index, event in enumerate(events)
    )


def _kinds(before: Record, after: Record) -> Iterator[EventKind]:
    was, is_now = before.state, after.state
    if was is State.CREATING and is_now is not State.CREATING:
        yield EventKind.CREATED
    # Started by hand, or by a service that died meanwhile, at a time that we don't know.
    started = was is State.CREATED and (is_now is State.RUNNING or _ended_by_itself(after))
    if started or (after.started_ns and not before.started_ns):
        yield EventKind.STARTED
    if is_now is State.PAUSED is not was:
        yield EventKind.PAUSED
    if was is State.PAUSED and is_now in (State.CREATED, State.RUNNING):
        yield EventKind.RESUMED
    if after.monitor_lost and not before.monitor_lost:
        yield EventKind.MONITOR_LOST
    if after.oom_kills > before.oom_kills:
        yield EventKind.OOM
    if after.exit_status is not None and before.exit_status is None:
        yield EventKind.EXITED


def _ended_by_itself(record: Record) -> bool:
    """Whether its program ran: what waits to be started can only be killed."""
    ended = record.exit_status
    return ended is not None and ended.exit_code is not None and ended.signal is None
