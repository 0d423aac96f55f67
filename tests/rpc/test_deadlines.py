"""The client's deadline, and a client that goes away."""

from __future__ import annotations

import math

import grpc
import pytest

from ocigrpc.errors import Cancelled, Timeout
from ocigrpc.v1 import runtime_pb2 as v1
from ocigrpc.v1.runtime_pb2_grpc import RuntimeServiceStub as Stub
from tests.rpc.fake_engine import LIMIT_S, FakeEngine
from tests.rpc.running import PAUSE, WAIT, begin
from tests.rpc.statuses import failure_of


def test_engine_gets_nine_tenths_of_the_clients_time(stub: Stub, engine: FakeEngine) -> None:
    stub.PauseContainer(PAUSE, timeout=100)
    (deadline,) = engine.deadlines
    assert 80 < deadline.remaining_s() <= 91
    assert 85 < deadline.for_answer().remaining_s() <= 96


def test_a_stop_gets_all_of_the_clients_time_but_a_moment_for_the_answer(
    stub: Stub, engine: FakeEngine
) -> None:
    stub.StopContainer(v1.StopContainerRequest(container_id="c1"), timeout=100)
    assert 91 < engine.deadlines[0].remaining_s() <= 99.6


def test_a_wait_gets_all_of_the_clients_time(stub: Stub, engine: FakeEngine) -> None:
    stub.WaitContainer(WAIT, timeout=100)
    assert 99 < engine.deadlines[0].remaining_s() <= 101.1


def test_a_timeout_by_the_clients_deadline_arrives_before_its_clock_runs_out(
    stub: Stub, engine: FakeEngine
) -> None:
    engine.held = frozenset({"pause"})
    failure = failure_of(lambda: stub.PauseContainer(PAUSE, timeout=5))
    assert (failure.code, failure.reason) == (grpc.StatusCode.DEADLINE_EXCEEDED, "TIMEOUT")
    assert engine.left.get(timeout=LIMIT_S) is Timeout


def test_without_a_deadline_there_is_no_limit(stub: Stub, engine: FakeEngine) -> None:
    stub.PauseContainer(PAUSE)
    assert engine.deadlines[0].remaining_s() == math.inf


@pytest.mark.parametrize("verb", ["pause", "wait"])
def test_expired_deadline_ends_the_engines_wait(stub: Stub, engine: FakeEngine, verb: str) -> None:
    engine.held = frozenset({verb})
    failure = failure_of(begin(stub, verb, timeout_s=2).result)
    assert failure.code is grpc.StatusCode.DEADLINE_EXCEEDED
    # Whichever is first: the clock, or grpc's notice that the call is over.
    assert engine.left.get(timeout=LIMIT_S) in (Timeout, Cancelled)


@pytest.mark.parametrize("verb", ["pause", "wait"])
def test_client_that_goes_away_wakes_the_engines_wait(
    stub: Stub, engine: FakeEngine, verb: str
) -> None:
    engine.held = frozenset({verb})
    call = begin(stub, verb)
    assert engine.entered.get(timeout=LIMIT_S) == verb
    call.cancel()
    assert engine.left.get(timeout=LIMIT_S) is Cancelled


def test_server_lives_on_after_cancelled_calls(stub: Stub, engine: FakeEngine) -> None:
    engine.held = frozenset({"wait"})
    for _ in range(8):
        call = stub.WaitContainer.future(WAIT)
        engine.entered.get(timeout=LIMIT_S)
        call.cancel()
        assert engine.left.get(timeout=LIMIT_S) is Cancelled
    stub.PauseContainer(PAUSE, timeout=LIMIT_S)


def test_timeout_of_the_engine_itself_is_deadline_exceeded(stub: Stub, engine: FakeEngine) -> None:
    engine.failure = Timeout("late", reason="STOP_TIMEOUT")
    request = v1.StopContainerRequest(container_id="c1")
    failure = failure_of(lambda: stub.StopContainer(request, timeout=LIMIT_S))
    assert (failure.code, failure.reason) == (
        grpc.StatusCode.DEADLINE_EXCEEDED,
        "STOP_TIMEOUT",
    )
