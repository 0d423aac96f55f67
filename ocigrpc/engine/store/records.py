"""The records that a store has, one type for each kind of object."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping
from typing import TypeVar, cast

import msgspec

from ocigrpc.engine.model.image_records import ImageRecord, PullRecord, RemovalRecord
from ocigrpc.engine.model.record import Record
from ocigrpc.engine.model.rootfs import RootfsRecord
from ocigrpc.engine.model.values import ObjectKind, StoredRecord

R = TypeVar("R", bound=StoredRecord)

# Made now: msgspec crashes when two threads make one for the same type for the first time.
DECODE: Mapping[ObjectKind, Callable[[bytes], StoredRecord]] = {
    Record.kind: msgspec.json.Decoder(Record).decode,
    ImageRecord.kind: msgspec.json.Decoder(ImageRecord).decode,
    PullRecord.kind: msgspec.json.Decoder(PullRecord).decode,
    RemovalRecord.kind: msgspec.json.Decoder(RemovalRecord).decode,
    RootfsRecord.kind: msgspec.json.Decoder(RootfsRecord).decode,
}


def records_in(db: sqlite3.Connection, record_type: type[R]) -> list[R]:
    """All records of a type; raises what sqlite3 and msgspec do."""
    decode = cast("Callable[[bytes], R]", DECODE[record_type.kind])
    rows = db.execute("SELECT record FROM records WHERE kind = ?", (record_type.kind,))
    return [decode(blob) for (blob,) in rows]
