"""The store: what is written is there again, and what can't be read is never overwritten."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import msgspec
import pytest

from ocigrpc.engine.model.events import Event, EventFilter, EventKind
from ocigrpc.engine.model.image_records import ImageRecord, PullRecord
from ocigrpc.engine.model.record import Record, fingerprint
from ocigrpc.engine.model.values import (
    BundleSource,
    CreateRequest,
    ExitStatus,
    Provenance,
    State,
)
from ocigrpc.engine.store.database import add_seal
from ocigrpc.engine.store.store import SCHEMA_VERSION, Store, outdated_records
from ocigrpc.errors import StoreFailed, Timeout
from ocigrpc.host.processes.process import Identity
from ocigrpc.oci.images.platform import Platform
from ocigrpc.waiting import Deadline

Contents = tuple[list[Record], list[Event]]

RECORD = Record(
    container_id="c1",
    fingerprint="f",
    created_ns=1,
    state=State.STOPPED,
    runtime_handler="runc",
    cgroup_manager="cgroupfs",
    cgroup_parent="/p",
    cgroup_path="/p/c1",
    bundle_path="/b",
    log_path="/l",
    stop_signal=15,
    labels={"a": "b"},
    init=Identity(7, 8, "boot"),
    init_program=(1, 2),
    exit_status=ExitStatus(provenance=Provenance.EXIT_FILE, finished_ns=9, exit_code=3),
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ocigrpc.db"


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    store = Store(path, 100)
    yield store
    store.close()


def test_a_record_is_there_again_as_it_was(path: Path, store: Store) -> None:
    store.put(RECORD)
    store.close()
    again = Store(path, 100)
    assert again.records(Record) == [RECORD]
    again.close()


def test_an_intent_lasts_until_its_outcome(store: Store) -> None:
    store.begin(begun("stop"))
    store.begin(begun("stop", "remove"))
    assert intents(store) == {("c1", "stop"), ("c1", "remove")}
    store.put(begun("remove"))
    assert intents(store) == {("c1", "remove")}


def begun(*verbs: str) -> Record:
    return msgspec.structs.replace(RECORD, begun=frozenset(verbs))


def intents(store: Store) -> set[tuple[str, str]]:
    """Id and verb of every change that has begun and not ended."""
    records = store.records(Record)
    return {(record.container_id, verb) for record in records for verb in record.begun}


def test_deleting_a_container_deletes_its_intents(store: Store) -> None:
    store.begin(begun("remove"))
    store.delete(RECORD.key)
    assert store.records(Record) == []
    store.put(RECORD)
    assert intents(store) == set()


def test_a_store_is_looked_at_without_any_room_but_beside_it(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(Store(path, 100)) as store:
        store.put(RECORD)
    monkeypatch.setattr("tempfile.tempdir", "/proc/nowhere")
    before = sorted(path.parent.iterdir())
    assert outdated_records(path, 0) is None
    assert sorted(path.parent.iterdir()) == before


def test_only_the_owner_may_read_it(path: Path, store: Store) -> None:
    assert path.stat().st_mode & 0o777 == 0o600


def refused(path: Path, history: int = 100) -> StoreFailed:
    """The error with which the store at a path is refused; its files stay as they are."""
    before = content(path)
    with pytest.raises(StoreFailed) as caught:
        Store(path, history)
    assert caught.value.metadata["path"] == str(path)
    assert content(path) == before
    return caught.value


def content(path: Path) -> dict[str, bytes]:
    """What is in the file of a store, and in its write-ahead log unless that is empty."""
    wal = path.with_name(f"{path.name}-wal")
    files = [path, *([wal] if wal.is_file() and wal.stat().st_size else [])]
    return {each.name: each.read_bytes() for each in files if each.is_file()}


@contextmanager
def killed(path: Path) -> Iterator[Path]:
    """A copy of a store whose service was killed; the path of its write-ahead log."""
    store = Store(path, 100)
    for number in range(50):
        store.put(msgspec.structs.replace(RECORD, container_id=f"c{number}"))
    kept = content(path)
    store.close()
    for name, data in kept.items():
        path.with_name(name).write_bytes(data)
    yield path.with_name(f"{path.name}-wal")


@pytest.mark.parametrize(("step", "reason"), [(1, "STORE_NEWER"), (-1, "STORE_OLDER")])
def test_a_store_of_another_schema_is_refused_and_left_as_it_is(
    path: Path, step: int, reason: str
) -> None:
    Store(path, 100).close()
    with killed(path):
        with closing(sqlite3.connect(path)) as db:
            db.execute(f"PRAGMA user_version = {SCHEMA_VERSION + step}")
            kept = content(path)
        for name, data in kept.items():
            path.with_name(name).write_bytes(data)
        assert refused(path).reason == reason


def test_another_programs_database_is_refused(path: Path) -> None:
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("CREATE TABLE theirs (x)")
    assert refused(path).reason == "STORE_FOREIGN"
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("PRAGMA application_id = 7")
    assert refused(path).reason == "STORE_FOREIGN"


def damaged_header(data: bytes) -> bytes:
    return b"x" * 100 + data[100:]


def damaged_middle(data: bytes) -> bytes:
    return data[:4096] + b"x" * 4096 + data[8192:]


def truncated(data: bytes) -> bytes:
    return data[: len(data) // 2]


def emptied(data: bytes) -> bytes:
    return b""


@pytest.mark.parametrize("damage", [damaged_header, damaged_middle, truncated, emptied])
def test_a_damaged_store_is_refused_and_left_as_it_is(
    path: Path, store: Store, damage: Callable[[bytes], bytes]
) -> None:
    for number in range(100):
        store.put(msgspec.structs.replace(RECORD, container_id=f"c{number}"))
    store.close()
    path.write_bytes(damage(path.read_bytes()))
    assert refused(path).reason == "STORE_CORRUPT"


@pytest.fixture
def sound(path: Path) -> tuple[bytes, Contents]:
    """The file of a store that has ended, with rows in every table; and what it holds."""
    store = Store(path, 100)
    for number in range(40):
        record = msgspec.structs.replace(begun("stop"), container_id=f"c{number}")
        store.begin(record, (Event(EventKind.STARTED, record.container_id, number),))
    # One that does not fit a page.
    store.put(msgspec.structs.replace(RECORD, labels={"a": "b" * 20_000}))
    held = held_by(store)
    store.close()
    return path.read_bytes(), held


def held_by(store: Store) -> Contents:
    return store.records(Record), store._events(0, 1000)


@pytest.mark.parametrize("size_bytes", [*range(1, 64), 4095, 4096, 4097, 5 * 4096, 9 * 4096 + 7])
def test_a_store_that_was_cut_off_is_refused(
    path: Path, sound: tuple[bytes, Contents], size_bytes: int
) -> None:
    path.write_bytes(sound[0][:-size_bytes])
    assert refused(path).reason == "STORE_CORRUPT"


@pytest.mark.parametrize("size_bytes", [1, 40, 4096])
def test_a_store_with_more_behind_it_is_refused(
    path: Path, sound: tuple[bytes, Contents], size_bytes: int
) -> None:
    path.write_bytes(sound[0] + bytes(size_bytes))
    assert refused(path).reason == "STORE_CORRUPT"


def zeroed(data: bytes, where: int) -> bytes:
    page = where // 4096 * 4096
    return data[:page] + bytes(4096) + data[page + 4096 :]


def test_a_store_is_refused_or_all_of_it_is_there_whatever_byte_is_damaged(
    path: Path, sound: tuple[bytes, Contents]
) -> None:
    whole, held = sound
    harmless = 0
    for where in range(0, len(whole), 101):
        path.write_bytes(flipped(whole, where))
        try:
            with closing(Store(path, 100)) as store:
                assert held_by(store) == held, where
            harmless += 1
        except StoreFailed:
            path.with_name(f"{path.name}-wal").unlink(missing_ok=True)
    # In what is free of a page, where nothing is.
    assert harmless < len(whole) // 101 // 2


def test_a_store_with_an_empty_page_is_refused(path: Path, sound: tuple[bytes, Contents]) -> None:
    for where in range(0, len(sound[0]), 4096):
        path.write_bytes(zeroed(sound[0], where))
        assert refused(path).reason in ("STORE_CORRUPT", "STORE_FOREIGN"), where


@pytest.mark.parametrize("table", ["records", "events", "event_log"])
@pytest.mark.parametrize("change", ["DROP TABLE {}", "ALTER TABLE {} RENAME TO other"])
def test_a_store_without_one_of_its_tables_is_refused(
    path: Path, sound: tuple[bytes, Contents], table: str, change: str
) -> None:
    with closing(sqlite3.connect(path)) as db, db:
        db.execute(change.format(table))
    assert refused(path).reason == "STORE_CORRUPT"


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE records SET record = replace(record, 'runc', 'crun')",
        "UPDATE records SET id = 'other' WHERE id = 'c7'",
        "UPDATE records SET record = replace(record, 'stop', 'start')",
        "UPDATE events SET sequence = sequence - 1",
        "UPDATE event_log SET first = first - 1",
    ],
)
def test_a_row_that_nobody_has_written_so_is_refused(
    path: Path, sound: tuple[bytes, Contents], change: str
) -> None:
    with closing(sqlite3.connect(path)) as db, db:
        db.execute(change)
    assert refused(path).reason == "STORE_CORRUPT"


def test_a_rollback_journal_that_is_not_its_own_is_refused(path: Path, store: Store) -> None:
    store.close()
    path.with_name(f"{path.name}-journal").write_bytes(b"x")
    assert refused(path).reason == "STORE_CORRUPT"


def flipped(data: bytes, where: int) -> bytes:
    return data[:where] + bytes([data[where] ^ 1]) + data[where + 1 :]


@pytest.mark.parametrize("where", [0, 20, 32, 1000, 60_000])
def test_a_damaged_write_ahead_log_is_refused_and_left_as_it_is(path: Path, where: int) -> None:
    with killed(path) as wal:
        wal.write_bytes(flipped(wal.read_bytes(), where))
        assert refused(path).reason == "STORE_CORRUPT"


def test_of_a_damaged_write_ahead_log_no_more_than_the_last_write_is_taken_for_cut_off(
    path: Path,
) -> None:
    with killed(path) as wal:
        whole = content(path)
        for where in range(0, len(whole[wal.name]), 1009):
            path.write_bytes(whole[path.name])
            wal.write_bytes(flipped(whole[wal.name], where))
            with suppress(StoreFailed), closing(Store(path, 100)) as again:
                assert len(again.records(Record)) >= 49, where


@pytest.mark.parametrize("cut_off_bytes", [0, 1, 4120])
def test_a_write_that_was_cut_off_has_not_been(path: Path, cut_off_bytes: int) -> None:
    with killed(path) as wal:
        os.truncate(wal, wal.stat().st_size - cut_off_bytes)
        with closing(Store(path, 100)) as again:
            assert len(again.records(Record)) == (49 if cut_off_bytes else 50)


def test_a_log_of_before_the_node_was_started_anew_may_lack_anything(path: Path) -> None:
    with killed(path) as wal:
        wal.write_bytes(flipped(wal.read_bytes(), 60_000))
        os.utime(wal, (1, 1))
        with closing(Store(path, 100)) as again:
            assert len(again.records(Record)) < 50


def test_a_log_without_its_store_is_refused(path: Path) -> None:
    with killed(path):
        path.unlink()
        assert refused(path).reason == "STORE_CORRUPT"
        assert not path.exists()


def test_an_empty_log_without_a_store_says_nothing(path: Path) -> None:
    path.with_name(f"{path.name}-wal").touch()
    Store(path, 100).close()


def test_a_directory_in_its_place_is_refused(path: Path) -> None:
    path.mkdir()
    assert refused(path).reason == "STORE_FAILED"
    assert list(path.iterdir()) == []


@pytest.mark.parametrize("table", ["records", "events"])
def test_a_record_that_cannot_be_read_is_refused(path: Path, store: Store, table: str) -> None:
    store.put(RECORD, (Event(EventKind.STARTED, "c1", 1),))
    store.close()
    key, column = {
        "records": ("kind, id", "record"),
        "events": ("sequence", "event"),
    }[table]
    with closing(sqlite3.connect(path)) as db, db:
        add_seal(db)
        db.execute(f"UPDATE {table} SET {column} = x'00', seal = seal({key}, x'00')")
    assert refused(path).reason == "STORE_CORRUPT"


def test_a_store_whose_making_was_cut_off_is_made_anew(path: Path) -> None:
    path.with_name(f"{path.name}.new").write_bytes(b"x" * 100)
    Store(path, 100).close()
    assert [each.name for each in path.parent.iterdir()] == [path.name]


def move(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))


def replace(path: Path) -> None:
    copy = path.with_name("copy")
    copy.write_bytes(path.read_bytes())
    copy.rename(path)


@pytest.mark.parametrize("name", ["ocigrpc.db", "ocigrpc.db-wal"])
@pytest.mark.parametrize("change", [move, replace])
def test_what_would_be_written_to_a_file_that_is_gone_is_refused(
    path: Path, store: Store, change: Callable[[Path], None], name: str
) -> None:
    store.put(RECORD)
    change(path.with_name(name))
    with pytest.raises(StoreFailed) as caught:
        store.begin(begun("stop"))
    assert (caught.value.reason, caught.value.metadata["path"]) == ("STORE_REPLACED", str(path))
    with pytest.raises(StoreFailed):
        store.check()


def test_what_can_be_read_in_its_place_is_known(path: Path, store: Store) -> None:
    store.probe(Deadline(0.0))
    store.put(RECORD)
    store.probe(Deadline(10))
    path.rename(f"{path}.away")
    with pytest.raises(StoreFailed) as caught:
        store.probe(Deadline(10))
    assert caught.value.reason == "STORE_REPLACED"


def test_a_read_or_write_that_hangs_is_known_at_the_deadline(store: Store) -> None:
    with store._lock, pytest.raises(Timeout):
        store.probe(Deadline(0.01))
    store.probe(Deadline(10))


def test_a_size_that_can_not_be_taken_is_a_failure_of_the_store(tmp_path: Path) -> None:
    directory = tmp_path / "root"
    directory.mkdir()
    path = directory / "ocigrpc.db"
    with closing(Store(path, 100)) as store:
        directory.rename(tmp_path / "elsewhere")
        directory.write_text("no directory")
        with pytest.raises(StoreFailed) as caught:
            store.size_bytes()
    assert (caught.value.reason, caught.value.metadata["path"]) == ("STORE_FAILED", str(path))


def test_a_store_that_is_put_back_in_its_place_goes_on(path: Path, store: Store) -> None:
    store.put(RECORD)
    move(path)
    noted = msgspec.structs.replace(RECORD, container_id="c2")
    store.note(noted)
    path.with_name("elsewhere").rename(path)
    store.check()
    assert store.records(Record) == [RECORD, noted]


def owe(store: Store, count: int) -> None:
    """Have so many events noted that can't be written now."""
    store._db.execute("PRAGMA query_only = ON")
    for number in range(count):
        store.note(RECORD, (Event(EventKind.STARTED, "c1", number),))
    store._db.execute("PRAGMA query_only = OFF")


def test_what_is_owed_is_written_before_anything_else(store: Store) -> None:
    store.begin(begun("stop"))
    store._db.execute("PRAGMA query_only = ON")
    store.note(RECORD, (Event(EventKind.EXITED, "c1", 1),))
    assert intents(store) == {("c1", "stop")}
    store._db.execute("PRAGMA query_only = OFF")
    another = msgspec.structs.replace(RECORD, container_id="c2")
    store.put(another, (Event(EventKind.CREATED, "c2", 2),))
    assert intents(store) == set()
    store.delete(RECORD.key, (Event(EventKind.REMOVED, "c1", 3),))
    assert store.records(Record) == [another]
    assert [event.time_ns for event in store._events(0, 10)] == [1, 2, 3]


def test_what_is_owed_is_written_without_another_change(store: Store) -> None:
    owe(store, 1)
    news = store.event_log.follow(0, EventFilter(), Deadline(20))
    assert [event.time_ns for batch in (next(news), next(news)) for event in batch.events] == [0]
    assert store.records(Record) == [RECORD]


def test_of_more_events_than_are_kept_those_that_are_lost_are_told_as_a_gap(path: Path) -> None:
    with closing(Store(path, 10)) as store:
        store.put(RECORD, (Event(EventKind.CREATED, "c1", 0),))
        after = store._events(0, 10)[0].sequence
        owe(store, 25)
        store.check()
        news = next(store.event_log.follow(after, EventFilter(), Deadline(20)))
        assert news.gap is not None
        assert (news.gap.first, news.gap.last) == (after + 1, after + 15)
        kept = [(event.sequence, event.time_ns) for event in store._events(after, 100)]
        assert kept == [(after + 16 + index, 15 + index) for index in range(10)]


def test_a_failed_write_leaves_the_store_usable(store: Store) -> None:
    unwritable = msgspec.structs.replace(RECORD, container_id="half \ud800")
    with pytest.raises((StoreFailed, UnicodeEncodeError)):
        store.put(unwritable)
    store.put(RECORD)
    assert store.records(Record) == [RECORD]


def test_equal_requests_have_the_same_fingerprint_and_others_do_not() -> None:
    request = CreateRequest(BundleSource("/b"), labels={"x": "1", "y": "2"})
    same = CreateRequest(BundleSource("/b"), labels={"y": "2", "x": "1"})
    assert fingerprint(request) == fingerprint(same)
    assert fingerprint(request) != fingerprint(msgspec.structs.replace(request, stdin=True))


def test_records_of_other_kinds_are_kept_apart(path: Path, store: Store) -> None:
    digest = "sha256:" + "0a" * 32
    image = ImageRecord("c1", pulled_ns=1, digests={"r.io/a:1": digest})
    pull = PullRecord("c1", "docker://r.io/a", digest, Platform(), (digest,), began_ns=2)
    records = (RECORD, image, pull)
    for record in records:
        store.put(record)
    store.sync()
    store.close()
    again = Store(path, 100)
    assert [*again.records(Record), *again.records(ImageRecord), *again.records(PullRecord)] == [
        *records
    ]
    again.delete(pull.key)
    assert (again.records(PullRecord), again.records(Record)) == ([], [RECORD])
    again.close()


def test_a_store_that_is_gone_is_not_synced(path: Path, store: Store) -> None:
    path.with_name(f"{path.name}-wal").unlink()
    with pytest.raises(StoreFailed):
        store.sync()
