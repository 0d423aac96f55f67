"""Streams: conducted by the interceptor like every RPC, whichever of grpc's shapes they have."""

from __future__ import annotations

import queue
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeAlias

import grpc
import pytest
from structlog.typing import EventDict

from ocigrpc.errors import ContainerNotFound
from ocigrpc.rpc.call import Call
from ocigrpc.service.methods import SERVICE_NAME
from ocigrpc.v1.runtime_pb2 import PauseContainerRequest as Request
from tests.bed.hosts.leaks import until
from tests.rpc.fake_engine import LIMIT_S
from tests.rpc.running import interceptor
from tests.rpc.statuses import failure_of

ONE = Request(container_id="c1")
ended: queue.SimpleQueue[str] = queue.SimpleQueue()


def echo(request: Request, call: Call) -> Iterator[Request]:
    """Two answers; then the container is "missing", or the stream never ends."""
    try:
        yield request
        yield request
        if request.container_id == "missing":
            raise ContainerNotFound.of("missing")
        while request.container_id == "endless":
            yield request
    finally:
        ended.put(request.container_id)


def last(requests: Iterator[Request], call: Call) -> Request:
    return list(requests)[-1]


def each(requests: Iterator[Request], call: Call) -> Iterator[Request]:
    yield from requests


class Streams(grpc.GenericRpcHandler):
    """RPCs of all shapes, one in the place of WatchStats, the others unknown to the service."""

    def service(
        self, handler_call_details: grpc.HandlerCallDetails
    ) -> grpc.RpcMethodHandler[Request, Request] | None:
        coding = (Request.FromString, Request.SerializeToString)
        handlers: dict[str, grpc.RpcMethodHandler[Request, Request]] = {
            "WatchStats": grpc.unary_stream_rpc_method_handler(echo, *coding),
            "Last": grpc.stream_unary_rpc_method_handler(last, *coding),
            "Each": grpc.stream_stream_rpc_method_handler(each, *coding),
        }
        return handlers.get(handler_call_details.method.rpartition("/")[2])


@pytest.fixture
def channel() -> Iterator[grpc.Channel]:
    server = grpc.server(
        ThreadPoolExecutor(4),
        handlers=[Streams()],
        interceptors=[interceptor(limit=1)],
    )
    with tempfile.TemporaryDirectory(prefix="ocigrpc-") as directory:
        address = f"unix:{Path(directory) / 'test.sock'}"
        server.add_insecure_port(address)
        server.start()
        with grpc.insecure_channel(address) as channel:
            yield channel
        server.stop(None)


def path(name: str) -> str:
    return f"/{SERVICE_NAME}/{name}"


Echo: TypeAlias = "grpc.UnaryStreamMultiCallable[Request, Request]"


def echo_rpc(channel: grpc.Channel) -> Echo:
    return channel.unary_stream(path("WatchStats"), Request.SerializeToString, Request.FromString)


def test_stream_of_answers_is_one_line_in_the_log(
    channel: grpc.Channel, lines: list[EventDict]
) -> None:
    assert list(echo_rpc(channel)(ONE, timeout=LIMIT_S)) == [ONE, ONE]
    [line] = lines
    assert (line["rpc"], line["container_id"], line["code"]) == ("WatchStats", "c1", "OK")


def test_stream_of_requests_is_answered_once(channel: grpc.Channel, lines: list[EventDict]) -> None:
    call: grpc.StreamUnaryMultiCallable[Request, Request]
    call = channel.stream_unary(path("Last"), Request.SerializeToString, Request.FromString)
    two = Request(container_id="c2")
    assert call(iter([ONE, two]), timeout=LIMIT_S) == two
    assert [line["code"] for line in lines] == ["OK"]


def test_stream_of_both(channel: grpc.Channel, lines: list[EventDict]) -> None:
    call: grpc.StreamStreamMultiCallable[Request, Request]
    call = channel.stream_stream(path("Each"), Request.SerializeToString, Request.FromString)
    assert list(call(iter([ONE, ONE]), timeout=LIMIT_S)) == [ONE, ONE]
    assert [line["code"] for line in lines] == ["OK"]


def test_stream_that_fails_midway_has_a_rich_error(
    channel: grpc.Channel, lines: list[EventDict]
) -> None:
    answers = echo_rpc(channel)(Request(container_id="missing"), timeout=LIMIT_S)
    next(answers)
    next(answers)
    failure = failure_of(lambda: next(answers))
    assert (failure.code, failure.reason) == (grpc.StatusCode.NOT_FOUND, "CONTAINER_NOT_FOUND")
    assert [line["code"] for line in lines] == ["NOT_FOUND"]


def test_client_that_leaves_a_stream_ends_its_handler(
    channel: grpc.Channel, lines: list[EventDict]
) -> None:
    answers = echo_rpc(channel)(Request(container_id="endless"), timeout=LIMIT_S)
    next(answers)
    answers.cancel()
    while ended.get(timeout=LIMIT_S) != "endless":
        pass
    # The admission lets one stream in at a time: a second one proves that the first has left.
    until(lambda: is_answered(channel))
    assert lines[0]["code"] == "CANCELLED"


def is_answered(channel: grpc.Channel) -> bool:
    try:
        answers = list(echo_rpc(channel)(ONE, timeout=LIMIT_S))
    except grpc.RpcError:
        return False
    assert answers == [ONE, ONE]
    return True


def test_streams_count_against_the_limit_of_streams(channel: grpc.Channel) -> None:
    first = echo_rpc(channel)(Request(container_id="endless"), timeout=LIMIT_S)
    next(first)
    second = echo_rpc(channel)(ONE, timeout=LIMIT_S)
    assert failure_of(lambda: next(second)).reason == "TOO_MANY_STREAMS"
    first.cancel()


def test_stream_request_that_is_no_message_is_an_invalid_argument(channel: grpc.Channel) -> None:
    call: grpc.UnaryStreamMultiCallable[bytes, bytes] = channel.unary_stream(path("WatchStats"))
    failure = failure_of(lambda: next(call(b"\xff\xff", timeout=LIMIT_S)))
    assert failure.reason == "MALFORMED_MESSAGE"
