"""Events: which ones a change of a record makes, and which ones a filter lets through."""

from __future__ import annotations

import msgspec
import pytest

from ocigrpc.engine.model.events import (
    Event,
    EventFilter,
    EventKind,
    event_of,
    events_between,
    last_events,
    marks_of,
)
from ocigrpc.engine.model.record import Record
from ocigrpc.engine.model.values import ExitStatus, Provenance, State
from tests.unit.test_store import RECORD

CREATING = msgspec.structs.replace(RECORD, state=State.CREATING, init=None, exit_status=None)
EXIT = ExitStatus(provenance=Provenance.EXIT_FILE, finished_ns=9, exit_code=3)
KILLED = ExitStatus(provenance=Provenance.EXIT_FILE, finished_ns=9, exit_code=137, signal=9)
UNKNOWN = ExitStatus(provenance=Provenance.FILE_MISSING, finished_ns=9)


def record(state: State, **fields: object) -> Record:
    return msgspec.structs.replace(CREATING, state=state, **fields)


CREATED = record(State.CREATED)
RUNNING = record(State.RUNNING, started_ns=5)
PAUSED = record(State.PAUSED, started_ns=5)
STOPPED = record(State.STOPPED, started_ns=5, exit_status=EXIT)


def kinds(before: Record, after: Record) -> list[str]:
    return [event.kind.value for event in events_between(before, after, 1)]


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (CREATING, CREATED, ["created"]),
        (CREATED, RUNNING, ["started"]),
        (RUNNING, PAUSED, ["paused"]),
        (PAUSED, RUNNING, ["resumed"]),
        (RUNNING, STOPPED, ["exited"]),
        (PAUSED, STOPPED, ["exited"]),
        (CREATED, record(State.STOPPED, exit_status=KILLED), ["exited"]),
        (CREATED, record(State.STOPPED, exit_status=UNKNOWN), ["exited"]),
        # What waits to be started can only be killed.
        (CREATED, record(State.STOPPED, exit_status=EXIT), ["started", "exited"]),
        (RUNNING, record(State.RUNNING, started_ns=5, monitor_lost=True), ["monitor_lost"]),
        (RUNNING, record(State.RUNNING, started_ns=5, oom_kills=1), ["oom"]),
    ],
)
def test_a_change_makes_its_event(before: Record, after: Record, expected: list[str]) -> None:
    assert kinds(before, after) == expected


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (CREATED, record(State.RUNNING), ["started"]),
        (CREATED, record(State.PAUSED), ["paused"]),
        (record(State.PAUSED), CREATED, ["resumed"]),
    ],
)
def test_a_change_by_another_hand_makes_the_same_event(
    before: Record, after: Record, expected: list[str]
) -> None:
    assert kinds(before, after) == expected


def test_of_much_that_happened_at_once_all_is_told_in_order() -> None:
    after = msgspec.structs.replace(STOPPED, monitor_lost=True, oom_kills=2)
    expected = ["created", "started", "monitor_lost", "oom", "exited"]
    assert kinds(CREATING, after) == expected


def test_what_is_known_already_is_not_told_again() -> None:
    lost = record(State.RUNNING, started_ns=5, monitor_lost=True, oom_kills=1)
    assert kinds(lost, msgspec.structs.replace(lost, state=State.PAUSED)) == ["paused"]
    assert kinds(STOPPED, msgspec.structs.replace(STOPPED)) == []


def test_a_removal_is_told_last_and_with_all_that_was_not_told_yet() -> None:
    found = last_events(RUNNING, STOPPED, 1)
    assert [event.kind for event in found] == [EventKind.EXITED, EventKind.REMOVED]


def test_of_an_undone_create_nothing_is_told() -> None:
    assert last_events(CREATING, CREATING, 1) == ()
    assert last_events(CREATING, CREATED, 1) == ()


def test_an_event_has_what_identifies_its_container() -> None:
    named = msgspec.structs.replace(STOPPED, name="web", labels={"app": "x"})
    event = event_of(EventKind.EXITED, named, 77)
    assert event == Event(
        EventKind.EXITED, "c1", 77, name="web", marks=marks_of({"app": "x"}), exit_status=EXIT
    )


def test_only_the_exit_has_an_exit_status() -> None:
    assert event_of(EventKind.REMOVED, STOPPED, 1).exit_status is None


EVENT = Event(EventKind.PAUSED, "c1", 1, marks=marks_of({"app": "web", "tier": "front"}))

WEB, DB, ZONE = (
    frozenset(marks_of(labels)) for labels in ({"app": "web"}, {"app": "db"}, {"zone": ""})
)


def test_of_the_largest_labels_an_event_has_little() -> None:
    labels = {f"{number:03}{'k' * 253}": "v" * 700 for number in range(256)}
    record = msgspec.structs.replace(STOPPED, name="n" * 255, labels=labels)
    assert len(msgspec.json.encode(event_of(EventKind.EXITED, record, 1))) < 6 << 10


def test_where_key_and_value_meet_makes_another_label() -> None:
    assert marks_of({"ab": "c"}) != marks_of({"a": "bc"})


@pytest.mark.parametrize(
    ("wanted", "matches"),
    [
        (EventFilter(), True),
        (EventFilter(object_id="c1"), True),
        (EventFilter(object_id="c"), False),
        (EventFilter(marks=WEB), True),
        (EventFilter(marks=DB), False),
        (EventFilter(marks=WEB | ZONE), False),
        (EventFilter(kinds=frozenset({EventKind.PAUSED, EventKind.RESUMED})), True),
        (EventFilter(kinds=frozenset({EventKind.RESUMED})), False),
        (EventFilter("c1", WEB, frozenset({EventKind.OOM})), False),
    ],
)
def test_a_filter_lets_through_what_matches_all_of_it(wanted: EventFilter, matches: bool) -> None:
    assert wanted.matches(EVENT) is matches
