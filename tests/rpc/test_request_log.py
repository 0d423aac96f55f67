"""The line of each RPC in the log."""

from __future__ import annotations

import re

import grpc
import pytest
from structlog.typing import EventDict

from ocigrpc.errors import ContainerNotFound
from ocigrpc.log import get_logger
from ocigrpc.v1 import runtime_pb2 as v1
from ocigrpc.v1.runtime_pb2_grpc import RuntimeServiceStub as Stub
from ocigrpc.waiting import Deadline
from tests.rpc.fake_engine import FakeEngine
from tests.rpc.running import PAUSE


def test_rpc_is_one_line_with_code_and_milliseconds(stub: Stub, lines: list[EventDict]) -> None:
    stub.PauseContainer(PAUSE)
    [line] = lines
    assert line["event"] == "rpc.finished"
    assert (line["rpc"], line["container_id"], line["code"], line["log_level"]) == (
        "PauseContainer",
        "c1",
        "OK",
        "info",
    )
    assert line["duration_ms"] > 0
    assert re.fullmatch("[0-9a-f]{12}", line["request_id"])


def test_failed_rpc_is_one_line_with_its_reason(
    stub: Stub, engine: FakeEngine, lines: list[EventDict]
) -> None:
    engine.failure = ContainerNotFound.of("c1")
    with pytest.raises(grpc.RpcError):
        stub.PauseContainer(PAUSE)
    [line] = lines
    assert (line["event"], line["log_level"]) == ("rpc.finished", "warning")
    assert (line["code"], line["reason"]) == ("NOT_FOUND", "CONTAINER_NOT_FOUND")


def test_defect_is_logged_whole(stub: Stub, engine: FakeEngine, lines: list[EventDict]) -> None:
    engine.failure = ZeroDivisionError("a secret")
    with pytest.raises(grpc.RpcError):
        stub.PauseContainer(PAUSE)
    [line] = lines
    assert (line["log_level"], line["reason"]) == ("error", "UNEXPECTED")
    assert line["exc_info"] is engine.failure
    assert engine.failure.__traceback__ is not None


def test_sane_request_id_of_the_client_is_kept(stub: Stub, lines: list[EventDict]) -> None:
    stub.PauseContainer(PAUSE, metadata=(("x-request-id", "build-7.a"),))
    assert lines[0]["request_id"] == "build-7.a"


@pytest.mark.parametrize("request_id", ["", "two words", "x" * 65, "{evil}"])
def test_other_request_id_is_replaced(stub: Stub, lines: list[EventDict], request_id: str) -> None:
    stub.PauseContainer(PAUSE, metadata=(("x-request-id", request_id),))
    assert re.fullmatch("[0-9a-f]{12}", lines[0]["request_id"])


def test_what_one_rpc_bound_is_not_in_the_lines_of_the_next(
    stub: Stub, lines: list[EventDict]
) -> None:
    stub.PauseContainer(PAUSE)
    stub.Version(v1.VersionRequest())
    assert "container_id" not in lines[1]
    assert lines[0]["request_id"] != lines[1]["request_id"]


def test_what_the_engine_logs_has_the_request_id_too(
    stub: Stub,
    engine: FakeEngine,
    lines: list[EventDict],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def logging(container_id: str, deadline: Deadline) -> None:
        get_logger().info("container.paused")

    monkeypatch.setattr(engine, "pause", logging)
    stub.PauseContainer(PAUSE)
    paused, finished = lines
    assert paused["event"] == "container.paused"
    assert paused["request_id"] == finished["request_id"]
    assert paused["container_id"] == "c1"
