"""The Python client over real gRPC: how streams end, late answers, attempts to connect."""

from __future__ import annotations

import gc
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import grpc
import pytest
from google.rpc import code_pb2
from google.rpc.status_pb2 import Status
from grpc_status import rpc_status

from ocigrpc import Client
from ocigrpc.client import Stream
from ocigrpc.client.channel import open_channel
from ocigrpc.errors import Cancelled, ContainerNotFound, Timeout
from ocigrpc.service.methods import SERVICE_NAME
from ocigrpc.v1 import runtime_pb2 as v1
from ocigrpc.v1.event_pb2 import WatchEventsResponse
from ocigrpc.v1.runtime_pb2_grpc import RuntimeServiceStub
from ocigrpc.waiting import Deadline
from tests.bed.hosts.leaks import until
from tests.rpc.fake_engine import LIMIT_S
from tests.rpc.running import Running, running


@pytest.fixture
def served(socket_path: Path) -> Iterator[Running]:
    with running(socket_path) as it:
        it.engine.held = frozenset({"watch"})
        yield it


@pytest.fixture
def client(served: Running, socket_path: Path) -> Iterator[Client]:
    with Client(str(socket_path), timeout_s=LIMIT_S) as it:
        yield it


def begun(
    served: Running, client: Client, timeout_s: float | None = None
) -> Stream[WatchEventsResponse]:
    """A stream whose next message does not come."""
    stream = client.watch_events(timeout_s=timeout_s)
    assert next(stream).cursor == 15
    assert served.engine.entered.get(timeout=LIMIT_S) == "watch"
    return stream


def test_what_the_pieces_of_an_archive_raise_is_raised(client: Client) -> None:
    def pieces() -> Iterator[bytes]:
        yield b"begin"
        raise LookupError("no end")

    with pytest.raises(LookupError, match="no end"):
        client.load_image(pieces())


def test_close_ends_a_read_of_another_thread(served: Running, client: Client) -> None:
    stream = begun(served, client)
    with ThreadPoolExecutor() as pool:
        rest = pool.submit(list, stream)
        until(rest.running)
        stream.close()
        assert rest.result(LIMIT_S) == []
    assert served.engine.left.get(timeout=LIMIT_S) is Cancelled
    stream.close()


def test_a_with_closes_its_stream(served: Running, client: Client) -> None:
    with begun(served, client) as stream:
        assert served.engine.left.empty()
    assert served.engine.left.get(timeout=LIMIT_S) is Cancelled
    assert list(stream) == []


def test_a_stream_that_nobody_refers_to_is_closed(served: Running, client: Client) -> None:
    gc.disable()
    try:
        begun(served, client)
        assert served.engine.left.get(timeout=LIMIT_S) is Cancelled
    finally:
        gc.enable()


def test_a_stream_ends_with_its_time(served: Running, client: Client) -> None:
    stream = begun(served, client, timeout_s=0.5)
    with pytest.raises(Timeout):
        next(stream)
    # Its own end is not one that the client asked for.
    with pytest.raises(Timeout):
        next(stream)


def test_the_end_of_the_client_is_no_end_of_a_stream(served: Running, client: Client) -> None:
    stream = begun(served, client)
    client.close()
    with pytest.raises(Cancelled):
        next(stream)


def test_a_stream_fails_as_the_service_does(served: Running, client: Client) -> None:
    served.engine.held = frozenset()
    served.engine.failure = ContainerNotFound("web")
    stream = client.watch_events()
    assert next(stream).cursor == 15
    with pytest.raises(ContainerNotFound):
        next(stream)


def late(request: bytes, context: grpc.ServicerContext) -> bytes:
    """Answer as gRPC does that has just given up: its code is not that of the service's answer."""
    answer = rpc_status.to_status(Status(code=code_pb2.ABORTED, message="busy"))
    context.set_trailing_metadata(answer.trailing_metadata)
    context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded")


def test_an_answer_that_comes_too_late_is_a_timeout(socket_path: Path) -> None:
    server = grpc.server(ThreadPoolExecutor(1))
    handlers: dict[str, grpc.RpcMethodHandler[bytes, bytes]]
    handlers = {"PauseContainer": grpc.unary_unary_rpc_method_handler(late)}
    server.add_registered_method_handlers(SERVICE_NAME, handlers)
    server.add_insecure_port(f"unix:{socket_path}")
    server.start()
    try:
        with Client(str(socket_path)) as client, pytest.raises(Timeout) as timeout:
            client.pause_container("web")
        assert timeout.value.message == "the deadline has passed"
    finally:
        server.stop(None).wait()


def test_a_service_that_is_back_is_found_soon(socket_path: Path) -> None:
    # gRPC's own pauses double: it would try the eighth time after half a minute at the earliest.
    attempts = 8
    with closing(socket.socket(socket.AF_UNIX)) as listener:
        listener.bind(str(socket_path))
        listener.listen()
        with open_channel(str(socket_path), None) as channel:
            stub = RuntimeServiceStub(channel)
            call = stub.Version.future(v1.VersionRequest(), wait_for_ready=True)
            deadline = Deadline(LIMIT_S)
            for _ in range(attempts):
                deadline.wait(listener)
                listener.accept()[0].close()
            call.cancel()
