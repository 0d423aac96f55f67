"""Several listeners of one service: what may be called at each, and the caller in the log."""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import grpc
import pytest
from structlog.testing import capture_logs
from structlog.typing import EventDict

from ocigrpc.errors import HostFailed
from ocigrpc.log import add_bound
from ocigrpc.rpc.server import Server, serving
from ocigrpc.service.methods import METHODS, SERVICE_NAME
from ocigrpc.service.runtime import runtime_service
from ocigrpc.settings.access import ReadonlySocketSettings, SocketSettings, TcpSettings
from ocigrpc.settings.values import (
    LimitSettings,
    Settings,
    TimeoutSettings,
)
from ocigrpc.v1 import runtime_pb2 as v1
from ocigrpc.v1.runtime_pb2_grpc import RuntimeServiceStub
from tests.rpc.fake_engine import LIMIT_S, FakeEngine
from tests.rpc.running import PAUSE, SERVING, STATUS, WAIT, check, nothing_until, running
from tests.rpc.statuses import Failure, failure_of

CHANGING = [method.name for method in METHODS if not method.is_read_only]


class Served(NamedTuple):
    server: Server
    engine: FakeEngine
    channels: list[grpc.Channel]
    """To the socket, to the read-only socket, to TCP."""

    @property
    def stubs(self) -> list[RuntimeServiceStub]:
        return [RuntimeServiceStub(channel) for channel in self.channels]

    def wait_at_every_door(self) -> Sequence[grpc.Future[v1.WaitContainerResponse]]:
        self.engine.held |= {"wait"}
        waits = [stub.WaitContainer.future(WAIT) for stub in self.stubs]
        for _ in waits:
            assert self.engine.entered.get(timeout=LIMIT_S) == "wait"
        return waits


@pytest.fixture
def served(socket_path: Path) -> Iterator[Served]:
    engine = FakeEngine()
    settings = Settings(
        socket=SocketSettings(path=str(socket_path)),
        readonly_socket=ReadonlySocketSettings(path=f"{socket_path}.readonly"),
        tcp=TcpSettings(address="127.0.0.1:0", insecure_loopback=True),
        limits=LimitSettings(unary_threads=1, stream_threads=1),
        timeouts=TimeoutSettings(drain_s=LIMIT_S),
    )
    with serving([runtime_service(engine)], settings) as server, ExitStack() as stack:
        stack.callback(engine.release.set)
        server.open()
        channels = [
            stack.enter_context(grpc.insecure_channel(address.removeprefix("tcp:")))
            for address in server.addresses
        ]
        yield Served(server, engine, channels)
    assert list(socket_path.parent.iterdir()) == []


def raw_failure(channel: grpc.Channel, rpc: str) -> Failure:
    """How a call of any shape is refused."""
    call: grpc.StreamStreamMultiCallable[bytes, bytes]
    call = channel.stream_stream(f"/{SERVICE_NAME}/{rpc}")
    return failure_of(lambda: list(call(iter([b""]), timeout=LIMIT_S)))


@pytest.mark.parametrize("rpc", CHANGING)
def test_what_changes_something_is_refused_at_the_readonly_socket(served: Served, rpc: str) -> None:
    failure = raw_failure(served.channels[1], rpc)
    assert (failure.code, failure.reason) == (grpc.StatusCode.PERMISSION_DENIED, "READ_ONLY")
    assert dict(failure.info.metadata) == {"rpc": rpc, "address": served.server.addresses[1]}
    assert served.engine.calls == []


def test_what_changes_nothing_can_be_called_at_every_door(served: Served) -> None:
    verbose = v1.ContainerStatusRequest(container_id="c1", verbose=True)
    for stub in served.stubs:
        assert stub.ContainerStatus(verbose, timeout=LIMIT_S).info
        stub.Version(v1.VersionRequest(), timeout=LIMIT_S)
        stub.Status(v1.StatusRequest(), timeout=LIMIT_S)
        stub.ListContainers(v1.ListContainersRequest(), timeout=LIMIT_S)
        stub.WaitContainer(WAIT, timeout=LIMIT_S)


@pytest.mark.parametrize("listener", [0, 2], ids=["socket", "tcp"])
def test_everything_can_be_called_at_the_others(served: Served, listener: int) -> None:
    served.stubs[listener].PauseContainer(PAUSE, timeout=LIMIT_S)
    assert served.engine.calls == [("pause", "c1")]


def test_health_is_answered_at_every_listener(served: Served) -> None:
    for channel in served.channels:
        assert check(channel).status == SERVING


def test_clients_of_one_door_leave_room_for_those_of_another(served: Served) -> None:
    waits = served.wait_at_every_door()
    failure = failure_of(lambda: served.stubs[1].WaitContainer(WAIT, timeout=LIMIT_S))
    assert failure.reason == "TOO_MANY_STREAMS"
    served.engine.release.set()
    for wait in waits:
        wait.result(timeout=LIMIT_S)


def test_what_may_run_once_at_a_time_does_so_for_all_doors_together(served: Served) -> None:
    socket, _, tcp = served.stubs
    served.engine.held |= {"backup"}
    first = socket.BackupStore(v1.BackupStoreRequest(), timeout=LIMIT_S)
    assert next(first).content == b"store"
    failure = failure_of(lambda: list(tcp.BackupStore(v1.BackupStoreRequest(), timeout=LIMIT_S)))
    assert failure.reason == "TOO_MANY_STREAMS"
    assert failure.info.metadata["limit"] == "1"
    served.engine.release.set()
    assert list(first) == []


def test_requests_that_never_come_hold_threads_of_their_own_door_alone(served: Served) -> None:
    silent: grpc.StreamUnaryMultiCallable[bytes, bytes]
    silent = served.channels[1].stream_unary(f"/{SERVICE_NAME}/ContainerStatus")
    never = threading.Event()
    # More than a listener has threads with the limits of these tests.
    calls = [silent.future(nothing_until(never), timeout=LIMIT_S) for _ in range(64)]
    try:
        refused = first_done(calls)
        failure = failure_of(lambda: refused.result(timeout=LIMIT_S))
        assert (failure.code, failure.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "")
        for listener in (0, 2):
            served.stubs[listener].ContainerStatus(STATUS, timeout=LIMIT_S)
    finally:
        never.set()
        for call in calls:
            call.cancel()


def first_done(calls: Sequence[grpc.Future[bytes]]) -> grpc.Future[bytes]:
    """The call that ends before all others."""
    done: queue.SimpleQueue[grpc.Future[bytes]] = queue.SimpleQueue()
    for call in calls:
        call.add_done_callback(done.put)
    return done.get(timeout=LIMIT_S)


def test_drain_ends_the_calls_of_every_door(served: Served) -> None:
    waits = served.wait_at_every_door()
    assert served.server.drain(LIMIT_S)
    for wait in waits:
        error = wait.exception(timeout=LIMIT_S)
        assert isinstance(error, grpc.RpcError)
        assert Failure(error).reason == "SHUTTING_DOWN"


def test_log_names_the_way_that_a_caller_came_and_the_process_if_the_kernel_can_tell(
    served: Served,
) -> None:
    with capture_logs(processors=[add_bound]) as lines:
        for stub in served.stubs:
            stub.ContainerStatus(STATUS, timeout=LIMIT_S)
    # The line of a call is written before its answer.
    local, readonly, remote = lines
    for line, address in zip((local, readonly), served.server.addresses, strict=False):
        assert line["peer"] == address
        assert (line["peer_pid"], line["peer_uid"]) == (os.getpid(), os.geteuid())
    host, _, port = remote["peer"].rpartition(":")
    assert host == "tcp:127.0.0.1"
    assert port.isdecimal()
    assert "peer_pid" not in remote
    assert "peer_uid" not in remote


def test_peers_that_are_not_to_be_identified_are_not(
    socket_path: Path, lines: list[EventDict]
) -> None:
    with running(socket_path, identify_peers=False) as served:
        served.stub.ContainerStatus(STATUS, timeout=LIMIT_S)
        (line,) = lines
        assert line["peer"] == f"unix:{socket_path}"
        assert not {"peer_pid", "peer_uid"} & line.keys()


def test_unknown_rpc_is_named(served: Served) -> None:
    failure = raw_failure(served.channels[0], "FlyContainer")
    assert (failure.code, failure.reason) == (grpc.StatusCode.UNIMPLEMENTED, "UNKNOWN_METHOD")
    assert dict(failure.info.metadata) == {"rpc": "FlyContainer"}


def test_address_that_is_taken_is_a_failure_of_the_host(served: Served, socket_path: Path) -> None:
    settings = Settings(
        socket=SocketSettings(path=f"{socket_path}.second"),
        tcp=TcpSettings(
            address=served.server.addresses[2].removeprefix("tcp:"), insecure_loopback=True
        ),
    )
    with pytest.raises(HostFailed) as caught, serving([runtime_service(served.engine)], settings):
        pass
    assert (caught.value.reason, caught.value.metadata["address"]) == (
        "ADDRESS_UNUSABLE",
        settings.tcp.address,
    )
