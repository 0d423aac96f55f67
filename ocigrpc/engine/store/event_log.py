"""The event log: the events of all objects in one order, kept for a while, and followed.

Events are rows of the store, written with the changes that they come of. The newest are kept
in memory, too. A follower is woken when an event matches its filter, and then fetches the
events itself, from memory or, when it is behind, from the store, a page at a time. So a slow
follower does not hold up any other.
"""

from __future__ import annotations

import itertools
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence

import msgspec

from ocigrpc.engine.model.events import Event, EventBatch, EventFilter, Gap, numbered
from ocigrpc.engine.store.database import seal
from ocigrpc.engine.store.last_number import LastNumber
from ocigrpc.errors import LimitReached
from ocigrpc.host.processes.process import boot_id
from ocigrpc.waiting import Deadline, Flag

# ``event_log`` has one row: the boot of the node, and the least number that is its own.
SCHEMA = """
CREATE TABLE events (
    sequence INTEGER PRIMARY KEY, event BLOB NOT NULL, seal INTEGER NOT NULL
);
CREATE TABLE event_log (boot_id TEXT NOT NULL, first INTEGER NOT NULL, seal INTEGER NOT NULL);
"""

# Most events that are fetched at once.
PAGE = 256

# Most events that are kept in memory.
_RECENT = 1024

# Least time between two batches, for each follower: a batch costs far more than its events do.
_PAUSE_S = 0.002


class EventLog:
    """Numbers events, keeps at least the last ``history`` of them, and hands them to followers.

    Numbers rise and are never reused, even if a loss of power takes the last events, or the
    store is removed: each boot of the node starts at its time in microseconds, if that is more.
    Nor if the store is replaced by an older one: :class:`LastNumber` outlives that.
    """

    def __init__(
        self,
        history: int,
        stored: Callable[[int, int], Sequence[Event]],
        last_number: LastNumber | None,
    ) -> None:
        """``stored`` reads the events behind a number, at most as many as its second argument."""
        self._history = history
        self._stored = stored
        self._last_number = last_number
        self._lock = threading.Lock()
        self._followers: set[Follower] = set()
        self._recent: deque[Event] = deque(maxlen=min(history, _RECENT))
        self._kept = 0
        self._first = 0
        # The same without the transaction that is under way.
        self._first_stored = 0
        self._last = 0

    # What the store calls, in its transactions and with its lock held.

    def load(self, db: sqlite3.Connection) -> bool:
        """Find out what there is, and which number is next; whether the store is outdated.

        It is if events have happened in this boot that it does not know. Then those that it has
        are dropped, so that every follower from before is told that it has missed some.
        """
        last_number = self._last_number.read() if self._last_number is not None else 0
        boot, begin, given = _boot(db)
        goes_on = boot == boot_id() and given >= last_number
        outdated = is_outdated(db, last_number)
        if outdated:
            db.execute("DELETE FROM events")
        if not goes_on:
            begin = max(time.time_ns() // 1000, last_number + 1, given + 1)
            row = boot_id(), begin
            db.execute("DELETE FROM event_log")
            db.execute("INSERT INTO event_log VALUES (?, ?, ?)", (*row, seal(*row)))
        first, last, self._kept = db.execute(
            "SELECT min(sequence), max(sequence), count(*) FROM events"
        ).fetchone()
        self._last = max(last or 0, begin - 1)
        self._first = first or self._last + 1
        self._trim(db, 0)
        self._kept = self._kept_with(0)
        self._first_stored = self._first
        return outdated

    def note_last(self) -> None:
        """Note the last number outside of the store, which has it now."""
        if self._last_number is not None:
            self._last_number.write(self._last)

    def append(
        self, db: sqlite3.Connection, events: tuple[Event, ...], dropped: int = 0
    ) -> tuple[Event, ...]:
        """Store events in place of the oldest ones; the events with their numbers.

        ``dropped`` is how many were lost before them, whose numbers become a gap.
        """
        if not events:
            return ()
        added = numbered(events, self._last + 1 + dropped)
        for event in added:
            row = event.sequence, msgspec.json.encode(event)
            db.execute("INSERT INTO events VALUES (?, ?, ?)", (*row, seal(*row)))
        self._trim(db, len(added))
        if dropped:
            with self._lock:
                self._first = max(self._first, added[0].sequence)
        return added

    def _kept_with(self, added: int) -> int:
        """How many events are kept when so many are added."""
        kept = self._kept + added
        # Deleting many at once costs little more than deleting one.
        return kept if kept <= self._history + self._history // 128 else self._history

    def _trim(self, db: sqlite3.Connection, added: int) -> None:
        surplus = self._kept + added - self._kept_with(added)
        if not surplus:
            return
        (last,) = db.execute(
            "SELECT sequence FROM events ORDER BY sequence LIMIT 1 OFFSET ?", (surplus - 1,)
        ).fetchone()
        # Before they are deleted, so that a follower that reads meanwhile notices the gap.
        with self._lock:
            self._first = last + 1
        db.execute("DELETE FROM events WHERE sequence <= ?", (last,))

    def roll_back(self) -> None:
        """Undo what :meth:`append` has done: none of its transaction is stored."""
        with self._lock:
            self._first = self._first_stored

    def publish(self, added: tuple[Event, ...]) -> None:
        """Wake the followers for events that are stored for good."""
        if not added:
            return
        with self._lock:
            self._kept = self._kept_with(len(added))
            self._last = added[-1].sequence
            self._first_stored = self._first
            self._recent.extend(added)
            for follower in self._followers:
                follower.notify(added, self._history // 2)
        self.note_last()

    # What everybody else calls.

    def extent(self) -> tuple[int, int, int]:
        """How many events are kept, the first one's number or 0, and the last number given."""
        with self._lock:
            return self._kept, self._first if self._kept else 0, self._last

    def lag(self) -> tuple[int, int]:
        """How many followers there are, and how many events the one most behind has to read."""
        with self._lock:
            behind = (self._last - each.read for each in self._followers)
            # Not more than there are: boots skip numbers.
            return len(self._followers), min(max(behind, default=0), self._kept)

    def follow(
        self, after: int | None, wanted: EventFilter, deadline: Deadline
    ) -> Generator[EventBatch]:
        """The events behind ``after`` that are wanted, and from then on; see ``WatchEvents``.

        The first batch comes at once, and has the gap if there is one. Never ends: raises
        ``Timeout``, ``Cancelled``, or ``LimitReached`` (EVENTS_TOO_SLOW).
        """
        with self._lock:
            begin, gap = beginning(after, self._first, self._last)
            follower = Follower(wanted, begin)
            # It may have much to read before anything happens.
            follower.ready.set()
            self._followers.add(follower)
        try:
            yield EventBatch(follower.cursor, gap=gap)
            rests_until_s = 0.0
            while True:
                deadline.wait(follower.ready)
                if (rest_s := rests_until_s - time.monotonic()) > 0:
                    deadline.wait(timeout_s=rest_s)
                yield from self._batches(follower)
                # The more followers there are, the more events go into one message under load.
                rests_until_s = time.monotonic() + _PAUSE_S * len(self._followers)
        finally:
            with self._lock:
                self._followers.discard(follower)

    def _batches(self, follower: Follower) -> Iterator[EventBatch]:
        """All batches that there are for a follower until now."""
        follower.ready.clear()
        while (page := self._page(follower)) is not None:
            events = tuple(filter(follower.wanted.matches, page))
            if page:
                follower.read = page[-1].sequence
            if events:
                follower.cursor = follower.read
                yield EventBatch(follower.cursor, events)
        if follower.cursor < follower.read:
            follower.cursor = follower.read
            yield EventBatch(follower.cursor)

    def _page(self, follower: Follower) -> Sequence[Event] | None:
        """The next events, wanted or not; None when it has read all, and can wait."""
        with self._lock:
            if follower.read >= self._last:
                follower.waits = True
                return None
            if self._recent and self._recent[0].sequence <= follower.read + 1:
                newest_first = itertools.takewhile(
                    lambda event: event.sequence > follower.read, reversed(self._recent)
                )
                return list(newest_first)[: -PAGE - 1 : -1]
            last = self._last
        page = self._stored(follower.read, PAGE)
        with self._lock:
            if follower.read + 1 < self._first:
                raise LimitReached(
                    f"events from {follower.read + 1} on are gone; you took them too slowly",
                    reason="EVENTS_TOO_SLOW",
                    cursor=follower.cursor,
                    limit=self._history,
                )
            if not page:
                # There is nothing where a boot has skipped numbers.
                follower.read = last
        return page


def is_outdated(db: sqlite3.Connection, last_number: int) -> bool:
    """Whether a store lacks events of this boot, the last of which has that number."""
    boot, _, given = _boot(db)
    return boot != "" and last_number > 0 and (boot != boot_id() or given < last_number)


def _boot(db: sqlite3.Connection) -> tuple[str, int, int]:
    """The boot of a store and its least number, "" and 0 in a new one; the last number so far."""
    boot, begin = db.execute("SELECT boot_id, first FROM event_log").fetchone() or ("", 0)
    (last,) = db.execute("SELECT max(sequence) FROM events").fetchone()
    return boot, begin, max(last or 0, begin - 1)


class Follower:
    """A client that follows events, and how far it has come.

    ``read`` is the last event that was compared with its filter, ``cursor`` the last that it
    was sent. While it ``waits`` it has read all, and is not woken by events that it does not
    want.
    """

    def __init__(self, wanted: EventFilter, begin: int) -> None:
        self.wanted = wanted
        self.read = begin
        self.cursor = begin
        self.waits = False
        self.ready = Flag()

    def notify(self, added: Sequence[Event], most_behind: int) -> None:
        """Wake it if it wants any of these events, or if its cursor would soon be too old."""
        if not self.waits:
            return
        last = added[-1].sequence
        if any(map(self.wanted.matches, added)) or last - self.cursor > most_behind:
            self.waits = False
            self.ready.set()
        else:
            self.read = last


def beginning(after: int | None, first: int, last: int) -> tuple[int, Gap | None]:
    """After which number to begin, and what is missing of that which was asked for.

    ``first`` is the least number from which on nothing is missing, ``last`` the last that
    was given. ``after`` is None for what comes from now on, 0 for all that there is.
    """
    if after is None:
        return last, None
    if after > last:
        # Not a number of ours, so that it does not say which of ours were missed.
        return last, Gap(1, last)
    if after == 0:
        return first - 1, None
    if after + 1 < first:
        return first - 1, Gap(after + 1, first - 1)
    return after, None
