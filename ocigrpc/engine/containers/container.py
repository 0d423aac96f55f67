"""A container as it lives in memory: its record, its processes, and who waits for it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec

from ocigrpc.engine.containers.cgroups import ContainerCgroups
from ocigrpc.engine.model.events import Event, EventKind, event_of, events_between, last_events
from ocigrpc.engine.model.record import Record
from ocigrpc.engine.model.states import may_follow
from ocigrpc.engine.model.values import Position, State
from ocigrpc.engine.store.store import Store
from ocigrpc.errors import Busy, StoreFailed, Timeout
from ocigrpc.host.processes.process import Process
from ocigrpc.waiting import Deadline, Latch, Mutex

WAITERS_LIMIT = 32
"""Most changes of one container that wait for another: each holds a place that changes of other
containers may need."""


class Container:
    """One container. Readers take :attr:`record` and wait for nobody.

    ``settled`` is set when its creation has ended either way, ``exited`` when it has
    stopped and its exit status is final, ``removed`` when it is no more.
    ``monitor_time`` is what the monitor has to tell of the end, from when that was seen;
    ``monitor_hung`` that it has not, and was killed for it.
    """

    def __init__(self, record: Record, store: Store, cgroups: ContainerCgroups) -> None:
        self.cgroups = cgroups
        self._record = record
        self._stored = record
        self._held = False
        self._forgotten = False
        self._store = store
        self._fields_lock = threading.Lock()
        self._lock = Mutex()
        self._waiters = 0
        self._cgroup_lock = Mutex()
        self.verb = ""
        self.settled = Latch()
        self.exited = Latch()
        self.removed = Latch()
        # Closed when they have ended: see Watcher.
        self.init: Process | None = None
        self.monitor: Process | None = None
        self.monitor_time: Deadline | None = None
        self.monitor_hung = False
        self.init_ended_ns = 0
        self.killed_by_us = False
        self.program_pids: set[int] = set()
        self.stops = 0

    @property
    def container_id(self) -> str:
        """Its id."""
        return self._record.container_id

    @property
    def position(self) -> Position:
        """Where it stands in lists; never changes."""
        return self._record.created_ns, self._record.container_id

    @property
    def record(self) -> Record:
        """What is remembered now; a frozen value that a change replaces."""
        return self._record

    def is_started(self) -> bool:
        """Whether it has been started, by us or by hand.

        Until then, and for a moment longer, its first process executes the runtime's program.
        """
        if self._record.started_ns or self._record.state is State.RUNNING:
            return True
        return self.init is not None and self.init.program() != self._record.init_program

    def begin(self, verb: str, **fields: object) -> None:
        """Write down that a verb is about to have side effects, and ``fields`` of the record.

        Raises ``StoreFailed``.
        """
        with self._fields_lock:
            if self._forgotten:
                return
            self._replace(fields)
            record, events = self._news()
            self._store.begin(verb, record, events)
            self._stored = record

    def update(self, ended: str = "", /, **fields: object) -> Record:
        """Replace fields of the record, in memory and then in the store.

        ``ended`` is the verb, written down by :meth:`begin`, that this is the outcome of.
        A ``state`` that may not follow the present one is left out: what we were about to
        note is overtaken, as when a container ends while it is being paused. For what has
        happened already: a store that can't take it now gets it, and the events that have
        become of it, as soon as it can.
        """
        with self._fields_lock:
            self._replace(fields)
            if ended or not self._held:
                self._note(ended)
            return self._record

    def commit(self, ended: str, /, **fields: object) -> None:
        """The same for what is undone when it can't be written down: raises ``StoreFailed``."""
        with self._fields_lock:
            self._replace(fields)
            record, events = self._news()
            self._store.put(record, events, ended=ended)
            self._stored = record

    @contextmanager
    def transaction(self, verb: str) -> Iterator[None]:
        """Do a verb in a ``with``: begun before it, and what changes written at its end.

        As one change, for what is noted in another order than it happens: a short program
        can end before we come to note that it was started. Raises ``StoreFailed``.
        """
        self.begin(verb)
        with self._fields_lock:
            self._held = True
        try:
            yield
        finally:
            with self._fields_lock:
                self._held = False
                self._note(verb)

    def record_event(self, kind: EventKind, ended: str = "", /, **fields: object) -> None:
        """Write down an event that leaves no trace in the record, as :meth:`update` does."""
        with self._fields_lock:
            self._replace(fields)
            self._note(ended, kind)

    def delete(self) -> None:
        """Remove it from the store, for good; raises ``StoreFailed``, and then it is not.

        But what the store knows as being created, the next start undoes.
        """
        with self._fields_lock:
            events = last_events(self._stored, self._record, time.time_ns())
            try:
                self._store.delete(self.container_id, events)
            except StoreFailed:
                if self._stored.state is not State.CREATING:
                    raise
            self._forgotten = True

    def _replace(self, fields: dict[str, object]) -> None:
        state = fields.get("state")
        if isinstance(state, State) and not may_follow(self._record.state, state):
            del fields["state"]
        self._record = msgspec.structs.replace(self._record, **fields)

    def _note(self, ended: str, *kinds: EventKind) -> None:
        if self._forgotten:
            return
        record, events = self._news()
        told = (event_of(kind, record, time.time_ns()) for kind in kinds)
        self._store.note(record, (*events, *told), ended=ended)
        self._stored = record

    def _news(self) -> tuple[Record, tuple[Event, ...]]:
        """The record to write down now, and what is new in it."""
        record = self._stored if self._held else self._record
        return record, events_between(self._stored, record, time.time_ns())

    @contextmanager
    def lock(self, verb: str, deadline: Deadline) -> Iterator[None]:
        """Be the only one to change it, in a ``with``.

        Raises ``Busy`` when another verb does not end before the deadline, or at once when
        ``WAITERS_LIMIT`` wait for that already; ``Cancelled``.
        """
        with self._waiting():
            try:
                self._lock.acquire(deadline)
            except Timeout as error:
                raise Busy.of(self.container_id, self.verb) from error
        self.verb = verb
        try:
            yield
        finally:
            self.verb = ""
            self._lock.release()

    @contextmanager
    def _waiting(self) -> Iterator[None]:
        with self._fields_lock:
            # Who has the turn waits no more.
            if self._waiters >= WAITERS_LIMIT:
                raise Busy.of(self.container_id, self.verb)
            self._waiters += 1
        try:
            yield
        finally:
            with self._fields_lock:
                self._waiters -= 1

    @contextmanager
    def cgroup_lock(self, deadline: Deadline) -> Iterator[bool]:
        """Be the only one to kill in its cgroup, or to remove it, in a ``with``.

        False when the container is removed: the group may be that of another of the same
        id by now. Raises ``Timeout``, ``Cancelled``.
        """
        self._cgroup_lock.acquire(deadline)
        try:
            yield not self.removed.is_set()
        finally:
            self._cgroup_lock.release()

    @contextmanager
    def stopping(self) -> Iterator[bool]:
        """Count a stop in a ``with``; true for the first of those at work.

        With the last of them the verb ends, however it does: its caller knows.
        """
        with self._fields_lock:
            self.stops += 1
            first = self.stops == 1
        try:
            yield first
        finally:
            with self._fields_lock:
                self.stops -= 1
                if not self.stops:
                    self._note("stop")
