"""The file of a store: made whole or not at all, and refused as it is when it isn't sound.

What is found at the path is first looked at by a connection that can't write: SQLite would
overwrite the damaged end of a write-ahead log without a word, and change the file of a newer
service when it closes it.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from urllib.parse import quote

import msgspec

from ocigrpc.engine.write_ahead_log import damage
from ocigrpc.errors import StoreFailed

APPLICATION_ID = 0x6F636967  # "ocig", so that file(1) and we know whose file it is
_BUSY_TIMEOUT_S = 1.0


class StoreFile:
    """An SQLite file whose schema is the first ``user_version`` of ``schemas``, one on another.

    ``sound`` reads whatever must be readable through a connection that can't write.
    """

    def __init__(
        self, path: Path, schemas: Sequence[str], sound: Callable[[sqlite3.Connection], None]
    ) -> None:
        self.path = path
        self._wal = path.with_name(f"{path.name}-wal")
        self._schemas = schemas
        self._sound = sound
        self._identities: tuple[tuple[int, int], ...] = ()

    def open(self) -> sqlite3.Connection:
        """The database, made if it is not there, kept from others until it is closed.

        Raises ``StoreFailed`` (STORE_CORRUPT, STORE_FOREIGN, STORE_NEWER, STORE_FAILED) with
        the path; then all is as it was.
        """
        if os.path.lexists(self.path):
            self._inspect()
        elif self._wal.exists() and self._wal.stat().st_size:
            raise self.unusable(f"it is gone, but {self._wal} is there", "STORE_CORRUPT")
        else:
            self._make()
        db = self._connect(self.path, "rw")
        try:
            # From the first access to the end: a second service would undo what this one makes.
            db.execute("PRAGMA locking_mode = EXCLUSIVE")
            version = _pragma(db, "user_version")
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("PRAGMA synchronous = NORMAL")
            self._upgrade(db, version)
        except BaseException:
            db.close()
            raise
        return db

    def hold(self) -> None:
        """What is at the path now, once it was written to, has to stay there."""
        self._identities = self._found()

    def require_in_place(self) -> None:
        """Raise ``StoreFailed`` (STORE_REPLACED) when what is held is not at its path any more.

        What was written then would be lost with the last descriptor of it.
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
        """Raise ``StoreFailed`` with the path for what SQLite, the host or a record says."""
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
        """The error that the store has this problem."""
        return StoreFailed(
            f"store {self.path}: {problem}", reason=reason, path=self.path, error=problem
        )

    def _found(self) -> tuple[tuple[int, int], ...]:
        stats = (os.lstat(path) for path in (self.path, self._wal))
        return tuple((each.st_dev, each.st_ino) for each in stats)

    def _connect(self, path: Path, mode: str) -> sqlite3.Connection:
        return sqlite3.connect(
            f"file:{quote(str(path))}?mode={mode}",
            uri=True,
            timeout=_BUSY_TIMEOUT_S,
            isolation_level=None,
            check_same_thread=False,
        )

    def _make(self) -> None:
        """Make it under another name, so that an empty file at the path is never ours."""
        new = self.path.with_name(f"{self.path.name}.new")
        _remove(new)
        try:
            # Labels and annotations are nobody else's business.
            os.close(os.open(new, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
            with closing(self._connect(new, "rw")) as db:
                self._upgrade(db, 0)
            os.rename(new, self.path)
        except BaseException:
            _remove(new)
            raise

    def _upgrade(self, db: sqlite3.Connection, version: int) -> None:
        if version == len(self._schemas):
            return
        db.executescript(
            f"BEGIN; {''.join(self._schemas[version:])}"
            f" PRAGMA application_id = {APPLICATION_ID};"
            f" PRAGMA user_version = {len(self._schemas)}; COMMIT;"
        )

    def _inspect(self) -> None:
        if self.path.is_file() and not self.path.stat().st_size:
            raise self.unusable("it is empty", "STORE_CORRUPT")
        problem = damage(self._wal)
        if problem:
            raise self.unusable(f"{self._wal}: {problem}", "STORE_CORRUPT")
        with closing(self._connect(self.path, "ro")) as db:
            version, owner = _pragma(db, "user_version"), _pragma(db, "application_id")
            if owner not in (0, APPLICATION_ID):
                raise self.unusable("it is another program's database", "STORE_FOREIGN")
            if version > len(self._schemas):
                raise self.unusable(
                    f"it has schema version {version}; this service knows {len(self._schemas)}",
                    "STORE_NEWER",
                )
            if not version or not owner:
                raise self.unusable("it is not a store of this service", "STORE_FOREIGN")
            (found,) = db.execute("PRAGMA quick_check(1)").fetchone()
            if found != "ok":
                raise self.unusable(str(found), "STORE_CORRUPT")
            self._sound(db)


def _pragma(db: sqlite3.Connection, name: str) -> int:
    return int(db.execute(f"PRAGMA {name}").fetchone()[0])


def _remove(path: Path) -> None:
    for suffix in ("", "-journal", "-wal"):
        with suppress(OSError):
            os.unlink(f"{path}{suffix}")
