"""A backup of the store is a store, whatever happens to the first one meanwhile."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from ocigrpc.engine.model.events import Event, EventKind
from ocigrpc.engine.model.record import Record
from ocigrpc.engine.store import backup
from ocigrpc.engine.store.store import Store
from ocigrpc.errors import Cancelled, StoreFailed
from ocigrpc.waiting import Deadline
from tests.unit.test_store import RECORD

LIMIT_S = 20.0
HISTORY = 100


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store" / "ocigrpc.db"


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    path.parent.mkdir()
    with closing(Store(path, HISTORY)) as store:
        yield store


def record(number: int) -> Record:
    return msgspec.structs.replace(
        RECORD, container_id=f"c{number:04}", annotations={"note": os.urandom(2000).hex()}
    )


def fill(store: Store, count: int) -> list[Record]:
    """So many containers, of 4 KiB each."""
    records = [record(number) for number in range(count)]
    for each in records:
        store.put(each, (Event(EventKind.CREATED, each.container_id, 1),))
    return records


def files(path: Path) -> set[str]:
    """What is in the store's directory."""
    return {each.name for each in path.parent.iterdir()}


def restored(pieces: Iterator[bytes], path: Path) -> list[Record]:
    """The records that a store has which was made from these pieces."""
    path.write_bytes(b"".join(pieces))
    with closing(Store(path, HISTORY)) as store:
        return store.records(Record)


def test_a_backup_is_a_store_with_all_that_was_written(store: Store, path: Path) -> None:
    records = fill(store, 200)
    pieces = list(store.backup(Deadline(LIMIT_S)))
    assert max(map(len, pieces)) == 256 << 10
    assert restored(iter(pieces), path.parents[1] / "copy") == records
    assert files(path) == {"ocigrpc.db", "ocigrpc.db-wal"}


def test_what_is_written_during_a_backup_waits_for_a_part_of_it_and_is_in_it(
    store: Store, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backup, "_PAGES", 1)
    fill(store, 300)
    deadline = Deadline(LIMIT_S)
    begun, written = threading.Event(), threading.Event()
    wait = deadline.wait

    def paused(*, timeout_s: float) -> object:
        begun.set()
        # Whoever waits for the store gets it now, and the backup goes on afterwards.
        assert written.wait(LIMIT_S)
        return wait(timeout_s=timeout_s)

    monkeypatch.setattr(deadline, "wait", paused)
    late = record(1000)

    def write() -> None:
        assert begun.wait(LIMIT_S)
        store.put(late, (Event(EventKind.CREATED, late.container_id, 1),))
        store.delete(record(7).key)
        written.set()

    writer = threading.Thread(target=write)
    writer.start()
    records = restored(store.backup(deadline), path.parents[1] / "copy")
    writer.join()
    assert records == store.records(Record)
    assert late in records
    assert len(records) == 300


def test_what_is_owed_is_in_a_backup(store: Store, path: Path) -> None:
    store._db.execute("PRAGMA query_only = ON")
    store.note(RECORD)
    store._db.execute("PRAGMA query_only = OFF")
    assert restored(store.backup(Deadline(LIMIT_S)), path.parents[1] / "copy") == [RECORD]


def test_no_backup_is_made_of_a_store_that_owes_something(store: Store) -> None:
    store._db.execute("PRAGMA query_only = ON")
    with pytest.raises(StoreFailed):
        next(store.backup(Deadline(LIMIT_S)))
    store._db.execute("PRAGMA query_only = OFF")


@pytest.mark.parametrize("taken", [0, 1, 2])
def test_nothing_is_left_of_a_backup_that_nobody_reads_to_its_end(
    store: Store, path: Path, taken: int
) -> None:
    fill(store, 200)
    before = os.listdir("/proc/self/fd")
    pieces = store.backup(Deadline(LIMIT_S))
    for _ in range(taken):
        next(pieces)
    pieces.close()
    assert os.listdir("/proc/self/fd") == before
    assert files(path) == {"ocigrpc.db", "ocigrpc.db-wal"}


def test_a_client_that_goes_ends_a_backup_between_two_parts(store: Store, path: Path) -> None:
    records = fill(store, 200)
    before = os.listdir("/proc/self/fd")
    deadline = Deadline(LIMIT_S)
    deadline.cancel()
    with pytest.raises(Cancelled):
        next(store.backup(deadline))
    assert os.listdir("/proc/self/fd") == before
    assert restored(store.backup(Deadline(LIMIT_S)), path.parents[1] / "copy") == records


def test_a_backup_does_not_fill_the_disk(
    store: Store, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(store, 20)
    real = os.statvfs(path.parent)
    full = os.statvfs_result((*real[:4], 1, *real[5:]))
    monkeypatch.setattr(os, "statvfs", lambda _: full)
    with pytest.raises(StoreFailed) as caught:
        next(store.backup(Deadline(LIMIT_S)))
    assert caught.value.reason == "STORE_FAILED"
    assert caught.value.metadata["path"] == str(path)
    assert files(path) == {"ocigrpc.db", "ocigrpc.db-wal"}


def test_what_a_killed_service_has_left_of_a_backup_is_in_nobodys_way(
    store: Store, path: Path
) -> None:
    records = fill(store, 2)
    path.with_name("ocigrpc.db.copy").write_bytes(b"x" * 100)
    assert restored(store.backup(Deadline(LIMIT_S)), path.parents[1] / "copy") == records
    assert not path.with_name("ocigrpc.db.copy").exists()


def test_only_the_first_start_with_a_backup_forgets_what_had_begun(
    store: Store, path: Path
) -> None:
    stopping = msgspec.structs.replace(RECORD, begun=frozenset({"stop"}))
    store.begin(stopping)
    copy = path.parents[1] / "copy"
    assert restored(store.backup(Deadline(LIMIT_S)), copy) == [RECORD]
    for begun in (RECORD, stopping):
        with closing(Store(copy, HISTORY)) as first:
            assert first.records(Record) == [begun]
            first.begin(stopping)
    assert store.records(Record) == [stopping]
