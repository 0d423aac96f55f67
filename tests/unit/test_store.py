"""The store: what is written is there again, and what can't be read is never overwritten."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from ocigrpc.engine.record import Record, fingerprint
from ocigrpc.engine.store import SCHEMA_VERSION, Store
from ocigrpc.engine.values import (
    BundleSource,
    CreateRequest,
    ExitStatus,
    Provenance,
    State,
)
from ocigrpc.errors import StoreFailed
from ocigrpc.host.process import Identity

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
    assert again.records() == [RECORD]
    again.close()


def test_an_intent_lasts_until_its_outcome(store: Store) -> None:
    store.begin("stop", RECORD)
    store.begin("remove", RECORD)
    assert store.intents() == {("c1", "stop"), ("c1", "remove")}
    store.end("stop", RECORD)
    assert store.intents() == {("c1", "remove")}


def test_deleting_a_container_deletes_its_intents(store: Store) -> None:
    store.begin("remove", RECORD)
    store.delete("c1")
    assert store.records() == []
    assert store.intents() == frozenset()


def test_only_the_owner_may_read_it(path: Path, store: Store) -> None:
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_store_of_a_newer_schema_is_refused_and_left_as_it_is(path: Path) -> None:
    with sqlite3.connect(path) as db:
        db.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    db.close()
    before = path.read_bytes()
    with pytest.raises(StoreFailed) as caught:
        Store(path, 100)
    assert caught.value.reason == "STORE_NEWER"
    assert caught.value.metadata["path"] == str(path)
    assert path.read_bytes() == before


def test_another_programs_database_is_refused(path: Path) -> None:
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE theirs (x)")
    db.close()
    with pytest.raises(StoreFailed) as caught:
        Store(path, 100)
    assert caught.value.reason == "STORE_FOREIGN"


def test_what_is_no_database_is_refused_and_left_as_it_is(path: Path) -> None:
    path.write_bytes(b"x" * 4096)
    with pytest.raises(StoreFailed) as caught:
        Store(path, 100)
    assert caught.value.metadata["path"] == str(path)
    assert path.read_bytes() == b"x" * 4096


def test_a_record_that_cannot_be_read_is_a_typed_error(path: Path, store: Store) -> None:
    store.put(RECORD)
    store.close()
    with sqlite3.connect(path) as db:
        db.execute("UPDATE containers SET record = x'00'")
    db.close()
    again = Store(path, 10)
    with pytest.raises(StoreFailed) as caught:
        again.records()
    again.close()
    assert caught.value.reason == "STORE_CORRUPT"


def test_a_failed_write_leaves_the_store_usable(store: Store) -> None:
    unwritable = msgspec.structs.replace(RECORD, container_id="half \ud800")
    with pytest.raises((StoreFailed, UnicodeEncodeError)):
        store.put(unwritable)
    store.put(RECORD)
    assert store.records() == [RECORD]


def test_equal_requests_have_the_same_fingerprint_and_others_do_not() -> None:
    request = CreateRequest(BundleSource("/b"), labels={"x": "1", "y": "2"})
    same = CreateRequest(BundleSource("/b"), labels={"y": "2", "x": "1"})
    assert fingerprint(request) == fingerprint(same)
    assert fingerprint(request) != fingerprint(msgspec.structs.replace(request, stdin=True))
