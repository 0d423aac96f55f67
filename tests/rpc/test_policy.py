"""What holds for each RPC, and that none takes the places of another."""

from __future__ import annotations

import math
from typing import cast

import grpc
import pytest

from ocigrpc.errors import LimitReached, Recovering
from ocigrpc.service.call import Call
from ocigrpc.service.door import Door
from ocigrpc.service.gate import Gate
from ocigrpc.service.policy import POLICY, SERVICE_NAME, Kind, Method, method_of
from ocigrpc.v1 import runtime_pb2

DOOR = Door("unix:/s")
LIMIT = 3


class Context:
    """A client without a deadline, who stays."""

    def time_remaining(self) -> float:
        return math.inf

    def invocation_metadata(self) -> None:
        return None

    def add_callback(self, _: object) -> bool:
        return True


def call_of(method: Method) -> Call:
    return Call(method, DOOR, cast(grpc.ServicerContext, Context()))


def full_gate(method: Method) -> Gate:
    """A gate with as many calls inside as a method may have."""
    gate = Gate(LIMIT, LIMIT)
    for _ in range(LIMIT):
        gate.enter(call_of(method))
    return gate


def test_every_rpc_has_a_row_and_there_is_no_other() -> None:
    methods = runtime_pb2.DESCRIPTOR.services_by_name["RuntimeService"].methods
    assert set(POLICY) == {f"{SERVICE_NAME}/{each.name}" for each in methods}


@pytest.mark.parametrize("method", POLICY.values(), ids=lambda method: method.name)
def test_calls_of_one_rpc_take_no_place_of_another(method: Method) -> None:
    gate = full_gate(method)
    with pytest.raises(LimitReached) as caught:
        gate.enter(call_of(method))
    assert caught.value.metadata == {"limit": str(LIMIT), "rpc": method.name}
    for other in POLICY.values():
        if other.budget != method.budget:
            gate.enter(call_of(other))


def test_only_programs_that_are_run_share_places() -> None:
    budgets = [method.budget for method in POLICY.values()]
    shared = {budget for budget in budgets if budgets.count(budget) > 1}
    assert {method.name for method in POLICY.values() if method.budget in shared} == {
        "Exec",
        "ExecSync",
    }


def test_calls_of_no_rpc_take_no_place_of_one() -> None:
    gate = full_gate(method_of(f"{SERVICE_NAME}/FlyContainer"))
    with pytest.raises(LimitReached):
        gate.enter(call_of(method_of(f"{SERVICE_NAME}/DriveContainer")))
    for method in POLICY.values():
        gate.enter(call_of(method))


def test_while_it_recovers_only_questions_about_the_service_are_let_in() -> None:
    gate = Gate(LIMIT, LIMIT)
    gate.hold()
    for method in POLICY.values():
        if method.name in ("Version", "Status"):
            gate.enter(call_of(method))
        else:
            with pytest.raises(Recovering):
                gate.enter(call_of(method))


def test_what_only_reads_is_read_only_and_nothing_that_changes_something() -> None:
    for method in POLICY.values():
        assert method.is_read_only or method.kind is not Kind.READ
        assert not (method.is_read_only and method.kind in (Kind.SLOW, Kind.RESCUE))


@pytest.mark.parametrize("method", POLICY.values(), ids=lambda method: method.name)
def test_of_a_clients_time_a_tenth_is_kept_for_the_answer_or_less(method: Method) -> None:
    kept_s = 100 - method.work_s(100)
    if method.name in ("StopContainer", "Exec", "ExecSync"):
        assert kept_s == 1.5
        assert method.work_s(1) == 0.9
    elif method.kind in (Kind.WAIT, Kind.STREAM):
        assert kept_s == 0
    else:
        assert kept_s == 10
    assert method.work_s(math.inf) == math.inf
