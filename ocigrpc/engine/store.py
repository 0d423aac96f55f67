"""The store: every container's record, every change that has begun but not ended, and events.

SQLite in WAL mode with ``synchronous=NORMAL``: what is written survives the end of the
service at any moment; a loss of power may take the last moments with it, but then no
container lives on either. There is one writer, this process: it keeps others out.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from ocigrpc.engine import journal
from ocigrpc.engine.events import Event
from ocigrpc.engine.journal import Journal
from ocigrpc.engine.record import Record
from ocigrpc.errors import StoreFailed

_APPLICATION_ID = 0x6F636967  # "ocig", so that file(1) and we know whose file it is
_BUSY_TIMEOUT_S = 1.0

_SCHEMAS = (
    """
CREATE TABLE containers (container_id TEXT PRIMARY KEY, record BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE intents (
    container_id TEXT NOT NULL, verb TEXT NOT NULL, PRIMARY KEY (container_id, verb)
) WITHOUT ROWID;
""",
    journal.SCHEMA,
)

SCHEMA_VERSION = len(_SCHEMAS)
"""Each version adds one of the schemas to what the version before it has."""


class Store:
    """Records by container id, the intents of verbs that are under way, and the journal.

    Events are written together with the change that they tell of, or not at all. Every
    method raises ``StoreFailed`` with the path when SQLite can't do it.
    """

    def __init__(self, path: Path, event_history: int) -> None:
        self._path = path
        self.journal = Journal(event_history, self._events)
        self._lock = threading.Lock()
        with self._explained():
            # Labels and annotations are nobody else's business.
            path.touch(mode=0o600)
            self._db = sqlite3.connect(
                path, timeout=_BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
            )
            try:
                self._prepare()
            except BaseException:
                self._db.close()
                raise

    def _prepare(self) -> None:
        # From the first access to the end: a second service would undo what this one makes.
        self._db.execute("PRAGMA locking_mode = EXCLUSIVE")
        version = self._pragma("user_version")
        if self._pragma("application_id") not in (0, _APPLICATION_ID):
            raise self._unusable("it is another program's database", "STORE_FOREIGN")
        if version > SCHEMA_VERSION:
            raise self._unusable(
                f"it has schema version {version}; this service knows {SCHEMA_VERSION}",
                "STORE_NEWER",
            )
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = NORMAL")
        tables = self._db.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        if version == 0 and tables != (0,):
            raise self._unusable("it has tables, but no schema version", "STORE_FOREIGN")
        if version < SCHEMA_VERSION:
            self._upgrade(version)
        with self._transaction():
            self.journal.load(self._db)

    def _upgrade(self, version: int) -> None:
        self._db.executescript(
            f"BEGIN; {''.join(_SCHEMAS[version:])}"
            f" PRAGMA application_id = {_APPLICATION_ID};"
            f" PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;"
        )

    def _pragma(self, name: str) -> int:
        return int(self._db.execute(f"PRAGMA {name}").fetchone()[0])

    def records(self) -> list[Record]:
        """Every container's record."""
        with self._explained():
            rows = self._db.execute("SELECT record FROM containers").fetchall()
            return [msgspec.json.decode(blob, type=Record) for (blob,) in rows]

    def intents(self) -> frozenset[tuple[str, str]]:
        """Container id and verb of every change that has begun and not ended."""
        with self._explained():
            return frozenset(self._db.execute("SELECT container_id, verb FROM intents").fetchall())

    def _events(self, after: int, limit: int) -> list[Event]:
        with self._explained():
            # Nobody else can read it, and what is not committed is not for the reader.
            with self._lock:
                rows = self._db.execute(
                    "SELECT event FROM events WHERE sequence > ? ORDER BY sequence LIMIT ?",
                    (after, limit),
                ).fetchall()
            return [msgspec.json.decode(blob, type=Event) for (blob,) in rows]

    def begin(self, verb: str, record: Record, events: tuple[Event, ...] = ()) -> None:
        """Remember that a verb is about to change the container."""
        with self._transaction(events):
            self._put(record)
            self._db.execute(
                "INSERT OR REPLACE INTO intents VALUES (?, ?)", (record.container_id, verb)
            )

    def end(self, verb: str, record: Record, events: tuple[Event, ...] = ()) -> None:
        """Remember the outcome of a verb that had begun."""
        with self._transaction(events):
            self._put(record)
            self._db.execute(
                "DELETE FROM intents WHERE container_id = ? AND verb = ?",
                (record.container_id, verb),
            )

    def put(self, record: Record, events: tuple[Event, ...] = ()) -> None:
        """Remember a change that no verb of ours made."""
        with self._transaction(events):
            self._put(record)

    def delete(self, container_id: str, events: tuple[Event, ...] = ()) -> None:
        """Forget the container, and what had begun with it."""
        with self._transaction(events):
            self._db.execute("DELETE FROM containers WHERE container_id = ?", (container_id,))
            self._db.execute("DELETE FROM intents WHERE container_id = ?", (container_id,))

    def check(self) -> None:
        """Prove that it can be written, by writing nothing of note."""
        with self._transaction():
            self._db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")

    def close(self) -> None:
        """Write all to the main file, and let go of it."""
        with self._lock:
            self._db.close()

    def _put(self, record: Record) -> None:
        self._db.execute(
            "INSERT OR REPLACE INTO containers VALUES (?, ?)",
            (record.container_id, msgspec.json.encode(record)),
        )

    @contextmanager
    def _transaction(self, events: tuple[Event, ...] = ()) -> Iterator[None]:
        with self._lock, self._explained():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                added = self.journal.append(self._db, events)
                self._db.execute("COMMIT")
            except BaseException:
                # SQLite has rolled back by itself after some errors, as when the disk is full.
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise
            self.journal.publish(added)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise self._unusable(str(error), "STORE_FAILED") from error
        except msgspec.DecodeError as error:
            raise self._unusable(f"a record can't be read: {error}", "STORE_CORRUPT") from error

    def _unusable(self, problem: str, reason: str) -> StoreFailed:
        return StoreFailed(
            f"store {self._path}: {problem}", reason=reason, path=self._path, error=problem
        )
