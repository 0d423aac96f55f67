"""A service that is killed again and again while clients use it, and what must be true of it.

Clients repeat each call that is not answered. Each knows how its container has to end.
"""

from __future__ import annotations

import random
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field

from ocigrpc.v1.event_pb2 import ContainerEvent
from tests.bed.checks.bystander import Bystander
from tests.bed.checks.integrity import expect_integrity
from tests.bed.clients.events import Events, word
from tests.bed.loads.stubborn_client import LIVES, Client, Door, Fate
from tests.bed.services.service import Service

_CLIENTS = 4
_LONGEST_LIFE_S = 0.6

# How often a service does not even live to be ready.
_DIES_AGAIN = 0.25


@dataclass
class Toll:
    """What there has been so far."""

    kills: int = 0
    early_kills: int = 0
    """Those of a service that was not ready yet, which are not among the others."""
    lives: int = 0
    cut_off: int = 0
    """Calls that were not answered."""
    events: int = 0
    restarts_s: list[float] = field(default_factory=list)
    """From each start of the service until it was ready."""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def count(self, *, lives: int = 0, cut_off: int = 0) -> None:
        with self._lock:
            self.lives += lives
            self.cut_off += cut_off


class Storm:
    """Kills a service, at moments that ``seed`` decides, and counts what has happened.

    ``runtimes`` are those of its containers, in turn for each client.
    """

    def __init__(self, service: Service, seed: int, runtimes: Sequence[str] = ("runc",)) -> None:
        self._service = service
        self._runtimes = runtimes
        self._random = random.Random(seed)
        self._fates: dict[str, Fate] = {}
        self._events: dict[str, list[ContainerEvent]] = defaultdict(list)
        self._door = Door(_CLIENTS)
        self._over = threading.Event()
        self.toll = Toll()

    def rage(self, kills: int, progress: Callable[[Toll], None] = lambda _: None) -> None:
        """Kill the service so many times; raises ``AssertionError`` as soon as it lies."""
        self._cursor = Events(self._service).cursor
        bystander = Bystander(self._service)
        with ThreadPoolExecutor(_CLIENTS, thread_name_prefix="client") as pool:
            clients = [
                pool.submit(self._use, number, random.Random(self._random.random()))
                for number in range(_CLIENTS)
            ]
            try:
                for _ in range(kills):
                    self._kill(clients)
                    with self._door.closed():
                        bystander.expect_undisturbed()
                        expect_integrity(self._service)
                        self._read_events()
                    progress(self.toll)
            finally:
                self._over.set()
        for client in clients:
            client.result()
        bystander.end()
        self._read_events()
        assert self._fates == {}, "no event reported that these were removed"

    def _kill(self, clients: list[Future[None]]) -> None:
        """Kill the service at any moment, perhaps again before it is ready, and start it."""
        self._let_live(clients)
        self._service.die()
        self.toll.kills += 1
        while self._random.random() < _DIES_AGAIN:
            self._service.launch()
            self._let_live(clients)
            self._service.die()
            self.toll.early_kills += 1
        began_s = time.monotonic()
        self._service.start()
        self.toll.restarts_s.append(time.monotonic() - began_s)

    def _let_live(self, clients: Sequence[Future[None]]) -> None:
        """Wait for any moment; raises what a client raises until then."""
        life_s = self._random.uniform(0, _LONGEST_LIFE_S)
        for client in wait(clients, life_s, FIRST_COMPLETED).done:
            client.result()

    def _read_events(self) -> None:
        """Read the events until now: none is missing, and all are true."""
        last = Events(self._service).cursor
        events = Events(self._service, after=self._cursor)
        assert events.gap is None
        while self._cursor < last:
            event = events.next()
            assert event.sequence == self._cursor + 1
            self._cursor = event.sequence
            self.toll.events += 1
            self._events[event.container_id].append(event)
            if word(event) == "removed" and event.container_id in self._fates:
                self._judge(
                    self._fates.pop(event.container_id), self._events.pop(event.container_id)
                )

    def _judge(self, fate: Fate, events: list[ContainerEvent]) -> None:
        kinds = [word(event) for event in events if word(event) not in ("paused", "resumed")]
        assert kinds == fate.events(), events
        (exit_status,) = (event.exit_status for event in events if word(event) == "exited")
        assert exit_status.HasField("exit_code"), events
        assert exit_status.exit_code == fate.exit_code, events

    def _use(self, number: int, chance: random.Random) -> None:
        """Be a client: one container after the other lives its life."""
        runtime = self._runtimes[number % len(self._runtimes)]
        client = Client(self._service, self._door, lambda: self.toll.count(cut_off=1), runtime)
        lives = 0
        while not self._over.is_set():
            container_id, exit_code = f"c{number}-{lives:06}", chance.randrange(1, 126)
            live, fate = chance.choice(LIVES)
            self._fates[container_id] = fate if fate else Fate(exit_code)
            live(client, container_id, exit_code)
            lives += 1
            self.toll.count(lives=1)
