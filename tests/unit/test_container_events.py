"""A container's changes, in the store, and the events that they make."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from ocigrpc.engine.containers.container import Container
from ocigrpc.engine.containers.context import Context
from ocigrpc.engine.model.events import EventFilter, EventKind
from ocigrpc.engine.model.record import Record
from ocigrpc.engine.model.values import ExitStatus, Provenance, State
from ocigrpc.engine.store.store import Store
from ocigrpc.errors import StoreFailed
from ocigrpc.host.cgroups.hierarchy import Hierarchies
from ocigrpc.settings.values import Settings
from ocigrpc.waiting import Deadline
from tests.unit.test_store import RECORD, intents

EXIT = ExitStatus(provenance=Provenance.EXIT_FILE, finished_ns=9, exit_code=3)
KILLED = ExitStatus(provenance=Provenance.EXIT_FILE, finished_ns=9, exit_code=137, signal=9)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with closing(Store(tmp_path / "db", 100)) as store:
        yield store


@pytest.fixture
def container(store: Store) -> Container:
    """One that is being created."""
    record = msgspec.structs.replace(RECORD, state=State.CREATING, init=None, exit_status=None)
    container = Container(record, store, Context(Settings(), Hierarchies.detect()))
    container.begin("create")
    return container


def create(container: Container) -> None:
    container.update("create", state=State.CREATED)


def stored_kinds(store: Store) -> list[str]:
    """The kinds of all events until now."""
    last = next(store.event_log.follow(None, EventFilter(), Deadline())).cursor
    kinds: list[str] = []
    for news in store.event_log.follow(0, EventFilter(), Deadline(20)):
        kinds += [event.kind.value for event in news.events]
        if news.cursor >= last:
            break
    return kinds


def test_each_change_is_told_once(container: Container, store: Store) -> None:
    create(container)
    container.update(state=State.RUNNING, started_ns=5)
    container.begin("stop")
    container.update(state=State.STOPPED, exit_status=EXIT)
    container.update("stop")
    container.begin("remove")
    container.delete()
    assert stored_kinds(store) == ["created", "started", "exited", "removed"]


def test_an_undone_create_is_not_told(container: Container, store: Store) -> None:
    container.delete()
    assert stored_kinds(store) == []


def test_what_leaves_no_trace_is_told_all_the_same(container: Container, store: Store) -> None:
    create(container)
    container.record_event(EventKind.UPDATED)
    container.record_event(EventKind.UPDATED)
    assert stored_kinds(store) == ["created", "updated", "updated"]


def test_a_removed_container_is_not_written_again(container: Container, store: Store) -> None:
    create(container)
    container.delete()
    container.update(state=State.STOPPED, exit_status=EXIT)
    container.begin("stop")
    container.update("stop")
    container.record_event(EventKind.UPDATED)
    assert store.records(Record) == []
    assert intents(store) == set()
    assert stored_kinds(store) == ["created", "removed"]


def test_what_could_not_be_written_is_told_with_the_next_change(
    container: Container, store: Store
) -> None:
    create(container)
    store._db.execute("PRAGMA query_only = ON")
    container.update(state=State.RUNNING, started_ns=5)
    assert container.record.state is State.RUNNING
    store._db.execute("PRAGMA query_only = OFF")
    assert stored_kinds(store) == ["created"]
    container.update(state=State.STOPPED, exit_status=EXIT)
    assert stored_kinds(store) == ["created", "started", "exited"]
    assert store.records(Record) == [container.record]


def test_an_end_that_is_noted_before_the_start_is_told_after_it(
    container: Container, store: Store
) -> None:
    create(container)
    with container.transaction("start"):
        container.update(state=State.STOPPED, exit_status=EXIT)
        assert container.record.exit_status == EXIT
        assert stored_kinds(store) == ["created"]
        container.update(state=State.RUNNING, started_ns=5)
    assert stored_kinds(store) == ["created", "started", "exited"]
    assert container.record.state is State.STOPPED
    assert store.records(Record) == [container.record]


def test_an_end_during_a_start_that_failed_is_told(container: Container, store: Store) -> None:
    def start() -> None:
        with container.transaction("start"):
            container.update(state=State.STOPPED, exit_status=KILLED)
            raise KeyError

    create(container)
    with pytest.raises(KeyError):
        start()
    assert stored_kinds(store) == ["created", "exited"]


def test_a_stop_during_a_start_does_not_tell_the_end_before_it(
    container: Container, store: Store
) -> None:
    create(container)
    with container.transaction("start"):
        container.begin("stop")
        assert intents(store) == {("c1", "start"), ("c1", "stop")}
        container.update(state=State.STOPPED, exit_status=EXIT)
        container.update("stop")
        assert intents(store) == {("c1", "start")}
        container.update(state=State.RUNNING, started_ns=5)
    assert intents(store) == set()
    assert stored_kinds(store) == ["created", "started", "exited"]


def test_a_removal_tells_what_was_not_told_before(container: Container, store: Store) -> None:
    create(container)
    store._db.execute("PRAGMA query_only = ON")
    container.update(state=State.STOPPED, exit_status=KILLED)
    store._db.execute("PRAGMA query_only = OFF")
    container.delete()
    assert stored_kinds(store) == ["created", "exited", "removed"]


def test_a_removal_that_could_not_be_written_is_none(container: Container, store: Store) -> None:
    create(container)
    store._db.execute("PRAGMA query_only = ON")
    with pytest.raises(StoreFailed):
        container.delete()
    store._db.execute("PRAGMA query_only = OFF")
    container.update(state=State.STOPPED, exit_status=EXIT)
    assert store.records(Record) == [container.record]


def test_a_create_that_could_not_be_written_is_forgotten(
    container: Container, store: Store
) -> None:
    store._db.execute("PRAGMA query_only = ON")
    with pytest.raises(StoreFailed):
        container.commit("create", state=State.CREATED)
    container.delete()
    store._db.execute("PRAGMA query_only = OFF")
    container.update(state=State.STOPPED, exit_status=EXIT)
    assert stored_kinds(store) == []
