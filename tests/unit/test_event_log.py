"""The journal: numbers that only rise, a bounded history, and followers who miss nothing."""

from __future__ import annotations

import shutil
import sqlite3
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, suppress
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ocigrpc.engine.model.events import Event, EventBatch, EventFilter, EventKind, Gap
from ocigrpc.engine.model.record import Record
from ocigrpc.engine.store import event_log
from ocigrpc.engine.store import last_number as last_number_file
from ocigrpc.engine.store.event_log import PAGE, Follower, beginning
from ocigrpc.engine.store.last_number import LastNumber
from ocigrpc.engine.store.store import Store
from ocigrpc.errors import Cancelled, LimitReached, StoreFailed
from ocigrpc.host.processes.process import boot_id
from ocigrpc.waiting import Deadline
from tests.bed.hosts.leaks import until
from tests.unit.test_store import RECORD

LIMIT_S = 20.0
HISTORY = 10
ALL = EventFilter()

OpenStore = Callable[..., Store]


@pytest.fixture
def open_store(tmp_path: Path) -> Iterator[OpenStore]:
    with ExitStack() as stack:

        def opened(history: int = HISTORY) -> Store:
            store = Store(tmp_path / "ocigrpc.db", history)
            stack.callback(store.close)
            return store

        yield opened


def write(store: Store, count: int, container_id: str = "c1") -> None:
    """So many changes, each with an event."""
    for index in range(count):
        store.put(RECORD, (Event(EventKind.STARTED, container_id, index),))


def published(store: Store, after: int | None = 0, wanted: EventFilter = ALL) -> list[Event]:
    """What there is by now behind ``after``, of those wanted."""
    return [event for news in all_news(store, after, wanted) for event in news.events]


def all_news(store: Store, after: int | None, wanted: EventFilter = ALL) -> list[EventBatch]:
    last = first_news(store, None).cursor
    found = []
    for news in store.event_log.follow(after, wanted, Deadline(LIMIT_S)):
        found.append(news)
        if news.cursor >= last:
            break
    return found


def sequences(store: Store, after: int = 0) -> list[int]:
    return [event.sequence for event in published(store, after)]


def first_news(store: Store, after: int | None) -> EventBatch:
    return next(iter(store.event_log.follow(after, ALL, Deadline(LIMIT_S))))


# Numbers.


def test_numbers_rise_by_one_in_one_boot(open_store: OpenStore) -> None:
    store = open_store()
    write(store, 3)
    first, *rest = sequences(store)
    assert rest == [first + 1, first + 2]


def test_numbers_go_on_after_a_restart_of_the_service(open_store: OpenStore) -> None:
    store = open_store()
    write(store, 2)
    before = sequences(store)
    store.close()
    again = open_store()
    write(again, 1)
    assert sequences(again) == [*before, before[-1] + 1]


def test_a_cursor_of_a_lost_store_is_never_taken_for_one_of_the_new_store(
    open_store: OpenStore, tmp_path: Path
) -> None:
    store = open_store()
    write(store, 3)
    cursor = sequences(store)[-1]
    store.close()
    (tmp_path / "ocigrpc.db").unlink()
    again = open_store()
    write(again, 5)
    gap = first_news(again, cursor).gap
    assert gap == Gap(cursor + 1, sequences(again)[0] - 1)


def test_numbers_that_a_replaced_store_has_given_are_not_given_again(tmp_path: Path) -> None:
    path, older = tmp_path / "ocigrpc.db", tmp_path / "backup"
    with closing(LastNumber(tmp_path / "last")) as last_number:

        def opened() -> Store:
            return Store(path, HISTORY, last_number)

        with closing(opened()) as store:
            write(store, 3)
            (*_, kept) = sequences(store)
        shutil.copy(path, older)
        with closing(opened()) as store:
            write(store, 4)
            (*_, seen, lost) = sequences(store)
            assert lost == kept + 4
        shutil.copy(older, path)
        with closing(opened()) as store:
            write(store, 2)
            assert min(sequences(store)) > lost
            assert first_news(store, seen).gap == Gap(seen + 1, sequences(store)[0] - 1)
            assert first_news(store, kept).gap == Gap(kept + 1, sequences(store)[0] - 1)
            new = sequences(store)
        with closing(opened()) as store:
            assert sequences(store) == new


def test_a_last_number_of_another_boot_says_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "last"
    with closing(LastNumber(path)) as last_number:
        last_number.write(1 << 60)
    with closing(LastNumber(path)) as last_number:
        assert last_number.read() == 1 << 60
        last_number.write(7)
        assert last_number.read() == 7
    monkeypatch.setattr(last_number_file, "boot_id", lambda: "the next boot")
    with closing(LastNumber(path)) as last_number:
        assert last_number.read() == 0


@pytest.mark.parametrize(
    "content",
    [b"", b"x", b"\xff\xfe", b"a b c", b"boot -1", f"{boot_id()} {1 << 62}".encode()],
)
def test_a_last_number_that_can_not_be_read_says_nothing(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "last"
    path.write_bytes(content)
    with closing(LastNumber(path)) as last_number:
        assert last_number.read() == 0
    with closing(LastNumber(tmp_path / "no" / "such")) as last_number:
        last_number.write(1)
        assert last_number.read() == 0


def test_numbers_lost_with_the_power_are_not_given_again(
    open_store: OpenStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store()
    write(store, 3)
    seen = sequences(store)
    store.close()
    with sqlite3.connect(tmp_path / "ocigrpc.db") as db:
        db.execute("DELETE FROM events WHERE sequence = ?", (seen[-1],))
    db.close()
    monkeypatch.setattr(event_log, "boot_id", lambda: "the next boot")
    again = open_store()
    write(again, 1)
    (after,) = sequences(again, seen[-1])
    assert after > seen[-1]
    assert first_news(again, seen[-1]).gap is None


def test_events_and_their_change_are_one(open_store: OpenStore) -> None:
    store = open_store()
    unwritable = msgspec.structs.replace(RECORD, container_id="half \ud800")
    with pytest.raises((StoreFailed, UnicodeEncodeError)):
        store.put(unwritable, (Event(EventKind.STARTED, "c1", 1),))
    assert published(store) == []
    bad = Event(EventKind.STARTED, "half \ud800", 1)
    with pytest.raises((StoreFailed, UnicodeEncodeError)):
        store.put(RECORD, (bad,))
    assert store.records(Record) == []
    write(store, 1)
    assert len(published(store)) == 1


# History.


def test_only_the_last_events_are_kept(open_store: OpenStore, tmp_path: Path) -> None:
    store = open_store()
    write(store, HISTORY)
    first = sequences(store)[0]
    write(store, 3)
    assert sequences(store) == list(range(first + 3, first + 3 + HISTORY))
    store.close()
    with sqlite3.connect(tmp_path / "ocigrpc.db") as db:
        assert db.execute("SELECT count(*) FROM events").fetchone() == (HISTORY,)
    db.close()


def test_a_smaller_history_is_trimmed_at_the_start(open_store: OpenStore) -> None:
    store = open_store()
    write(store, HISTORY)
    expected = sequences(store)[-4:]
    store.close()
    assert sequences(open_store(4)) == expected


def test_one_change_may_have_more_events_than_are_kept(open_store: OpenStore) -> None:
    store = open_store(2)
    many = tuple(Event(EventKind.STARTED, "c1", index) for index in range(5))
    store.put(RECORD, many)
    assert [event.time_ns for event in published(store)] == [3, 4]


def test_a_write_that_fails_makes_no_gap(
    open_store: OpenStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store()
    write(store, HISTORY)
    kept = sequences(store)

    def fail(*arguments: Any) -> None:
        append(*arguments)
        raise sqlite3.OperationalError("disk I/O error")

    with monkeypatch.context() as patched:
        append = store.event_log.append
        patched.setattr(store.event_log, "append", fail)
        with pytest.raises(StoreFailed):
            write(store, 3)
    assert first_news(store, kept[0] - 1).gap is None
    assert sequences(store, kept[0] - 1) == kept


def test_the_gap_of_events_that_were_never_stored_ends_where_others_follow(
    open_store: OpenStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store()
    write(store, 1)
    (cursor,) = sequences(store)

    def fail(*_: object, **__: object) -> None:
        raise StoreFailed("the disk is full")

    with monkeypatch.context() as patched:
        patched.setattr(store, "put", fail)
        for index in range(HISTORY + 3):
            store.note(RECORD, (Event(EventKind.STARTED, "c1", index),))
    write(store, 1)
    first, *rest = all_news(store, cursor)
    found = [event.sequence for news in rest for event in news.events]
    assert len(found) == HISTORY
    assert first.gap == Gap(cursor + 1, found[0] - 1)


# Where a follower begins.


@pytest.mark.parametrize(
    ("after", "expected"),
    [
        (None, (20, None)),
        (0, (10, None)),
        (10, (10, None)),
        (15, (15, None)),
        (20, (20, None)),
        (9, (10, Gap(10, 10))),
        (1, (10, Gap(2, 10))),
        (21, (20, Gap(1, 20))),
    ],
)
def test_what_is_missing_behind_a_cursor_is_told_exactly(
    after: int | None, expected: tuple[int, Gap | None]
) -> None:
    # The events from 11 to 20 are kept.
    assert beginning(after, 11, 20) == expected


def test_after_trimming_the_first_news_have_the_gap(open_store: OpenStore) -> None:
    store = open_store()
    write(store, HISTORY)
    cursor = sequences(store)[1]
    write(store, 5)
    first, *rest = all_news(store, cursor)
    assert first.gap == Gap(cursor + 1, cursor + 3)
    assert first.events == ()
    assert [news.gap for news in rest] == [None]
    assert rest[0].events[0].sequence == cursor + 4


def test_the_gap_is_the_same_after_a_restart(open_store: OpenStore) -> None:
    store = open_store()
    write(store, HISTORY)
    cursor = sequences(store)[1]
    write(store, 5)
    store.close()
    assert first_news(open_store(), cursor).gap == Gap(cursor + 1, cursor + 3)


def test_without_a_cursor_only_what_comes_is_told(open_store: OpenStore) -> None:
    store = open_store()
    write(store, 3)
    last = sequences(store)[-1]
    news = store.event_log.follow(None, ALL, Deadline(LIMIT_S))
    assert next(news) == EventBatch(last)
    write(store, 1)
    assert [event.sequence for event in next(news).events] == [last + 1]


def test_old_and_new_events_follow_each_other_without_a_seam(open_store: OpenStore) -> None:
    store = open_store(10 * PAGE)
    write(store, 2 * PAGE)
    store.close()
    again = open_store(10 * PAGE)
    following = again.event_log.follow(0, ALL, Deadline(LIMIT_S))
    writer = threading.Thread(target=write, args=(again, 2 * PAGE))
    writer.start()
    seen: list[int] = []
    for news in following:
        seen += [event.sequence for event in news.events]
        if len(seen) >= 4 * PAGE:
            break
    writer.join()
    assert seen == list(range(seen[0], seen[0] + 4 * PAGE))
    assert seen == sequences(again)


# Who follows.


def test_a_follower_gets_only_what_is_wanted_but_cursors_behind_all(
    open_store: OpenStore,
) -> None:
    store = open_store()
    write(store, 1, "other")
    write(store, 2, "mine")
    write(store, 1, "other")
    last = sequences(store)[-1]
    news = all_news(store, 0, EventFilter(object_id="mine"))
    assert [event.object_id for each in news for event in each.events] == ["mine"] * 2
    assert news[-1].cursor == last


def is_woken(follower: Follower) -> bool:
    return bool(Deadline().wait(follower.ready, timeout_s=0))


def event(sequence: int, container_id: str) -> Event:
    return Event(EventKind.STARTED, container_id, 1, sequence)


def test_a_follower_is_not_woken_by_what_is_not_wanted() -> None:
    follower = Follower(EventFilter(object_id="mine"), 5)
    follower.waits = True
    follower.notify([event(6, "other"), event(7, "other")], 100)
    assert not is_woken(follower)
    assert follower.read == 7
    follower.notify([event(8, "other"), event(9, "mine")], 100)
    assert is_woken(follower)
    assert follower.read == 7


def test_a_follower_is_woken_before_its_cursor_is_too_old() -> None:
    follower = Follower(EventFilter(object_id="mine"), 5)
    follower.waits = True
    follower.notify([event(10, "other")], 5)
    assert not is_woken(follower)
    follower.notify([event(11, "other")], 5)
    assert is_woken(follower)


def test_the_cursor_of_one_whose_events_are_rare_does_not_become_too_old(
    open_store: OpenStore,
) -> None:
    store = open_store()
    deadline = Deadline(LIMIT_S)
    cursors: list[int] = []

    def follow() -> None:
        wanted = EventFilter(object_id="mine")
        with suppress(Cancelled):
            for news in store.event_log.follow(None, wanted, deadline):
                cursors.append(news.cursor)

    with ThreadPoolExecutor(1) as pool:
        following = pool.submit(follow)
        until(lambda: any(each.waits for each in store.event_log._followers))
        (follower,) = store.event_log._followers
        for _ in range(5 * HISTORY):
            write(store, 1, "other")
            until(lambda: follower.waits)
            assert first_news(store, cursors[-1]).gap is None
        deadline.cancel()
        following.result(LIMIT_S)
    assert len(cursors) > 2


def test_one_that_is_too_slow_learns_where_it_was(open_store: OpenStore) -> None:
    store = open_store()
    write(store, HISTORY)
    news = store.event_log.follow(0, ALL, Deadline(LIMIT_S))
    next(news)
    write(store, 1)
    with pytest.raises(LimitReached) as caught:
        next(news)
    assert caught.value.reason == "EVENTS_TOO_SLOW"
    cursor = int(caught.value.metadata["cursor"])
    # He had nothing but the start, of which one event is gone by now.
    assert first_news(store, cursor).gap == Gap(cursor + 1, cursor + 1)


def test_who_is_slow_holds_up_nobody(open_store: OpenStore) -> None:
    store = open_store()
    slow = store.event_log.follow(None, ALL, Deadline(LIMIT_S))
    quick = store.event_log.follow(None, ALL, Deadline(LIMIT_S))
    next(slow)
    next(quick)
    for index in range(5 * HISTORY):
        write(store, 1)
        assert len(next(quick).events) == 1, index
    with pytest.raises(LimitReached):
        next(slow)


def test_who_leaves_is_forgotten(open_store: OpenStore) -> None:
    store = open_store()
    deadline = Deadline(LIMIT_S)
    news = store.event_log.follow(None, ALL, deadline)
    next(news)
    deadline.cancel()
    with pytest.raises(Cancelled):
        list(islice(news, 2))
    closed = store.event_log.follow(None, ALL, Deadline(LIMIT_S))
    next(closed)
    closed.close()
    assert store.event_log._followers == set()
