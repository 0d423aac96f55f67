"""A server over a fake engine, with small limits, and its health."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple, TypeAlias

import grpc
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse

from ocigrpc.rpc.admission import Admission
from ocigrpc.rpc.call_log import CallLog
from ocigrpc.rpc.interceptor import Interceptor
from ocigrpc.rpc.listener import Listener
from ocigrpc.rpc.methods import MethodTable
from ocigrpc.rpc.server import Server, serving
from ocigrpc.service.images.handlers import image_service
from ocigrpc.service.runtime import runtime_service
from ocigrpc.settings.access import FileMode, SocketSettings
from ocigrpc.settings.values import (
    LimitSettings,
    Settings,
    TimeoutSettings,
)
from ocigrpc.v1 import runtime_pb2 as v1
from ocigrpc.v1.runtime_pb2_grpc import RuntimeServiceStub
from tests.rpc.fake_engine import LIMIT_S, FakeEngine

PAUSE = v1.PauseContainerRequest(container_id="c1")
WAIT = v1.WaitContainerRequest(container_id="c1")
STATUS = v1.ContainerStatusRequest(container_id="c1")
SERVING = HealthCheckResponse.SERVING
NOT_SERVING = HealthCheckResponse.NOT_SERVING
SERVICE_UNKNOWN = HealthCheckResponse.SERVICE_UNKNOWN

Watch: TypeAlias = "grpc._CallIterator[HealthCheckResponse]"
Held: TypeAlias = "grpc.Future[v1.WaitContainerResponse] | grpc.Future[v1.PauseContainerResponse]"


def begin(stub: RuntimeServiceStub, verb: str, timeout_s: float | None = None) -> Held:
    """A call under way that the engine knows as this verb."""
    if verb == "wait":
        return stub.WaitContainer.future(WAIT, timeout=timeout_s)
    return stub.PauseContainer.future(PAUSE, timeout=timeout_s)


class Running(NamedTuple):
    server: Server
    engine: FakeEngine
    channel: grpc.Channel
    stub: RuntimeServiceStub
    held: list[Held]
    """Running calls; grpc cancels those without a reference."""

    def hold(self, verb: str, count: int) -> None:
        """Make ``count`` calls that the engine holds until its ``release``."""
        self.engine.held |= {verb}
        for _ in range(count):
            self.held.append(begin(self.stub, verb))
            assert self.engine.entered.get(timeout=LIMIT_S) == verb

    def is_answered(self) -> bool:
        """Whether a call gets an answer, and is not refused."""
        with suppress(grpc.RpcError):
            self.stub.ContainerStatus(STATUS, timeout=LIMIT_S)
            return True
        return False


def nothing_until(event: threading.Event) -> Iterator[bytes]:
    """Messages of a client that sends none, and is silent until an event."""
    event.wait()
    yield from ()


def interceptor(limit: int) -> Interceptor:
    """What a server conducts the service with, with places for so many calls of each RPC."""
    service = runtime_service(FakeEngine())
    methods = MethodTable([service])
    admission = Admission(methods.places(limit, limit))
    listener, call_log = Listener("unix:/test.sock"), CallLog("changes")
    return Interceptor(admission, listener, methods, service.count_limits, call_log)


@contextmanager
def running(
    socket_path: Path,
    *,
    opened: bool = True,
    mode: int = SocketSettings().mode,
    group: str = "",
    identify_peers: bool = True,
    inherited: Mapping[str, socket.socket] = MappingProxyType({}),
) -> Iterator[Running]:
    engine = FakeEngine()
    settings = Settings(
        socket=SocketSettings(
            path=str(socket_path),
            mode=FileMode(mode),
            group=group,
            identify_peers=identify_peers,
        ),
        limits=LimitSettings(unary_threads=2, stream_threads=3, message_bytes=1 << 16),
        timeouts=TimeoutSettings(drain_s=LIMIT_S),
    )
    services = [runtime_service(engine), image_service(engine.images)]
    with (
        serving(services, settings, inherited) as server,
        grpc.insecure_channel(f"unix:{socket_path}") as channel,
    ):
        if opened:
            server.open()
        try:
            yield Running(server, engine, channel, RuntimeServiceStub(channel), [])
        finally:
            engine.release.set()


def check(channel: grpc.Channel, service: str = "") -> HealthCheckResponse:
    call: grpc.UnaryUnaryMultiCallable[HealthCheckRequest, HealthCheckResponse]
    call = channel.unary_unary(
        "/grpc.health.v1.Health/Check",
        HealthCheckRequest.SerializeToString,
        HealthCheckResponse.FromString,
    )
    return call(HealthCheckRequest(service=service), timeout=LIMIT_S)


def watch(channel: grpc.Channel, service: str = "") -> Watch:
    call: grpc.UnaryStreamMultiCallable[HealthCheckRequest, HealthCheckResponse]
    call = channel.unary_stream(
        "/grpc.health.v1.Health/Watch",
        HealthCheckRequest.SerializeToString,
        HealthCheckResponse.FromString,
    )
    return call(HealthCheckRequest(service=service), timeout=LIMIT_S)
