"""The store: the record of every object, and events.

SQLite in WAL mode with ``synchronous=NORMAL``: what is written survives the end of the
service at any moment; a loss of power may take the last moments with it, but then no
container lives on either. There is one writer, this process: it keeps others out.
"""

from __future__ import annotations

import shutil
import sqlite3
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeAlias

import msgspec

from ocigrpc.engine.model.events import Event
from ocigrpc.engine.model.record import Record
from ocigrpc.engine.model.values import ObjectKey, ObjectKind, State, StoredRecord
from ocigrpc.engine.store import event_log
from ocigrpc.engine.store.backup import copied
from ocigrpc.engine.store.database import Database, seal
from ocigrpc.engine.store.event_log import EventLog, is_outdated
from ocigrpc.engine.store.last_number import LastNumber
from ocigrpc.engine.store.pending import Pending
from ocigrpc.engine.store.records import DECODE, R, records_in
from ocigrpc.errors import StoreFailed, Timeout
from ocigrpc.log import get_logger
from ocigrpc.waiting import Deadline

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
SCHEMA_VERSION = 6

_RETRY_S = 1.0

# A statement and its parameters.
_Write: TypeAlias = tuple[str, tuple[str | int | bytes, ...]]

# Made now: msgspec crashes when two threads make one for the same type for the first time.
_EVENT = msgspec.json.Decoder(Event)


class Store:
    """Records by kind and id, and the event log.

    Events are written together with the change that they come of, or not at all. What
    :meth:`note` can't write is pending: it is written before anything else, and is tried
    again every second until then. Every other method raises ``StoreFailed`` with the path
    when it fails. After a write has failed, whatever it was, another is tried every second, so
    that :meth:`require_working` knows when the store works again.
    """

    def __init__(
        self,
        path: Path,
        event_history: int,
        last_number: LastNumber | None = None,
        admit: Callable[[Sequence[Record]], None] = lambda records: None,
    ) -> None:
        """``admit`` raises ``StoreFailed`` if an outdated store, with these records, can't be used.

        Then nothing has changed. ``last_number`` tells that it is outdated.
        """
        self._file = Database(path, _SCHEMA, SCHEMA_VERSION, _require_readable)
        self.event_log = EventLog(event_history, self._events, last_number)
        self._lock = threading.Lock()
        self._event_history = event_history
        self._pending = Pending(event_history)
        self._has_failed = threading.Event()
        # What was wrong with the last write, and the reason.
        self._failure: tuple[str, str] | None = None
        self._closing = threading.Event()
        with self._file.explained():
            self._db = self._file.open()
            try:
                with self._changing():
                    outdated = self.event_log.load(self._db)
                    if outdated:
                        admit(self.records(Record))
                    if outdated or self._file.is_backup(self._db):
                        self._forget_intents(outdated)
                        self._file.adopt(self._db)
                self.event_log.note_last()
                self._file.hold()
            except BaseException:
                self._db.close()
                raise
        self._retrier = threading.Thread(target=self._retry, name="store", daemon=True)
        self._retrier.start()

    def size_bytes(self) -> int:
        """What it takes on its disk."""
        return self._file.size_bytes()

    def owed(self) -> int:
        """How many records could not be written yet; waits for nobody."""
        return len(self._pending.records)

    def records(self, record_type: type[R]) -> list[R]:
        """The record of every object that has such a record."""
        with self._file.explained():
            return records_in(self._db, record_type)

    def _forget_intents(self, outdated: bool) -> None:
        """Forget what had begun when a store was current that was put here: it has ended since."""
        records = self.records(Record)
        begun = [each for each in records if each.begun and each.state is not State.CREATING]
        for record in begun:
            ended = msgspec.structs.replace(record, begun=frozenset(), limits_before=None)
            self._db.execute(*_put(ended))
        known = {"path": str(self._file.path), "records": len(records)}
        if outdated:
            log.warning("store.outdated", **known)
        else:
            log.info("store.restored", **known)

    def _events(self, after: int, limit: int) -> list[Event]:
        with self._file.explained():
            # Nobody else can read it, and what is not committed is not for the reader.
            with self._lock:
                rows = self._db.execute(
                    "SELECT event FROM events WHERE sequence > ? ORDER BY sequence LIMIT ?",
                    (after, limit),
                ).fetchall()
            return [_EVENT.decode(blob) for (blob,) in rows]

    def begin(self, record: StoredRecord, events: tuple[Event, ...] = ()) -> None:
        """Store that a verb is about to change an object: it is among those ``begun``."""
        self._change(_put(record), events=events)

    def put(self, record: StoredRecord, events: tuple[Event, ...] = ()) -> None:
        """Store a change."""
        self._change(_put(record), events=events)

    def note(self, record: StoredRecord, events: tuple[Event, ...] = ()) -> None:
        """The same for what has happened, and can't be undone: if it fails, it is retried."""
        try:
            self.put(record, events)
        except StoreFailed as error:
            log.error("store.owing", reason=error.reason, error=error.message)
            with self._lock:
                self._pending.add(record, events)
                self._has_failed.set()

    def tell(self, *events: Event) -> None:
        """Store what has happened to an object that has no record."""
        self._change(events=events)

    def delete(self, key: ObjectKey, events: tuple[Event, ...] = ()) -> None:
        """Forget an object."""
        self._change((_DELETE, key), events=events)

    def sync(self) -> None:
        """Have what is written survive a loss of power; it takes some milliseconds."""
        self._file.sync()

    def check(self) -> None:
        """Raise ``StoreFailed`` unless it can be written to."""
        self._change((f"PRAGMA user_version = {SCHEMA_VERSION}", ()))

    def probe(self, deadline: Deadline) -> None:
        """Raise ``StoreFailed`` unless it is in place and can be read.

        Or ``Timeout`` while another thread's read or write takes longer than ``deadline``.
        """
        if not self._lock.acquire(timeout=min(deadline.remaining_s(), threading.TIMEOUT_MAX)):
            raise Timeout(f"store {self._file.path}: what is under way does not end")
        try:
            with self._file.explained():
                self._file.require_in_place()
                self._db.execute("SELECT record FROM records LIMIT 1").fetchone()
        finally:
            self._lock.release()

    def require_working(self, deadline: Deadline) -> None:
        """The same, and raise ``StoreFailed`` as well if the last write has failed."""
        self.probe(deadline)
        if failure := self._failure:
            raise self._file.unusable(*failure)

    def backup(self, deadline: Deadline) -> Generator[bytes]:
        """A copy of it as it is now, in pieces, while it goes on being used.

        The pieces are a file that a service can start with. Raises ``Timeout`` or ``Cancelled``.
        """
        # So that what is pending is in it.
        self.check()
        with self._file.explained():
            yield from copied(self._db, self._lock, self._file.path, deadline)

    def close(self) -> None:
        """Write all to the main file, and close it."""
        with self._lock:
            self._closing.set()
            self._has_failed.set()
        self._retrier.join()
        with self._lock:
            self._db.close()

    def _retry(self) -> None:
        """After a failure, try to write what is pending again and again; a last time at the end."""
        while self._has_failed.wait() and not self._closing.wait(_RETRY_S):
            self._retry_once()
        if self._pending.records:
            self._retry_once()
        if self._pending.records:
            log.error("store.owed_lost", ids=[key.object_id for key in self._pending.records])

    def _retry_once(self) -> None:
        with suppress(StoreFailed):
            self.check()

    def _change(self, *writes: _Write, events: tuple[Event, ...] = ()) -> None:
        """Do the writes and store the events, as one, and what is pending before them."""
        with self._lock, self._noting_failure(), self._file.explained():
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
                self._pending = Pending(self._event_history)

    @contextmanager
    def _noting_failure(self) -> Iterator[None]:
        """Keep how a write has failed, and whether one is to be tried again."""
        try:
            yield
        except StoreFailed as error:
            self._failure = error.metadata["error"], error.reason
            self._has_failed.set()
            raise
        self._failure = None
        if not self._closing.is_set():
            self._has_failed.clear()

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


def outdated_records(path: Path, last_number: int) -> list[Record] | None:
    """The containers of a store that nobody has open, if it is outdated; None if it is not.

    Nothing is changed, since a copy is opened, which is beside it: a disk that has no room for that
    has none for it either. Raises ``StoreFailed`` as :class:`Store` does.
    """
    whole = Database(path, _SCHEMA, SCHEMA_VERSION, _require_readable)
    prefix = f".{path.name}-"
    with whole.explained(), TemporaryDirectory(prefix=prefix, dir=path.parent) as directory:
        copy = Path(directory, path.name)
        for suffix in ("", "-wal", "-journal"):
            with suppress(FileNotFoundError):
                shutil.copyfile(f"{path}{suffix}", f"{copy}{suffix}")
        file = Database(copy, _SCHEMA, SCHEMA_VERSION, _require_readable, named=path)
        with closing(file.open()) as db:
            return records_in(db, Record) if is_outdated(db, last_number) else None


def _put(record: StoredRecord) -> _Write:
    row = *record.key, msgspec.json.encode(record)
    return _PUT, (*row, seal(*row))


def _require_readable(db: sqlite3.Connection) -> None:
    """Raise the error of the first row that can't be read."""
    for kind, blob in db.execute("SELECT kind, record FROM records"):
        DECODE[msgspec.convert(kind, ObjectKind)](blob)
    for (blob,) in db.execute("SELECT event FROM events"):
        _EVENT.decode(blob)
