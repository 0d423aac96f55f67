"""What a service that is down had begun and not ended, by its store."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import msgspec

from ocigrpc.engine.model.record import Record
from tests.bed.services.service import Service


def intents(service: Service) -> set[tuple[str, str]]:
    """Id and verb of each intent."""
    with closing(sqlite3.connect(service.directory / "root/ocigrpc.db")) as store:
        rows = store.execute("SELECT record FROM records").fetchall()
    records = [msgspec.json.decode(blob, type=Record) for (blob,) in rows]
    return {(record.container_id, verb) for record in records for verb in record.begun}
