"""The service over a fake engine, behind real gRPC on a unix socket."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest
from structlog.testing import capture_logs
from structlog.typing import EventDict

from ocigrpc.log import add_bound
from ocigrpc.service.runtime import RuntimeService
from ocigrpc.v1.runtime_pb2_grpc import (
    RuntimeServiceStub,
    add_RuntimeServiceServicer_to_server,
)
from tests.rpc.fake_engine import FakeEngine
from tests.rpc.running import interceptor


@pytest.fixture
def socket_path() -> Iterator[Path]:
    """Where a socket may be; pytest's own directories are too deep for one."""
    with tempfile.TemporaryDirectory(prefix="ocigrpc-") as directory:
        yield Path(directory) / "test.sock"


@pytest.fixture(scope="module")
def module_engine() -> FakeEngine:
    return FakeEngine()


@pytest.fixture
def engine(module_engine: FakeEngine) -> Iterator[FakeEngine]:
    """The engine behind ``stub``, as new."""
    module_engine.reset()
    yield module_engine
    module_engine.release.set()


@pytest.fixture
def stub(grpc_stub: RuntimeServiceStub, engine: FakeEngine) -> RuntimeServiceStub:
    """A client of that engine."""
    return grpc_stub


@pytest.fixture
def lines() -> Iterator[list[EventDict]]:
    """What is logged in a test."""
    with capture_logs(processors=[add_bound]) as captured:
        yield captured


# What follows are the parts that pytest-grpc asks for, to put them together itself.


@pytest.fixture(scope="module")
def grpc_addr() -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="ocigrpc-") as directory:
        yield f"unix:{directory}/test.sock"


@pytest.fixture(scope="module")
def grpc_interceptors() -> list[grpc.ServerInterceptor]:
    return [interceptor(limit=4)]


@pytest.fixture(scope="module")
def grpc_servicer(module_engine: FakeEngine) -> RuntimeService:
    return RuntimeService(module_engine)


@pytest.fixture(scope="module")
def grpc_add_to_server() -> Callable[..., None]:
    return add_RuntimeServiceServicer_to_server


@pytest.fixture(scope="module")
def grpc_stub_cls() -> type[RuntimeServiceStub]:
    return RuntimeServiceStub
