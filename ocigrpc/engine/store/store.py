"""The store: the record of every object, every change that has begun but not ended, and events.

SQLite in WAL mode with ``synchronous=NORMAL``: what is written survives the end of the
service at any moment; a loss of power may take the last moments with it, but then no
container lives on either. There is one writer, this process: it keeps others out.
"""

from __future__ import annotations

import sqlite3
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec

from ocigrpc.engine.model.events import Event
from ocigrpc.engine.model.record import Record
from ocigrpc.engine.model.values import ObjectKey, ObjectKind
from ocigrpc.engine.store import event_log
from ocigrpc.engine.store.database import Database
from ocigrpc.engine.store.event_log import EventLog
from ocigrpc.errors import StoreFailed
from ocigrpc.log import get_logger

log = get_logger()

_SCHEMA = (
    """
CREATE TABLE records (
    kind TEXT NOT NULL, id TEXT NOT NULL, record BLOB NOT NULL, seal INTEGER NOT NULL,
    PRIMARY KEY (kind, id)
) WITHOUT ROWID;
CREATE TABLE intents (
    kind TEXT NOT NULL, id TEXT NOT NULL, verb TEXT NOT NULL, seal INTEGER NOT NULL,
    PRIMARY KEY (kind, id, verb)
) WITHOUT ROWID;
"""
    + event_log.SCHEMA
)

# Rises with every change of the schema, and of what the columns hold.
SCHEMA_VERSION = 4

_RETRY_S = 1.0

# Made now: msgspec crashes when two threads make one for the same type for the first time.
_RECORDS = {ObjectKind.CONTAINER: msgspec.json.Decoder(Record)}
_EVENT = msgspec.json.Decoder(Event)


class _Pending:
    """What has happened and could not be stored yet: records, ended verbs, events.

    Of the events the last ``history`` are kept; how many are not is counted as ``dropped``.
    """

    def __init__(self, history: int) -> None:
        self.records: dict[ObjectKey, Record] = {}
        self.ended: set[tuple[ObjectKey, str]] = set()
        self.events: deque[Event] = deque(maxlen=history)
        self.dropped = 0

    def add(self, ended: str, record: Record, events: tuple[Event, ...]) -> None:
        """Add a change, and the end of a verb unless ``ended`` is empty."""
        self.records[record.key] = record
        if ended:
            self.ended.add((record.key, ended))
        before = len(self.events) + len(events)
        self.events.extend(events)
        self.dropped += before - len(self.events)


class Store:
    """Records by kind and id, the intents of verbs that are under way, and the event log.

    Events are written together with the change that they come of, or not at all. What
    :meth:`note` can't write is pending: it is written before anything else, and is tried
    again every second until then. Every other method raises ``StoreFailed`` with the path
    when it fails.
    """

    def __init__(self, path: Path, event_history: int) -> None:
        self._file = Database(path, _SCHEMA, SCHEMA_VERSION, _require_readable)
        self.event_log = EventLog(event_history, self._events)
        self._lock = threading.Lock()
        self._event_history = event_history
        self._pending = _Pending(event_history)
        self._has_pending = threading.Event()
        self._closing = threading.Event()
        with self._file.explained():
            self._db = self._file.open()
            try:
                with self._changing():
                    self.event_log.load(self._db)
                self._file.hold()
            except BaseException:
                self._db.close()
                raise
        self._retrier = threading.Thread(target=self._retry, name="store", daemon=True)
        self._retrier.start()

    def size_bytes(self) -> int:
        """What it takes on its disk."""
        return self._file.size_bytes()

    def records(self, kind: ObjectKind) -> list[Record]:
        """The record of every object of a kind."""
        with self._file.explained():
            query = "SELECT record FROM records WHERE kind = ?"
            rows = self._db.execute(query, (kind,)).fetchall()
            return [_RECORDS[kind].decode(blob) for (blob,) in rows]

    def intents(self, kind: ObjectKind) -> frozenset[tuple[str, str]]:
        """Id and verb of every change of objects of a kind that has begun and not ended."""
        with self._file.explained():
            query = "SELECT id, verb FROM intents WHERE kind = ?"
            return frozenset(self._db.execute(query, (kind,)).fetchall())

    def _events(self, after: int, limit: int) -> list[Event]:
        with self._file.explained():
            # Nobody else can read it, and what is not committed is not for the reader.
            with self._lock:
                rows = self._db.execute(
                    "SELECT event FROM events WHERE sequence > ? ORDER BY sequence LIMIT ?",
                    (after, limit),
                ).fetchall()
            return [_EVENT.decode(blob) for (blob,) in rows]

    def begin(self, verb: str, record: Record, events: tuple[Event, ...] = ()) -> None:
        """Store that a verb is about to change an object."""
        with self._transaction(events):
            self._put(record)
            self._db.execute(
                "INSERT OR REPLACE INTO intents VALUES (?1, ?2, ?3, seal(?1, ?2, ?3))",
                (*record.key, verb),
            )

    def put(self, record: Record, events: tuple[Event, ...] = (), *, ended: str = "") -> None:
        """Store a change; with ``ended``, as the outcome of that verb, which had begun."""
        with self._transaction(events):
            self._put(record)
            self._end(record.key, ended)

    def note(self, record: Record, events: tuple[Event, ...] = (), *, ended: str = "") -> None:
        """The same for what has happened, and can't be undone: if it fails, it is retried."""
        try:
            self.put(record, events, ended=ended)
        except StoreFailed as error:
            log.error("store.owing", reason=error.reason, error=error.message)
            with self._lock:
                self._pending.add(ended, record, events)
                self._has_pending.set()

    def delete(self, key: ObjectKey, events: tuple[Event, ...] = ()) -> None:
        """Forget an object, and what had begun with it."""
        with self._transaction(events):
            self._db.execute("DELETE FROM records WHERE kind = ? AND id = ?", key)
            self._db.execute("DELETE FROM intents WHERE kind = ? AND id = ?", key)

    def check(self) -> None:
        """Raise ``StoreFailed`` unless it can be written to."""
        with self._transaction():
            self._db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")

    def close(self) -> None:
        """Write all to the main file, and close it."""
        with self._lock:
            self._closing.set()
            self._has_pending.set()
        self._retrier.join()
        with self._lock:
            self._db.close()

    def _put(self, record: Record) -> None:
        self._db.execute(
            "INSERT OR REPLACE INTO records VALUES (?1, ?2, ?3, seal(?1, ?2, ?3))",
            (*record.key, msgspec.json.encode(record)),
        )

    def _end(self, key: ObjectKey, verb: str) -> None:
        query = "DELETE FROM intents WHERE kind = ? AND id = ? AND verb = ?"
        self._db.execute(query, (*key, verb))

    def _retry(self) -> None:
        """Try to write what is pending again and again; a last time at the end."""
        while self._has_pending.wait() and not self._closing.wait(_RETRY_S):
            self._retry_once()
        if self._pending.records:
            self._retry_once()
        if self._pending.records:
            log.error("store.owed_lost", ids=[key.object_id for key in self._pending.records])

    def _retry_once(self) -> None:
        with suppress(StoreFailed), self._transaction():
            pass

    @contextmanager
    def _transaction(self, events: tuple[Event, ...] = ()) -> Iterator[None]:
        with self._lock, self._file.explained():
            self._file.require_in_place()
            pending = self._pending
            with self._changing():
                for record in pending.records.values():
                    self._put(record)
                for key, verb in pending.ended:
                    self._end(key, verb)
                yield
                added = self.event_log.append(self._db, (*pending.events, *events), pending.dropped)
            self.event_log.publish(added)
            if pending.records:
                log.info("store.settled", records=len(pending.records), events=len(pending.events))
                self._pending = _Pending(self._event_history)
                if not self._closing.is_set():
                    self._has_pending.clear()

    @contextmanager
    def _changing(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            # SQLite has rolled back by itself after some errors, as when the disk is full.
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise


def _require_readable(db: sqlite3.Connection) -> None:
    """Raise the error of the first row that can't be read."""
    for kind, blob in db.execute("SELECT kind, record FROM records"):
        _RECORDS[msgspec.convert(kind, ObjectKind)].decode(blob)
    for (blob,) in db.execute("SELECT event FROM events"):
        _EVENT.decode(blob)
