"""Clients that begin a call and send no message: they delay no other for long."""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from ocigrpc.rpc import first_message
from ocigrpc.service.methods import SERVICE_NAME
from ocigrpc.v1 import image_pb2
from ocigrpc.v1 import runtime_pb2 as v1
from tests.bed.hosts.leaks import until
from tests.rpc.fake_engine import LIMIT_S
from tests.rpc.running import PAUSE, SERVING, Running, check, nothing_until, running
from tests.rpc.statuses import failure_of

FIRST_MESSAGE_S = 0.5
# More than the threads that serve it.
MANY = 200
SERVICES = [
    v1.DESCRIPTOR.services_by_name["RuntimeService"],
    image_pb2.DESCRIPTOR.services_by_name["ImageService"],
]


def paths(*, client_streaming: bool) -> list[str]:
    """The methods of all services whose clients send one message, or many."""
    return [
        f"/{service.full_name}/{method.name}"
        for service in SERVICES
        for method in service.methods
        if method.client_streaming == client_streaming
    ]


@pytest.fixture
def served(socket_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Running]:
    monkeypatch.setattr(first_message, "MESSAGE_LIMIT_S", FIRST_MESSAGE_S)
    with running(socket_path) as it:
        yield it


@pytest.fixture
def silence() -> Iterator[threading.Event]:
    """The end of the silence of clients."""
    event = threading.Event()
    yield event
    event.set()


def begun(
    channel: grpc.Channel, path: str, messages: Iterator[bytes], limit_s: float | None = LIMIT_S
) -> Iterator[bytes]:
    """A call that is under way, of any shape."""
    call: grpc.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream(path)
    return call(messages, timeout=limit_s)


@pytest.mark.parametrize(
    "path",
    paths(client_streaming=False)
    + [f"/grpc.health.v1.Health/{name}" for name in ("Check", "Watch")],
)
def test_a_call_without_its_message_is_ended(
    served: Running, silence: threading.Event, path: str
) -> None:
    failure = failure_of(lambda: next(begun(served.channel, path, nothing_until(silence))))
    assert failure.code is grpc.StatusCode.CANCELLED


@pytest.mark.parametrize("path", paths(client_streaming=True))
def test_a_stream_without_its_first_message_is_ended(
    served: Running, silence: threading.Event, path: str
) -> None:
    failure = failure_of(lambda: next(begun(served.channel, path, nothing_until(silence))))
    assert failure.code is grpc.StatusCode.DEADLINE_EXCEEDED
    assert failure.reason == "REQUEST_TIMEOUT"


def test_a_call_that_ends_without_a_message_is_refused(served: Running) -> None:
    path = f"/{SERVICE_NAME}/ContainerStatus"
    failure = failure_of(lambda: next(begun(served.channel, path, iter(()))))
    assert failure.code is grpc.StatusCode.INVALID_ARGUMENT
    assert failure.reason == "MALFORMED_MESSAGE"
    assert failure.fields == ["request"]


def test_many_silent_clients_take_no_place_from_others_for_long(
    served: Running, silence: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    # On a busy host too, the last begins before the first is ended.
    monkeypatch.setattr(first_message, "MESSAGE_LIMIT_S", 4 * FIRST_MESSAGE_S)
    path = f"/{SERVICE_NAME}/ContainerStatus"
    silent = [begun(served.channel, path, nothing_until(silence), None) for _ in range(MANY)]
    until(served.is_answered)
    codes = {failure_of(functools.partial(next, call)).code for call in silent}
    # Those for whom there was no thread were refused by grpc.
    assert codes == {grpc.StatusCode.CANCELLED, grpc.StatusCode.RESOURCE_EXHAUSTED}
    assert check(served.channel).status == SERVING


def test_a_call_that_has_its_message_may_take_its_time(
    served: Running, silence: threading.Event
) -> None:
    served.engine.held |= {"pause"}
    slow = served.stub.PauseContainer.future(PAUSE)
    assert served.engine.entered.get(timeout=LIMIT_S) == "pause"
    path = f"/{SERVICE_NAME}/ContainerStatus"
    # Began later, and is ended.
    failure_of(lambda: next(begun(served.channel, path, nothing_until(silence))))
    served.engine.release.set()
    slow.result(timeout=LIMIT_S)
