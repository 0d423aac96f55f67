"""The store: the record of every object, and events.

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
from typing import TypeAlias

import msgspec

from ocigrpc.engine.model.events import Event
from ocigrpc.engine.model.record import Record
from ocigrpc.engine.model.values import ObjectKey, ObjectKind
from ocigrpc.engine.store import event_log
from ocigrpc.engine.store.database import Database, seal
from ocigrpc.engine.store.event_log import EventLog
from ocigrpc.errors import StoreFailed
from ocigrpc.log import get_logger

log = get_logger()

# With row ids, a change of a record writes one page: neither the index nor an overflow page,
# which the index's leaves would need for most records.
_SCHEMA = (
    """
CREATE TABLE records (
    kind TEXT NOT NULL, id TEXT NOT NULL, record BLOB NOT NULL, seal INTEGER NOT NULL,
    PRIMARY KEY (kind, id)
);
"""
    + event_log.SCHEMA
)
_PUT = """
INSERT INTO records VALUES (?, ?, ?, ?)
ON CONFLICT (kind, id) DO UPDATE SET record = excluded.record, seal = excluded.seal
"""
_DELETE = "DELETE FROM records WHERE kind = ? AND id = ?"

# Rises with every change of the schema, and of what the columns hold.
SCHEMA_VERSION = 5

_RETRY_S = 1.0

# A statement and its parameters.
_Write: TypeAlias = tuple[str, tuple[str | int | bytes, ...]]

# Made now: msgspec crashes when two threads make one for the same type for the first time.
_RECORDS = {ObjectKind.CONTAINER: msgspec.json.Decoder(Record)}
_EVENT = msgspec.json.Decoder(Event)


class _Pending:
    """What has happened and could not be stored yet: records, events.

    Of the events the last ``history`` are kept; how many are not is counted as ``dropped``.
    """

    def __init__(self, history: int) -> None:
        self.records: dict[ObjectKey, Record] = {}
        self.events: deque[Event] = deque(maxlen=history)
        self.dropped = 0

    def add(self, record: Record, events: tuple[Event, ...]) -> None:
        """Add a change."""
        self.records[record.key] = record
        before = len(self.events) + len(events)
        self.events.extend(events)
        self.dropped += before - len(self.events)


class Store:
    """Records by kind and id, and the event log.

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

    def _events(self, after: int, limit: int) -> list[Event]:
        with self._file.explained():
            # Nobody else can read it, and what is not committed is not for the reader.
            with self._lock:
                rows = self._db.execute(
                    "SELECT event FROM events WHERE sequence > ? ORDER BY sequence LIMIT ?",
                    (after, limit),
                ).fetchall()
            return [_EVENT.decode(blob) for (blob,) in rows]

    def begin(self, record: Record, events: tuple[Event, ...] = ()) -> None:
        """Store that a verb is about to change an object: it is among those ``begun``."""
        self._change(_put(record), events=events)

    def put(self, record: Record, events: tuple[Event, ...] = ()) -> None:
        """Store a change."""
        self._change(_put(record), events=events)

    def note(self, record: Record, events: tuple[Event, ...] = ()) -> None:
        """The same for what has happened, and can't be undone: if it fails, it is retried."""
        try:
            self.put(record, events)
        except StoreFailed as error:
            log.error("store.owing", reason=error.reason, error=error.message)
            with self._lock:
                self._pending.add(record, events)
                self._has_pending.set()

    def delete(self, key: ObjectKey, events: tuple[Event, ...] = ()) -> None:
        """Forget an object."""
        self._change((_DELETE, key), events=events)

    def check(self) -> None:
        """Raise ``StoreFailed`` unless it can be written to."""
        self._change((f"PRAGMA user_version = {SCHEMA_VERSION}", ()))

    def close(self) -> None:
        """Write all to the main file, and close it."""
        with self._lock:
            self._closing.set()
            self._has_pending.set()
        self._retrier.join()
        with self._lock:
            self._db.close()

    def _retry(self) -> None:
        """Try to write what is pending again and again; a last time at the end."""
        while self._has_pending.wait() and not self._closing.wait(_RETRY_S):
            self._retry_once()
        if self._pending.records:
            self._retry_once()
        if self._pending.records:
            log.error("store.owed_lost", ids=[key.object_id for key in self._pending.records])

    def _retry_once(self) -> None:
        with suppress(StoreFailed):
            self._change()

    def _change(self, *writes: _Write, events: tuple[Event, ...] = ()) -> None:
        """Do the writes and store the events, as one, and what is pending before them."""
        with self._lock, self._file.explained():
            self._file.require_in_place()
            pending = self._pending
            added: tuple[Event, ...] = ()
            writes = (*map(_put, pending.records.values()), *writes)
            events = (*pending.events, *events)
            if len(writes) == 1 and not events:
                # One is done whole or not at all, without a transaction around it.
                self._db.execute(*writes[0])
            else:
                with self._changing():
                    for write in writes:
                        self._db.execute(*write)
                    added = self.event_log.append(self._db, events, pending.dropped)
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
            self.event_log.roll_back()
            raise


def _put(record: Record) -> _Write:
    row = *record.key, msgspec.json.encode(record)
    return _PUT, (*row, seal(*row))


def _require_readable(db: sqlite3.Connection) -> None:
    """Raise the error of the first row that can't be read."""
    for kind, blob in db.execute("SELECT kind, record FROM records"):
        _RECORDS[msgspec.convert(kind, ObjectKind)].decode(blob)
    for (blob,) in db.execute("SELECT event FROM events"):
        _EVENT.decode(blob)
