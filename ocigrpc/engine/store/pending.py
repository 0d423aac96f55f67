"""What a store owes: changes that have happened and could not be written."""

from __future__ import annotations

from collections import deque

from ocigrpc.engine.model.events import Event
from ocigrpc.engine.model.values import ObjectKey, StoredRecord


class Pending:
    """What has happened and could not be stored yet: records, events.

    Of the events the last ``history`` are kept; how many are not is counted as ``dropped``.
    """

    def __init__(self, history: int) -> None:
        self.records: dict[ObjectKey, StoredRecord] = {}
        self.events: deque[Event] = deque(maxlen=history)
        self.dropped = 0

    def add(self, record: StoredRecord, events: tuple[Event, ...]) -> None:
        """Add a change."""
        self.records[record.key] = record
        before = len(self.events) + len(events)
        self.events.extend(events)
        self.dropped += before - len(self.events)
