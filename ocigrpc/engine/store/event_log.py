"""The event log: the events of all containers in one order, kept for a while, and followed.

Events are rows of the store, written with the changes that they tell of. The newest are
kept in memory too. Whoever follows is woken when there is something for him, and takes it
himself, from memory or, when he is behind, from the store, a page at a time. So nobody who
is slow holds up anybody else.
"""

from __future__ import annotations

import itertools
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager

import msgspec

from ocigrpc.engine.model.events import Event, EventBatch, EventFilter, Gap, numbered
from ocigrpc.errors import LimitReached
from ocigrpc.host.processes.process import boot_id
from ocigrpc.waiting import Deadline, Flag

SCHEMA = """
CREATE TABLE events (
    sequence INTEGER PRIMARY KEY, event BLOB NOT NULL, seal INTEGER NOT NULL
);
CREATE TABLE event_log (boot_id TEXT NOT NULL, first INTEGER NOT NULL, seal INTEGER NOT NULL);
"""
"""``event_log`` has one row: the boot of the node, and the least number that is its own."""

PAGE = 256
"""Most events that are taken at once."""

_RECENT = 1024
# From the news of one follower to those of the next: they cost far more than events do.
_BREATH_S = 0.002


class EventLog:
    """Numbers events, keeps the last ``history`` of them, and hands them to who follows.

    Numbers rise, and are never given twice, though a loss of power may take the last
    events with it, or somebody the whole store: each boot of the node begins with its time
    in microseconds, if that is more.
    """

    def __init__(self, history: int, stored: Callable[[int, int], Sequence[Event]]) -> None:
        """``stored`` answers the events behind a number that are kept, so many at most."""
        self._history = history
        self._stored = stored
        self._lock = threading.Lock()
        self._followers: set[Follower] = set()
        self._recent: deque[Event] = deque(maxlen=min(history, _RECENT))
        self._kept = 0
        self._first = 0
        self._last = 0

    # What the store calls, in its transactions and with its lock held.

    def load(self, db: sqlite3.Connection) -> None:
        """Find out what there is, and which number is next."""
        first, last, self._kept = db.execute(
            "SELECT min(sequence), max(sequence), count(*) FROM events"
        ).fetchone()
        boot = db.execute("SELECT boot_id, first FROM event_log").fetchone()
        if boot is None or boot[0] != boot_id():
            boot = (boot_id(), max(time.time_ns() // 1000, (last or 0) + 1))
            db.execute("DELETE FROM event_log")
            db.execute("INSERT INTO event_log VALUES (?1, ?2, seal(?1, ?2))", boot)
        self._last = max(last or 0, boot[1] - 1)
        self._first = first or self._last + 1
        self._trim(db, 0)
        self._kept = min(self._kept, self._history)

    def append(
        self, db: sqlite3.Connection, events: tuple[Event, ...], dropped: int = 0
    ) -> tuple[Event, ...]:
        """Write events down, and forget the oldest instead; the events with their numbers.

        Before them so many were ``dropped``, whose numbers will be told as a gap.
        """
        if not events:
            return ()
        added = numbered(events, self._last + 1 + dropped)
        db.executemany(
            "INSERT INTO events VALUES (?1, ?2, seal(?1, ?2))",
            [(event.sequence, msgspec.json.encode(event)) for event in added],
        )
        self._trim(db, len(added))
        if dropped:
            with self._lock:
                self._first = added[0].sequence
        return added

    def _trim(self, db: sqlite3.Connection, added: int) -> None:
        surplus = self._kept + added - self._history
        if surplus <= 0:
            return
        (last,) = db.execute(
            "SELECT sequence FROM events ORDER BY sequence LIMIT 1 OFFSET ?", (surplus - 1,)
        ).fetchone()
        # Before they are gone, so that nobody who reads meanwhile misses them unawares.
        with self._lock:
            self._first = last + 1
        db.execute("DELETE FROM events WHERE sequence <= ?", (last,))

    def publish(self, added: tuple[Event, ...]) -> None:
        """Tell those who follow of events that are written down for good."""
        if not added:
            return
        with self._lock:
            self._kept = min(self._kept + len(added), self._history)
            self._last = added[-1].sequence
            self._recent.extend(added)
            for follower in self._followers:
                follower.hear(added, self._history // 2)

    # What everybody else calls.

    def follow(
        self, after: int | None, wanted: EventFilter, deadline: Deadline
    ) -> Generator[EventBatch]:
        """The events behind ``after`` that are wanted, and from then on; see ``WatchEvents``.

        The first news come at once, and have the gap if there is one. Never ends: raises
        ``Timeout``, ``Cancelled``, or ``LimitReached`` (EVENTS_TOO_SLOW).
        """
        with self._following(after, wanted) as (follower, gap):
            yield EventBatch(follower.told, gap=gap)
            while True:
                deadline.wait(follower.bell)
                yield from self._news(follower)
                # In a wave, many events go into one message, and the more, the more follow.
                deadline.wait(timeout_s=_BREATH_S * len(self._followers))

    @contextmanager
    def _following(
        self, after: int | None, wanted: EventFilter
    ) -> Iterator[tuple[Follower, Gap | None]]:
        with self._lock:
            begin, gap = beginning(after, self._first, self._last)
            follower = Follower(wanted, begin)
            # It may have much to read before there is news.
            follower.bell.set()
            self._followers.add(follower)
        try:
            yield follower, gap
        finally:
            with self._lock:
                self._followers.discard(follower)

    def _news(self, follower: Follower) -> Iterator[EventBatch]:
        """All that there is for a follower until now."""
        follower.bell.clear()
        while (page := self._page(follower)) is not None:
            events = tuple(filter(follower.wanted.matches, page))
            if page:
                follower.read = page[-1].sequence
            if events:
                follower.told = follower.read
                yield EventBatch(follower.told, events)
        if follower.told < follower.read:
            follower.told = follower.read
            yield EventBatch(follower.told)

    def _page(self, follower: Follower) -> Sequence[Event] | None:
        """The next events, wanted or not; None when it has read all, and can wait."""
        with self._lock:
            if follower.read >= self._last:
                follower.waits = True
                return None
            if self._recent and self._recent[0].sequence <= follower.read + 1:
                behind = (event for event in self._recent if event.sequence > follower.read)
                return list(itertools.islice(behind, PAGE))
            last = self._last
        page = self._stored(follower.read, PAGE)
        with self._lock:
            if follower.read + 1 < self._first:
                raise LimitReached(
                    f"events from {follower.read + 1} on are gone; you took them too slowly",
                    reason="EVENTS_TOO_SLOW",
                    cursor=follower.told,
                    limit=self._history,
                )
            if not page:
                # There is nothing where a boot has skipped numbers.
                follower.read = last
        return page


class Follower:
    """Somebody who follows, and how far he has come.

    ``read`` is the last event that he has looked at, ``told`` the last cursor he was given.
    While he ``waits`` he has read all, and what is not for him passes him by.
    """

    def __init__(self, wanted: EventFilter, begin: int) -> None:
        self.wanted = wanted
        self.read = begin
        self.told = begin
        self.waits = False
        self.bell = Flag()

    def hear(self, added: Sequence[Event], patience: int) -> None:
        """Wake him if there is something for him, or if his cursor would soon be too old."""
        if not self.waits:
            return
        last = added[-1].sequence
        if any(map(self.wanted.matches, added)) or last - self.told > patience:
            self.waits = False
            self.bell.set()
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
