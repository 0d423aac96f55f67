"""What the service costs as containers, followers and records become many."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from ocigrpc.v1 import runtime_pb2 as pb
from tests.bed.clients.followers import followers
from tests.bed.hosts.usage import processor_s, usage_of
from tests.bed.measures.figures import Figure, at_most, factor_at_most
from tests.bed.measures.sides import Bench, Bundled

_LIVE = 500
_ALL = 1000
_FOLLOWERS = 300

# For each unit of ``--samples``, so that fewer of them make a run short as well.
_LIVE_PER_SAMPLE, _ALL_PER_SAMPLE = 25, 50

_IN_FLIGHT = 8
_RESTARTS = 5
_EVENTS = 10
_IDLE_S = 20.0

# Followers rest between two events, and are to wait for the next one.
_REST_S = 1.0


def growth(bench: Bench) -> Iterator[Figure]:
    """All of it; the service, which restarts, has no containers before or after."""
    service = bench.service
    live = min(_LIVE, _LIVE_PER_SAMPLE * bench.samples)
    count = min(_ALL, _ALL_PER_SAMPLE * bench.samples)
    yield at_most(
        "ready, empty, s", [_restart_s(bench) for _ in range(min(_RESTARTS, bench.samples))], 0.5
    )
    grown = _Grown(bench)
    grown.grow(1)
    first_ms, one = grown.create_ms(), usage_of(service.pid)
    grown.grow(live)
    many = usage_of(service.pid)
    yield at_most(f"descriptors a container, {live} live", [(many.fds - one.fds) / (live - 1)], 4)
    yield at_most(f"memory, {live} live, MiB", [many.rss / 1024], 60)
    yield at_most(f"idle, {live} live, % of a core", [grown.idle_percent()], 0.5)
    yield factor_at_most(f"create, 1 and {live} live, ms", first_ms, grown.create_ms(), 1.2)
    yield at_most(f"event to {_FOLLOWERS} followers, ms", grown.event_ms(), 20)
    grown.grow(count)
    yield at_most(f"list of {count}, ms", grown.list_ms(), 10)
    yield at_most(f"recovery of {count}, s", [grown.recovery_s()], 3)
    grown.shrink()


class _Grown:
    """A service whose containers become many."""

    def __init__(self, bench: Bench) -> None:
        self._service = bench.service
        self._samples = bench.samples
        self._bundled: Bundled = bench.sides("/bin/sleep", "100000")[1]
        self._numbers = itertools.count()
        self._live: list[str] = []

    def grow(self, live: int) -> None:
        """Have so many containers live."""
        names = [self._name() for _ in range(live - len(self._live))]
        with ThreadPoolExecutor(_IN_FLIGHT) as pool:
            list(pool.map(self._bundled.run, names))
        self._live += names

    def shrink(self) -> None:
        """Remove them all."""
        with ThreadPoolExecutor(_IN_FLIGHT) as pool:
            list(pool.map(self._bundled.stop_and_remove, self._live))
        self._live.clear()

    def create_ms(self) -> Sequence[float]:
        """How long creates take beside them."""
        return [self._created_ms() for _ in range(self._samples)]

    def _created_ms(self) -> float:
        name = self._name()
        took_ms = _took_ms(lambda: self._bundled.create(name))
        self._service.remove(name)
        return took_ms

    def list_ms(self) -> Sequence[float]:
        """How long a list of them takes."""
        call, request = self._service.wire.ListContainers, pb.ListContainersRequest()
        assert len(call(request).containers) == len(self._live)
        return [_took_ms(lambda: call(request)) for _ in range(self._samples)]

    def event_ms(self) -> Sequence[float]:
        """How long it takes from a change of one of them until every follower knows it."""
        name, took_ms = self._live[0], []
        changes = itertools.cycle((self._service.pause, self._service.resume))
        with followers(self._service.directory / "socket", _FOLLOWERS) as all_followers:
            for change in itertools.islice(changes, min(_EVENTS, self._samples)):
                time.sleep(_REST_S)
                began_s = time.perf_counter()
                change(name)
                took_ms.append((all_followers.wait_for_messages() - began_s) * 1000)
        return took_ms

    def idle_percent(self) -> float:
        """How much of a core the service takes while nothing is asked of it."""
        pid = self._service.pid
        began_s, before_s = time.perf_counter(), processor_s(pid)
        time.sleep(min(_IDLE_S, self._samples))
        return 100 * (processor_s(pid) - before_s) / (time.perf_counter() - began_s)

    def recovery_s(self) -> float:
        """How long it takes after an end by SIGKILL until the service is ready again."""
        self._service.die()
        return _took_ms(self._service.start) / 1000

    def _name(self) -> str:
        return f"growth-{next(self._numbers)}"


def _restart_s(bench: Bench) -> float:
    """How long a service without containers takes until it is ready."""
    bench.service.end()
    return _took_ms(bench.service.start) / 1000


def _took_ms(do: Callable[[], object]) -> float:
    began_s = time.perf_counter()
    do()
    return (time.perf_counter() - began_s) * 1000
