"""The file of a store: created whole or not at all, and refused unchanged if it is damaged.

An existing file is first read by a connection that can't write: SQLite would silently overwrite
the damaged end of a write-ahead log, pad a file that was cut off, and change the file of a newer
service when it closes it.

SQLite checks how its pages are linked, but not their content. So each table has a column
``seal``, a checksum of the others: see :func:`seal`, which is an SQL function as well.
"""

from __future__ import annotations

import os
import sqlite3
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from urllib.parse import quote

import msgspec

from ocigrpc.engine.store.write_ahead_log import damage
from ocigrpc.errors import StoreFailed
from ocigrpc.host.descriptors import closing_fd

# "ocig": marks the file as ours, for us and for file(1). "ocib" is a backup that no service has
# used yet.
APPLICATION_ID, BACKUP_ID = 0x6F636967, 0x6F636962
_BUSY_TIMEOUT_S = 1.0


class Database:
    """An SQLite file whose schema is ``schema``, in ``version``.

    ``sound`` reads all that must be readable, by a connection that can't write. ``named`` is its
    path in errors, if that is another.
    """

    def __init__(
        self,
        path: Path,
        schema: str,
        version: int,
        sound: Callable[[sqlite3.Connection], None],
        named: Path | None = None,
    ) -> None:
        self.path = path
        self._named = named or path
        self._wal = path.with_name(f"{path.name}-wal")
        # Looked at with every change, and text takes less then.
        self._files = str(path), str(self._wal)
        self._journal = path.with_name(f"{path.name}-journal")
        self._schema = schema
        self._version = version
        self._sound = sound
        self._identities: tuple[tuple[int, int], ...] = ()

    def open(self) -> sqlite3.Connection:
        """The database, created if it is missing, and locked until it is closed.

        Raises ``StoreFailed`` (STORE_CORRUPT, STORE_FOREIGN, STORE_NEWER, STORE_OLDER,
        STORE_FAILED) with the path; then nothing has changed.
        """
        if os.path.lexists(self.path):
            self._inspect()
        elif _size_bytes(self._wal):
            raise self.unusable(f"it is missing, but {self._wal} exists", "STORE_CORRUPT")
        else:
            self._make()
        db = self._connect(self.path, "rw")
        try:
            # From the first access until it is closed: a second service would undo our changes.
            db.execute("PRAGMA locking_mode = EXCLUSIVE")
            db.execute("PRAGMA synchronous = NORMAL")
        except BaseException:
            db.close()
            raise
        return db

    @staticmethod
    def is_backup(db: sqlite3.Connection) -> bool:
        """Whether it is a backup, and is used for the first time."""
        return _pragma(db, "application_id") == BACKUP_ID

    @staticmethod
    def adopt(db: sqlite3.Connection) -> None:
        """Let it be a backup no more."""
        db.execute(f"PRAGMA application_id = {APPLICATION_ID}")

    def size_bytes(self) -> int:
        """Its size on the disk; 0 when it is missing. Raises ``StoreFailed`` (STORE_FAILED)."""
        with self.explained():
            return _size_bytes(self.path) + _size_bytes(self._wal)

    def sync(self) -> None:
        """Have the disk write what is in the write-ahead log, where all changes go first.

        Raises ``StoreFailed`` (STORE_FAILED).
        """
        with self.explained(), closing_fd(os.open(self._wal, os.O_RDONLY | os.O_CLOEXEC)) as wal:
            os.fsync(wal)

    def hold(self) -> None:
        """Expect the files that are there now, after the first write, to stay in place."""
        self._identities = self._found()

    def require_in_place(self) -> None:
        """Raise ``StoreFailed`` (STORE_REPLACED) if a file was moved or removed since :meth:`hold`.

        Further writes would be lost when its last descriptor is closed.
        """
        try:
            in_place = self._found() == self._identities
        except OSError:
            in_place = False
        if not in_place:
            problem = "it, or its -wal file, was moved or removed from its place"
            raise self.unusable(problem, "STORE_REPLACED")

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Raise errors of SQLite, of the host and of records as ``StoreFailed`` with the path."""
        try:
            yield
        except sqlite3.DatabaseError as error:
            corrupt = getattr(error, "sqlite_errorcode", 0) in (
                sqlite3.SQLITE_CORRUPT,
                sqlite3.SQLITE_NOTADB,
            )
            reason = "STORE_CORRUPT" if corrupt else "STORE_FAILED"
            raise self.unusable(str(error), reason) from error
        except (sqlite3.Error, OSError) as error:
            raise self.unusable(str(error), "STORE_FAILED") from error
        except msgspec.DecodeError as error:
            raise self.unusable(f"a record can't be read: {error}", "STORE_CORRUPT") from error

    def unusable(self, problem: str, reason: str) -> StoreFailed:
        """The error for a problem of the store."""
        return StoreFailed(
            f"store {self._named}: {problem}", reason=reason, path=self._named, error=problem
        )

    def _found(self) -> tuple[tuple[int, int], ...]:
        return tuple([(each.st_dev, each.st_ino) for each in map(os.lstat, self._files)])

    def _connect(self, path: Path, mode: str) -> sqlite3.Connection:
        db = sqlite3.connect(
            f"file:{quote(str(path))}?mode={mode}",
            uri=True,
            timeout=_BUSY_TIMEOUT_S,
            isolation_level=None,
            check_same_thread=False,
        )
        add_seal(db)
        return db

    def _make(self) -> None:
        """Create it under another name: an empty file at the path is never ours."""
        new = self.path.with_name(f"{self.path.name}.new")
        _remove(new)
        try:
            # Labels and annotations are for root alone.
            os.close(os.open(new, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
            with closing(self._connect(new, "rw")) as db:
                # No rollback journal: SQLite would apply one that it finds beside the file.
                db.execute("PRAGMA journal_mode = WAL")
                db.executescript(
                    f"BEGIN; {self._schema} PRAGMA application_id = {APPLICATION_ID};"
                    f" PRAGMA user_version = {self._version}; COMMIT;"
                )
            os.rename(new, self.path)
        except BaseException:
            _remove(new)
            raise

    def _inspect(self) -> None:
        """Raise ``StoreFailed`` unless the whole store is there, as it was written."""
        if not self.path.is_dir() and not _size_bytes(self.path):
            raise self.unusable("it is empty", "STORE_CORRUPT")
        if _size_bytes(self._journal):
            raise self.unusable(f"{self._journal} is not one of its files", "STORE_CORRUPT")
        problem = damage(self._wal)
        if problem:
            raise self.unusable(f"{self._wal}: {problem}", "STORE_CORRUPT")
        with closing(self._connect(self.path, "ro")) as db:
            self._require_ours(db)
            problem = self._damage(db)
            if problem:
                raise self.unusable(problem, "STORE_CORRUPT")
            self._sound(db)

    def _require_ours(self, db: sqlite3.Connection) -> None:
        version, owner = _pragma(db, "user_version"), _pragma(db, "application_id")
        if owner not in (0, APPLICATION_ID, BACKUP_ID):
            raise self.unusable("it is another program's database", "STORE_FOREIGN")
        if not version or not owner:
            raise self.unusable("it is not a store of this service", "STORE_FOREIGN")
        if version != self._version:
            reason = "STORE_NEWER" if version > self._version else "STORE_OLDER"
            problem = f"it has schema version {version}; this service knows {self._version}"
            raise self.unusable(problem, reason)

    def _damage(self, db: sqlite3.Connection) -> str:
        """What is damaged in its pages, its tables or their rows; empty if nothing is."""
        if db.execute("PRAGMA journal_mode").fetchone() != ("wal",):
            return "its header is damaged"
        page_bytes, pages = _pragma(db, "page_size"), _pragma(db, "page_count")
        size_bytes = _size_bytes(self.path)
        # Pages may be in the write-ahead log only: then the check finds those that are missing.
        if size_bytes % page_bytes or (
            size_bytes != pages * page_bytes and not _size_bytes(self._wal)
        ):
            return f"it has {size_bytes} bytes, which are not {pages} pages of {page_bytes}"
        # Of indexes as well, which have no seals.
        (found,) = db.execute("PRAGMA integrity_check(1)").fetchone()
        if found != "ok":
            return str(found)
        tables = _tables(db)
        with closing(sqlite3.connect(":memory:")) as fresh:
            fresh.executescript(self._schema)
            if tables != _tables(fresh):
                return "its tables are not those of a store"
        for table in (name for name, sql in tables.items() if sql):
            broken = f"SELECT 1 FROM {table} WHERE seal IS NOT seal({_columns(db, table)}) LIMIT 1"
            if db.execute(broken).fetchone():
                return f"a row of table {table} is not as it was written"
        return ""


def add_seal(db: sqlite3.Connection) -> None:
    """Add :func:`seal` to a connection, as an SQL function."""
    db.create_function("seal", -1, seal, deterministic=True)


def seal(*values: str | int | bytes) -> int:
    """The checksum of the columns of a row, in their order."""
    total = 0
    for value in values:
        content = value if isinstance(value, bytes) else str(value).encode()
        # The length as well, so that no byte can move from one value to the next.
        total = zlib.crc32(content, zlib.crc32(b"%d" % len(content), total))
    return total


def _tables(db: sqlite3.Connection) -> dict[str, str | None]:
    """The SQL that created each table, by its name, and None for the index of its key."""
    return dict(db.execute("SELECT name, sql FROM sqlite_schema"))


def _columns(db: sqlite3.Connection, table: str) -> str:
    """The columns that a table's seal covers, as in a query."""
    rows = db.execute("SELECT name FROM pragma_table_info(?) WHERE name != 'seal'", (table,))
    return ", ".join(name for (name,) in rows)


def _pragma(db: sqlite3.Connection, name: str) -> int:
    return int(db.execute(f"PRAGMA {name}").fetchone()[0])


def _size_bytes(path: Path) -> int:
    """The size of a file; 0 when it is missing."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _remove(path: Path) -> None:
    for suffix in ("", "-journal", "-wal", "-shm"):
        with suppress(OSError):
            os.unlink(f"{path}{suffix}")
