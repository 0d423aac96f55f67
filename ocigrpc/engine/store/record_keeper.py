"""Keeping the record of a container, in memory and in the store, with the events of its changes."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec

from ocigrpc.engine.model.events import Event, EventKind, event_of, events_between, last_events
from ocigrpc.engine.model.record import Record
from ocigrpc.engine.model.states import may_follow
from ocigrpc.engine.model.values import State
from ocigrpc.engine.store.store import Store
from ocigrpc.errors import StoreFailed


class RecordKeeper:
    """The only writer of a container's record.

    Nobody emits events: they come of comparing the record that was last stored with the one
    that is stored now, and are written with it. So ``update(state=State.PAUSED)`` makes the
    event ``paused``. Only what leaves no trace in the record takes :meth:`record_event`.
    """

    def __init__(self, record: Record, store: Store) -> None:
        self._record = record
        self._stored = record
        self._store = store
        self._record_lock = threading.Lock()
        self._in_transaction = False
        self._deleted = False

    @property
    def record(self) -> Record:
        """What is remembered now; a frozen value that a change replaces."""
        return self._record

    def begin(self, verb: str, **fields: object) -> None:
        """Store that a verb is about to have side effects, its intent, and ``fields``.

        Raises ``StoreFailed``.
        """
        with self._record_lock:
            if self._deleted:
                return
            begun = self._record.begun
            self._replace({**fields, "begun": begun | {verb}})
            record, events = self._changes()
            try:
                self._store.begin(record, events)
            except StoreFailed:
                self._replace({"begun": begun})
                raise
            self._stored = record

    def update(self, ended: str = "", /, **fields: object) -> Record:
        """Replace fields of the record, in memory and then in the store.

        ``ended`` names the intent (see :meth:`begin`) that this change completes. A ``state``
        that may not follow the present one is left out: it is out of date, as when a
        container ends while it is being paused. For what has already happened: if the store
        can't be written, the change and its events are written as soon as it can.
        """
        with self._record_lock:
            self._replace(fields, ended)
            if ended or not self._in_transaction:
                self._write()
            return self._record

    def commit(self, ended: str, /, **fields: object) -> None:
        """The same for what is undone when it can't be stored: raises ``StoreFailed``."""
        with self._record_lock:
            self._replace(fields, ended)
            record, events = self._changes()
            self._store.put(record, events)
            self._stored = record

    @contextmanager
    def transaction(self, verb: str) -> Iterator[None]:
        """Do a verb in a ``with``: begun before it, and its changes stored at its end, as one.

        For changes that are noted in another order than they happen: a short program can end
        before its start is noted. Raises ``StoreFailed``.
        """
        self.begin(verb)
        with self._record_lock:
            self._in_transaction = True
        try:
            yield
        finally:
            with self._record_lock:
                self._in_transaction = False
                self._replace({}, verb)
                self._write()

    def record_event(self, kind: EventKind, ended: str = "", /, **fields: object) -> None:
        """Store an event that leaves no trace in the record, as :meth:`update` does."""
        with self._record_lock:
            self._replace(fields, ended)
            self._write(kind)

    def delete(self) -> None:
        """Remove the record from the store, for good; raises ``StoreFailed``, and then it stays.

        But what the store knows as being created, the next start undoes.
        """
        with self._record_lock:
            events = last_events(self._stored, self._record, time.time_ns())
            try:
                self._store.delete(self._record.key, events)
            except StoreFailed:
                if self._stored.state is not State.CREATING:
                    raise
            self._deleted = True

    def _replace(self, fields: dict[str, object], ended: str = "") -> None:
        state = fields.get("state")
        if isinstance(state, State) and not may_follow(self._record.state, state):
            del fields["state"]
        if ended in self._record.begun:
            fields["begun"] = self._record.begun - {ended}
        self._record = msgspec.structs.replace(self._record, **fields)

    def _write(self, *kinds: EventKind) -> None:
        if self._deleted:
            return
        record, events = self._changes()
        more = (event_of(kind, record, time.time_ns()) for kind in kinds)
        self._store.note(record, (*events, *more))
        self._stored = record

    def _changes(self) -> tuple[Record, tuple[Event, ...]]:
        """The record to store now, and the events since the one that was last stored."""
        record = self._record
        if self._in_transaction:
            record = msgspec.structs.replace(self._stored, begun=record.begun)
        return record, events_between(self._stored, record, time.time_ns())
