"""Lists in pages: each entry once, in order, and no answer larger than clients take."""

from __future__ import annotations

import msgspec
import pytest

from ocigrpc.engine.model.values import State
from ocigrpc.service.pages import ANSWER_LIMIT_BYTES
from ocigrpc.v1 import container_pb2
from ocigrpc.v1 import runtime_pb2 as v1
from ocigrpc.v1.runtime_pb2_grpc import RuntimeServiceStub as Stub
from tests.rpc.fake_engine import LIMIT_S, FakeEngine, view_of
from tests.rpc.statuses import failure_of

# What a client of gRPC accepts by default.
CLIENTS_LIMIT_BYTES = 4 << 20


def fill(engine: FakeEngine, count: int, label_bytes: int = 0) -> None:
    """So many containers, two of each moment."""
    engine.views = [
        view_of(
            container_id=f"c{number:04}",
            created_ns=number // 2,
            labels={"long": "x" * label_bytes},
        )
        for number in range(count)
    ]


def all_pages(stub: Stub, request: v1.ListContainersRequest) -> list[v1.ListContainersResponse]:
    answers = [stub.ListContainers(request, timeout=LIMIT_S)]
    while answers[-1].next_page_token:
        request.page_token = answers[-1].next_page_token
        answers.append(stub.ListContainers(request, timeout=LIMIT_S))
    return answers


def ids(answers: list[v1.ListContainersResponse]) -> list[str]:
    return [each.container_id for answer in answers for each in answer.containers]


@pytest.mark.parametrize(
    ("page_size", "lengths"),
    [(0, [7]), (1, [1] * 7), (3, [3, 3, 1]), (7, [7]), (100, [7]), (2**31 - 1, [7])],
)
def test_every_page_has_the_requested_size(
    stub: Stub, engine: FakeEngine, page_size: int, lengths: list[int]
) -> None:
    fill(engine, 7)
    answers = all_pages(stub, v1.ListContainersRequest(page_size=page_size))
    assert [len(answer.containers) for answer in answers] == lengths
    assert ids(answers) == [view.record.container_id for view in engine.views]


def test_what_has_changed_is_listed_as_it_is_now(stub: Stub, engine: FakeEngine) -> None:
    """The same containers are listed as often as they are asked for, and changes at once."""
    fill(engine, 3)
    unchanged, changed, kept = engine.views
    before = stub.ListContainers(v1.ListContainersRequest(), timeout=LIMIT_S)
    assert stub.ListContainers(v1.ListContainersRequest(), timeout=LIMIT_S) == before
    engine.views = [unchanged, msgspec.structs.replace(changed, state=State.PAUSED), kept]
    after = stub.ListContainers(v1.ListContainersRequest(), timeout=LIMIT_S)
    before.containers[1].state = container_pb2.CONTAINER_STATE_PAUSED
    assert after == before


def test_of_nothing_there_is_one_page(stub: Stub, engine: FakeEngine) -> None:
    engine.views = []
    assert all_pages(stub, v1.ListContainersRequest(page_size=3)) == [v1.ListContainersResponse()]


def test_what_does_not_fit_a_message_is_on_the_next_page(stub: Stub, engine: FakeEngine) -> None:
    fill(engine, 50, label_bytes=250_000)
    answers = all_pages(stub, v1.ListContainersRequest())
    assert len(answers) == 5
    assert all(answer.ByteSize() <= CLIENTS_LIMIT_BYTES for answer in answers)
    assert ids(answers) == [view.record.container_id for view in engine.views]


def test_one_that_is_too_large_by_itself_is_on_a_page_of_its_own(
    stub: Stub, engine: FakeEngine
) -> None:
    fill(engine, 2, label_bytes=ANSWER_LIMIT_BYTES)
    answers = all_pages(stub, v1.ListContainersRequest())
    assert [len(answer.containers) for answer in answers] == [1, 1]


def test_containers_made_and_removed_meanwhile_make_none_repeat_or_be_missed(
    stub: Stub, engine: FakeEngine
) -> None:
    fill(engine, 6)
    before = list(engine.views)
    request = v1.ListContainersRequest(page_size=2)
    answer = stub.ListContainers(request, timeout=LIMIT_S)
    late = view_of(container_id="late", created_ns=99)
    # Even of those that the token names.
    engine.views = [*before[2:4], *before[5:], late]
    request.page_token = answer.next_page_token
    assert ids(all_pages(stub, request)) == ["c0002", "c0003", "c0005", "late"]


@pytest.mark.parametrize(
    "token",
    ["x", "W10=", "WzEsMiwzXQ==", "\u00e9", "=", "A" * 10_000, "bnVsbA==", "WzEsIv8iLCJhIl0="],
)
def test_a_token_that_is_none_is_refused(stub: Stub, engine: FakeEngine, token: str) -> None:
    listed = v1.ListContainersRequest(page_token=token)
    used = v1.ListContainerStatsRequest(page_token=token)
    for failure in (
        failure_of(lambda: stub.ListContainers(listed, timeout=LIMIT_S)),
        failure_of(lambda: stub.ListContainerStats(used, timeout=LIMIT_S)),
    ):
        assert (failure.reason, failure.fields) == ("INVALID_PAGE_TOKEN", ["page_token"])
    assert engine.calls == []


def test_a_token_of_another_filter_is_refused(stub: Stub, engine: FakeEngine) -> None:
    fill(engine, 4)
    answer = stub.ListContainers(v1.ListContainersRequest(page_size=2), timeout=LIMIT_S)
    request = v1.ListContainersRequest(
        page_token=answer.next_page_token, filter=v1.ContainerFilter(id_prefix="c")
    )
    failure = failure_of(lambda: stub.ListContainers(request, timeout=LIMIT_S))
    assert failure.reason == "INVALID_PAGE_TOKEN"


def test_a_negative_size_is_refused(stub: Stub) -> None:
    request = v1.ListContainersRequest(page_size=-1)
    failure = failure_of(lambda: stub.ListContainers(request, timeout=LIMIT_S))
    assert (failure.reason, failure.fields) == ("OUT_OF_RANGE", ["page_size"])
