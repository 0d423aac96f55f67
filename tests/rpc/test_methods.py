"""What holds for each RPC, and that none takes the places of another."""

from __future__ import annotations

import math
from collections.abc import Sequence
from unittest.mock import Mock

import grpc
import pytest
from google.protobuf.descriptor import ServiceDescriptor

from ocigrpc.errors import LimitReached, Recovering
from ocigrpc.rpc.admission import Admission
from ocigrpc.rpc.call import Call
from ocigrpc.rpc.listener import Listener
from ocigrpc.rpc.methods import Kind, Method, MethodTable, Service
from ocigrpc.service.images.methods import METHODS as IMAGE_METHODS
from ocigrpc.service.methods import METHODS, SERVICE_NAME
from ocigrpc.v1 import image_pb2, runtime_pb2

DOOR = Listener("unix:/s")
LIMIT = 3
TABLE = MethodTable([Service(SERVICE_NAME, lambda _: None, METHODS)])


def call_of(method: Method) -> Call:
    """A call of a client that has no deadline, and stays."""
    context = Mock(spec=grpc.ServicerContext)
    context.time_remaining.return_value = math.inf
    context.invocation_metadata.return_value = ()
    return Call(method, DOOR, context)


def full_admission(method: Method) -> Admission:
    """An admission with as many calls inside as a method may have."""
    admission = Admission(TABLE.places(LIMIT, LIMIT))
    for _ in range(limit_of(method)):
        admission.admit(call_of(method))
    return admission


def limit_of(method: Method) -> int:
    return 1 if method.name == "BackupStore" else LIMIT


@pytest.mark.parametrize(
    ("service", "rows"),
    [
        (runtime_pb2.DESCRIPTOR.services_by_name["RuntimeService"], METHODS),
        (image_pb2.DESCRIPTOR.services_by_name["ImageService"], IMAGE_METHODS),
    ],
    ids=["RuntimeService", "ImageService"],
)
def test_every_rpc_has_a_row_and_there_is_no_other(
    service: ServiceDescriptor, rows: Sequence[Method]
) -> None:
    contract = {f"{service.full_name}/{each.name}" for each in service.methods}
    assert {each.full_name for each in rows} == contract


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_calls_of_one_rpc_take_no_place_of_another(method: Method) -> None:
    admission = full_admission(method)
    with pytest.raises(LimitReached) as caught:
        admission.admit(call_of(method))
    assert caught.value.metadata == {"limit": str(limit_of(method)), "rpc": method.name}
    for other in METHODS:
        if other.budget != method.budget:
            admission.admit(call_of(other))


def test_only_programs_that_are_run_share_places() -> None:
    budgets = [method.budget for method in METHODS]
    shared = {budget for budget in budgets if budgets.count(budget) > 1}
    assert {method.name for method in METHODS if method.budget in shared} == {
        "Exec",
        "ExecSync",
    }


def test_calls_of_no_rpc_take_no_place_of_one() -> None:
    fly, drive = (TABLE.find(f"/{SERVICE_NAME}/{name}") for name in ("Fly", "Drive"))
    assert fly is not None
    assert drive is not None
    admission = full_admission(fly)
    with pytest.raises(LimitReached):
        admission.admit(call_of(drive))
    for method in METHODS:
        admission.admit(call_of(method))


def test_while_recovering_only_calls_about_the_service_are_admitted() -> None:
    admission = Admission(TABLE.places(LIMIT, LIMIT), recovering=True)
    for method in METHODS:
        if method.name in ("Version", "Status"):
            admission.admit(call_of(method))
        else:
            with pytest.raises(Recovering):
                admission.admit(call_of(method))


def test_what_only_reads_is_read_only_and_nothing_that_changes_something() -> None:
    for method in METHODS:
        assert method.is_read_only or method.kind is not Kind.READ
        assert not (method.is_read_only and method.kind in (Kind.SLOW, Kind.RESCUE))


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_of_a_clients_time_a_tenth_is_kept_for_the_answer_or_less(method: Method) -> None:
    kept_s = 100 - method.work_s(100)
    if method.name in ("StopContainer", "Exec", "ExecSync", "CopyOut", "CopyInto"):
        assert kept_s == 1.5
        assert method.work_s(1) == 0.9
    elif method.kind in (Kind.WAIT, Kind.STREAM):
        assert kept_s == 0
    else:
        assert kept_s == 10
    assert method.work_s(math.inf) == math.inf


def test_methods_of_the_same_name_in_two_services_share_nothing() -> None:
    other = Method("other.Service/PauseContainer", Kind.RESCUE, "other.Service/PauseContainer")
    ours = Service(SERVICE_NAME, lambda _: None, METHODS)
    table = MethodTable([ours, Service("other.Service", lambda _: None, [other])])
    found = table.find(f"/{SERVICE_NAME}/PauseContainer")
    assert found is not None
    assert found.kind is Kind.SLOW
    assert table.find("/other.Service/PauseContainer") == other
    assert table.find("/third.Service/PauseContainer") is None
    admission = Admission(table.places(LIMIT, LIMIT))
    for method in (found, other):
        for _ in range(LIMIT):
            admission.admit(call_of(method))
