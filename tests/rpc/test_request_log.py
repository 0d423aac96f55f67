"""The line of each RPC in the log."""

from __future__ import annotations

import re

import grpc
import pytest
from structlog.typing import EventDict

from ocigrpc.errors import (
    Cancelled,
    CannotRun,
    ContainerNotFound,
    OcigrpcError,
    PreconditionFailed,
    RuntimeFailed,
    StoreFailed,
    Timeout,
    WrongState,
)
from ocigrpc.log import get_logger
from ocigrpc.rpc.call_log import CallLog
from ocigrpc.rpc.methods import Method
from ocigrpc.service.methods import METHODS
from ocigrpc.settings.values import LoggedCalls
from ocigrpc.v1 import runtime_pb2 as v1
from ocigrpc.v1.runtime_pb2_grpc import RuntimeServiceStub as Stub
from ocigrpc.waiting import Deadline
from tests.rpc.fake_engine import FakeEngine
from tests.rpc.running import PAUSE, STATUS


def _method(name: str) -> Method:
    return next(each for each in METHODS if each.name == name)


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
    assert (line["event"], line["code"]) == ("rpc.finished", "NOT_FOUND")
    assert line["reason"] == "CONTAINER_NOT_FOUND"


def test_call_that_only_reads_is_for_debugging(stub: Stub, lines: list[EventDict]) -> None:
    stub.ContainerStatus(STATUS)
    assert [line["log_level"] for line in lines] == ["debug"]


@pytest.mark.parametrize(
    ("failure", "level"),
    [
        (ContainerNotFound.of("c1"), "info"),
        (WrongState.of("c1", "paused", "running"), "info"),
        (CannotRun("no such program", reason="PROGRAM_NOT_FOUND"), "info"),
        (Timeout("the deadline has passed"), "info"),
        (PreconditionFailed("frozen", reason="STILL_FROZEN"), "warning"),
        (RuntimeFailed("segmentation fault"), "warning"),
        (StoreFailed("the disk is full"), "warning"),
        (Timeout("runc hangs", reason="RUNTIME_TIMEOUT"), "warning"),
    ],
    ids=lambda each: getattr(each, "reason", each),
)
def test_failure_is_a_warning_only_if_somebody_should_look_at_the_node(
    stub: Stub, engine: FakeEngine, lines: list[EventDict], failure: OcigrpcError, level: str
) -> None:
    engine.failure = failure
    with pytest.raises(grpc.RpcError):
        stub.PauseContainer(PAUSE)
    assert [line["log_level"] for line in lines] == [level]


@pytest.mark.parametrize(
    ("calls", "levels"),
    [
        ("all", ["info", "info", "info", "info", "warning"]),
        ("changes", ["info", "debug", "info", "debug", "warning"]),
        ("none", ["debug", "debug", "debug", "debug", "warning"]),
    ],
)
def test_setting_decides_which_calls_are_shown(
    lines: list[EventDict], calls: LoggedCalls, levels: list[str]
) -> None:
    call_log, change, read = CallLog(calls), _method("PauseContainer"), _method("WatchEvents")
    call_log.finished(change, 0)
    call_log.finished(read, 0)
    call_log.failed(read, ContainerNotFound.of("c1"), None, 0)
    # The way in which a client ends a stream is no mistake.
    call_log.failed(read, Cancelled("the caller has gone"), None, 0)
    call_log.failed(read, StoreFailed("the disk is full"), None, 0)
    assert [line["log_level"] for line in lines] == levels


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
