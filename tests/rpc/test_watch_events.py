"""WatchEvents over real gRPC, from a real journal that the tests write."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence, Set
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import grpc
import pytest

from ocigrpc.engine.model.events import Event, EventBatch, EventFilter, EventKind, marks_of
from ocigrpc.engine.model.values import ExitStatus, Provenance
from ocigrpc.engine.store.store import Store
from ocigrpc.rpc.server import serving
from ocigrpc.service.runtime import runtime_service
from ocigrpc.service.to_proto import EVENTS_MESSAGE_BYTES
from ocigrpc.settings.access import SocketSettings
from ocigrpc.settings.values import LimitSettings, Settings
from ocigrpc.v1 import event_pb2
from ocigrpc.v1 import runtime_pb2 as v1
from ocigrpc.v1.runtime_pb2_grpc import RuntimeServiceStub
from ocigrpc.waiting import Deadline
from tests.bed.hosts.leaks import until
from tests.rpc.fake_engine import LIMIT_S, FakeEngine
from tests.rpc.statuses import Failure, failure_of
from tests.unit.test_store import RECORD

HISTORY = 100
STREAMS = 150

Watch: TypeAlias = "grpc._CallIterator[event_pb2.WatchEventsResponse]"


class JournalEngine(FakeEngine):
    """A fake engine with a real store and journal."""

    def __init__(self, store: Store) -> None:
        super().__init__()
        self.store = store

    def watch_events(
        self, after: int | None, event_filter: EventFilter, deadline: Deadline
    ) -> Iterator[EventBatch]:
        return self.store.event_log.follow(after, event_filter, deadline)


class Served(NamedTuple):
    store: Store
    stub: RuntimeServiceStub

    def write(self, kind: EventKind = EventKind.STARTED, **fields: Any) -> None:
        self.store.put(RECORD, (Event(kind, fields.pop("container_id", "c1"), 7, **fields),))

    def watch(self, after: int | None = None, **event_filter: Any) -> Watch:
        request = event_pb2.WatchEventsRequest(
            after=after, filter=event_pb2.EventFilter(**event_filter)
        )
        return self.stub.WatchEvents(request, timeout=LIMIT_S)

    def followers(self) -> int:
        return len(self.store.event_log._followers)


@pytest.fixture
def served(socket_path: Path, tmp_path: Path) -> Iterator[Served]:
    settings = Settings(
        socket=SocketSettings(path=str(socket_path)), limits=LimitSettings(stream_threads=STREAMS)
    )
    with (
        closing(Store(tmp_path / "db", HISTORY)) as store,
        serving([runtime_service(JournalEngine(store))], settings) as server,
        grpc.insecure_channel(f"unix:{socket_path}") as channel,
    ):
        server.open()
        yield Served(store, RuntimeServiceStub(channel))


def events(watch: Watch, count: int) -> Sequence[event_pb2.ContainerEvent]:
    found: list[event_pb2.ContainerEvent] = []
    while len(found) < count:
        found += next(watch).events
    return found


def test_the_first_message_comes_at_once_and_what_comes_later_follows(served: Served) -> None:
    watch = served.watch()
    first = next(watch)
    assert not first.events
    assert not first.HasField("gap")
    served.write()
    second = next(watch)
    assert second.cursor == second.events[0].sequence > first.cursor


def test_an_event_has_all_fields(served: Served) -> None:
    served.write(
        EventKind.EXITED,
        name="web",
        exit_status=ExitStatus(Provenance.EXIT_FILE, 9, exit_code=3),
    )
    (event,) = events(served.watch(0), 1)
    assert event.sequence > 0
    assert event.time.ToNanoseconds() == 7
    assert event.kind == event_pb2.EVENT_KIND_EXITED
    assert (event.container_id, event.name) == ("c1", "web")
    assert event.exit_status.exit_code == 3
    assert event.exit_status.finished_at.ToNanoseconds() == 9


@pytest.mark.parametrize("kind", EventKind)
def test_every_kind_has_its_word(served: Served, kind: EventKind) -> None:
    served.write(kind)
    (event,) = events(served.watch(0), 1)
    assert event_pb2.EventKind.Name(event.kind) == f"EVENT_KIND_{kind.name}"
    assert not event.HasField("exit_status")


def test_only_what_matches_the_filter_comes(served: Served) -> None:
    served.write(container_id="c2", marks=marks_of({"app": "x"}))
    served.write(marks=marks_of({"app": "y"}))
    served.write(EventKind.PAUSED, marks=marks_of({"app": "x"}))
    served.write(marks=marks_of({"app": "x"}))
    watch = served.watch(
        0,
        container_id="c1",
        label_selector={"app": "x"},
        kinds=[event_pb2.EVENT_KIND_PAUSED],
    )
    (event,) = events(watch, 1)
    assert (event.container_id, event.kind) == ("c1", event_pb2.EVENT_KIND_PAUSED)


def test_missing_events_are_reported_first(served: Served) -> None:
    served.write()
    (event,) = events(served.watch(0), 1)
    for _ in range(HISTORY + 2):
        served.write()
    watch = served.watch(event.sequence)
    first = next(watch)
    assert (first.gap.first, first.gap.last) == (event.sequence + 1, event.sequence + 2)
    assert events(watch, 1)[0].sequence == event.sequence + 3


def test_an_unused_number_is_reported(served: Served) -> None:
    served.write()
    (event,) = events(served.watch(0), 1)
    watch = served.watch(event.sequence + 1)
    first = next(watch)
    assert (first.gap.first, first.gap.last) == (1, event.sequence)
    assert first.cursor == event.sequence


def test_many_long_events_are_split_into_messages(served: Served) -> None:
    for _ in range(4):
        served.write(name="x" * (EVENTS_MESSAGE_BYTES // 3))
    watch = served.watch(0)
    next(watch)
    messages = [next(watch), next(watch)]
    assert [len(message.events) for message in messages] == [2, 2]
    assert [message.cursor for message in messages] == [
        message.events[-1].sequence for message in messages
    ]


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (event_pb2.WatchEventsRequest(after=-1), "after"),
        (
            event_pb2.WatchEventsRequest(
                filter=event_pb2.EventFilter(kinds=[event_pb2.EVENT_KIND_UNSPECIFIED])
            ),
            "filter.kinds[0]",
        ),
        (
            event_pb2.WatchEventsRequest(filter=event_pb2.EventFilter(label_selector={"": "x"})),
            "filter.label_selector",
        ),
    ],
)
def test_a_wrong_request_is_refused(
    served: Served, request_: event_pb2.WatchEventsRequest, field: str
) -> None:
    refused = failure_of(lambda: next(served.stub.WatchEvents(request_, timeout=LIMIT_S)))
    assert refused.code is grpc.StatusCode.INVALID_ARGUMENT
    assert refused.fields == [field]


def test_slow_reader_is_cut_with_its_cursor_and_delays_no_other(served: Served) -> None:
    slow = served.watch()
    cursor = next(slow).cursor
    quick = served.watch(container_id="quick")
    next(quick)
    # More than all buffers on the way hold, and the history besides; but never so much at
    # once that even a fast reader might miss some of it.
    for _ in range(80):
        for _ in range(HISTORY // 4):
            served.write(name="x" * 10_000)
        served.write(container_id="quick")
        assert events(quick, 1)[0].container_id == "quick"
    got: list[event_pb2.WatchEventsResponse] = []
    with pytest.raises(grpc.RpcError) as caught:
        got.extend(slow)
    cut = Failure(caught.value)
    sequences = [event.sequence for message in got for event in message.events]
    assert sequences == list(range(cursor + 1, cursor + 1 + len(sequences)))
    cursor += len(sequences)
    assert (cut.code, cut.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "EVENTS_TOO_SLOW")
    assert cut.info.metadata["cursor"] == str(cursor)
    assert next(served.watch(cursor)).gap.first == cursor + 1


def test_a_client_that_leaves_frees_its_thread_at_once(served: Served) -> None:
    watches = [served.watch() for _ in range(3)]
    for watch in watches:
        next(watch)
    assert served.followers() == 3
    for watch in watches:
        watch.cancel()
    assert until(lambda: served.followers() == 0) < 1


def test_a_client_that_leaves_without_reading_frees_its_thread_too(served: Served) -> None:
    watch = served.watch()
    next(watch)
    for _ in range(10 * HISTORY):
        served.write(name="x" * 10_000)
    watch.cancel()
    assert until(lambda: served.followers() == 0) < 1


def test_the_deadline_of_the_client_ends_it(served: Served) -> None:
    watch = served.stub.WatchEvents(event_pb2.WatchEventsRequest(), timeout=0.1)
    assert failure_of(lambda: list(watch)).code is grpc.StatusCode.DEADLINE_EXCEEDED
    until(lambda: served.followers() == 0)


def test_every_stream_up_to_the_limit_gets_every_event(served: Served) -> None:
    watches = [served.watch() for _ in range(STREAMS)]
    for watch in watches:
        next(watch)
    refused = failure_of(lambda: next(served.watch()))
    assert (refused.code, refused.reason) == (
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        "TOO_MANY_STREAMS",
    )
    # Calls are not kept out by streams.
    served.stub.PauseContainer(v1.PauseContainerRequest(container_id="c1"), timeout=LIMIT_S)
    for index in range(10):
        served.write(name=f"n{index}")
    for watch in watches:
        assert [event.name for event in events(watch, 10)] == [f"n{i}" for i in range(10)]


def test_an_idle_stream_costs_no_wake_up(served: Served) -> None:
    # Those of the servers of other tests may still be about to end.
    others = frozenset(threading.enumerate())
    watches = [served.watch(container_id="nobody") for _ in range(20)]
    for watch in watches:
        next(watch)
    until(lambda: all(each.waits for each in served.store.event_log._followers))
    before = woken(others)
    writes = HISTORY // 2 - 1
    for _ in range(writes):
        served.write()
    # Not none, because a thread that waits for no other may still be about to sleep.
    assert woken(others) - before < writes * len(watches) // 4


def woken(others: Set[threading.Thread]) -> int:
    """How often the threads of streams, but for others, have gone to sleep, and so been woken."""
    total = 0
    for thread in set(threading.enumerate()) - others:
        if thread.name.startswith("rpc"):
            status = Path(f"/proc/self/task/{thread.native_id}/status").read_text()
            total += int(status.split("\nvoluntary_ctxt_switches:")[1].split()[0])
    return total
