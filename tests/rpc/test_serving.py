"""The server itself: its limits, its end, and what it serves besides."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
from grpc_reflection.v1alpha.reflection_pb2 import (
    ServerReflectionRequest,
    ServerReflectionResponse,
)

from ocigrpc.errors import Cancelled
from ocigrpc.rpc.interceptor import OTHER_STREAMS_LIMIT
from ocigrpc.service.methods import SERVICE_NAME
from ocigrpc.v1 import runtime_pb2 as v1
from tests.bed.clients.error_info import code_of
from tests.bed.hosts.leaks import until
from tests.rpc.fake_engine import LIMIT_S
from tests.rpc.running import (
    NOT_SERVING,
    PAUSE,
    SERVICE_UNKNOWN,
    SERVING,
    STATUS,
    WAIT,
    Running,
    Watch,
    check,
    running,
    watch,
)
from tests.rpc.statuses import Failure, failure_of


@pytest.fixture
def served(socket_path: Path) -> Iterator[Running]:
    with running(socket_path) as it:
        yield it


# Before the engine has recovered


def test_until_it_is_opened_only_questions_about_the_service_are_answered(
    socket_path: Path,
) -> None:
    with running(socket_path, opened=False) as served:
        served.stub.Status(v1.StatusRequest(), timeout=LIMIT_S)
        served.stub.Version(v1.VersionRequest(), timeout=LIMIT_S)
        failure = failure_of(lambda: served.stub.ContainerStatus(STATUS, timeout=LIMIT_S))
        assert failure.code is grpc.StatusCode.UNAVAILABLE
        assert failure.reason == "RECOVERING"
        failure = failure_of(lambda: served.stub.WaitContainer(WAIT, timeout=LIMIT_S))
        assert failure.reason == "RECOVERING"
        for name in ("", SERVICE_NAME):
            assert check(served.channel, name).status == NOT_SERVING
        served.server.open()
        served.stub.ContainerStatus(STATUS, timeout=LIMIT_S)
        for name in ("", SERVICE_NAME):
            assert check(served.channel, name).status == SERVING


# Limits


def test_waits_above_the_limit_are_refused_and_calls_are_not(served: Running) -> None:
    served.hold("wait", 3)
    failure = failure_of(lambda: served.stub.WaitContainer(WAIT, timeout=LIMIT_S))
    assert failure.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert failure.reason == "TOO_MANY_STREAMS"
    assert dict(failure.info.metadata) == {"limit": "3", "rpc": "WaitContainer"}
    served.stub.ContainerStatus(STATUS, timeout=LIMIT_S)


def test_calls_above_the_limit_are_refused_and_those_of_other_rpcs_are_not(
    served: Running,
) -> None:
    served.hold("pause", 2)
    failure = failure_of(lambda: served.stub.PauseContainer(PAUSE, timeout=LIMIT_S))
    assert failure.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert failure.reason == "TOO_MANY_CALLS"
    assert dict(failure.info.metadata) == {"limit": "2", "rpc": "PauseContainer"}
    served.stub.ContainerStatus(STATUS, timeout=LIMIT_S)
    served.stub.ResumeContainer(v1.ResumeContainerRequest(container_id="c1"), timeout=LIMIT_S)
    served.stub.WaitContainer(WAIT, timeout=LIMIT_S)


def test_running_calls_are_known_while_another_thread_holds_the_lock(served: Running) -> None:
    served.hold("wait", 1)
    with ThreadPoolExecutor(1) as pool, served.server._admission._released:
        (call,) = pool.submit(served.server.running).result(LIMIT_S)
    assert call.method.name == "WaitContainer"


def test_ended_calls_make_room(served: Running) -> None:
    served.hold("wait", 3)
    served.engine.release.set()
    for call in served.held:
        call.result(timeout=LIMIT_S)
    served.stub.WaitContainer(WAIT, timeout=LIMIT_S)


def test_health_answers_when_both_limits_are_reached(served: Running) -> None:
    served.hold("wait", 3)
    served.hold("pause", 2)
    assert check(served.channel).status == SERVING


def test_streams_of_other_services_are_bounded_and_make_room(served: Running) -> None:
    watches = [watch(served.channel) for _ in range(OTHER_STREAMS_LIMIT)]
    for each in watches:
        assert next(each).status == SERVING
    failure = failure_of(lambda: next(watch(served.channel)))
    assert failure.reason == "TOO_MANY_STREAMS"
    for each in watches:
        each.cancel()
    # The server notices the cancellation later.
    until(lambda: _answers(watch(served.channel)))


def _answers(answers: Watch) -> bool:
    try:
        return bool(next(answers).status == SERVING)
    except grpc.RpcError:
        return False
    finally:
        answers.cancel()


def test_message_above_the_limit_is_refused(served: Running) -> None:
    request = v1.CreateContainerRequest(spec_json=" " * (1 << 16))
    failure = failure_of(lambda: served.stub.CreateContainer(request, timeout=LIMIT_S))
    assert failure.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert served.engine.calls == []


# Reflection and health


def test_health_is_serving_for_the_whole_and_for_the_service(served: Running) -> None:
    assert check(served.channel).status == SERVING
    assert check(served.channel, SERVICE_NAME).status == SERVING


def test_health_of_a_service_that_is_not_there(served: Running) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        check(served.channel, "nobody.v1.Nothing")
    assert code_of(caught.value) is grpc.StatusCode.NOT_FOUND
    changes = watch(served.channel, "nobody.v1.Nothing")
    assert next(changes).status == SERVICE_UNKNOWN
    # It goes on, as the protocol wants.
    assert changes.is_active()
    changes.cancel()


def test_each_change_of_health_is_sent_to_all_who_watch_it(served: Running) -> None:
    watches = [watch(served.channel, name) for name in ("", SERVICE_NAME)]
    for serving in (True, False, True):
        served.server.show_health(serving=serving)
        for each in watches:
            assert next(each).status == (SERVING if serving else NOT_SERVING)
    for each in watches:
        each.cancel()


def test_reflection_names_the_services(served: Running) -> None:
    call: grpc.StreamStreamMultiCallable[ServerReflectionRequest, ServerReflectionResponse]
    call = served.channel.stream_stream(
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
        ServerReflectionRequest.SerializeToString,
        ServerReflectionResponse.FromString,
    )
    [answer] = call(iter([ServerReflectionRequest(list_services="*")]), timeout=LIMIT_S)
    names = {each.name for each in answer.list_services_response.service}
    assert {"ocigrpc.v1.RuntimeService", "grpc.health.v1.Health"} <= names


# The end


def test_drain_answers_waits_at_once(served: Running) -> None:
    served.hold("wait", 1)
    assert served.server.drain(LIMIT_S)
    error = served.held[0].exception(timeout=LIMIT_S)
    assert isinstance(error, grpc.RpcError)
    failure = Failure(error)
    assert (failure.code, failure.reason) == (grpc.StatusCode.UNAVAILABLE, "SHUTTING_DOWN")


def test_drain_refuses_new_calls_and_lets_running_ones_finish(served: Running) -> None:
    served.hold("pause", 1)
    drain = threading.Thread(target=served.server.drain, args=(LIMIT_S,))
    drain.start()
    answers = watch(served.channel)
    next(each for each in answers if each.status == NOT_SERVING)
    answers.cancel()
    # The admission closes right after health has changed.
    until(lambda: not served.is_answered())
    failure = failure_of(lambda: served.stub.ContainerStatus(STATUS, timeout=LIMIT_S))
    assert (failure.code, failure.reason) == (grpc.StatusCode.UNAVAILABLE, "SHUTTING_DOWN")
    served.engine.release.set()
    served.held[0].result(timeout=LIMIT_S)
    drain.join(LIMIT_S)
    assert not drain.is_alive()
    assert served.engine.left.get(timeout=LIMIT_S) is None


def test_drain_cancels_calls_that_do_not_finish_so_that_they_are_undone(served: Running) -> None:
    served.hold("pause", 1)
    assert served.server.drain(0.3)
    assert served.engine.left.get(timeout=LIMIT_S) is Cancelled
    error = served.held[0].exception(timeout=LIMIT_S)
    assert isinstance(error, grpc.RpcError)
    assert Failure(error).reason == "SHUTTING_DOWN"


def test_drain_is_bounded_when_a_call_never_ends(
    served: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    stuck, entered = threading.Event(), threading.Event()

    def deaf(container_id: str, deadline: object) -> None:
        entered.set()
        stuck.wait(LIMIT_S)

    monkeypatch.setattr(served.engine, "pause", deaf)
    pause = served.stub.PauseContainer.future(PAUSE)
    assert entered.wait(LIMIT_S)
    try:
        assert not served.server.drain(0.3)
        assert isinstance(pause.exception(timeout=LIMIT_S), grpc.RpcError)
    finally:
        stuck.set()


def test_status_counts_the_calls_that_wait(served: Running) -> None:
    assert not served.stub.Status(v1.StatusRequest(), timeout=LIMIT_S).streams
    served.hold("wait", 2)
    served.hold("pause", 1)
    assert served.stub.Status(v1.StatusRequest(), timeout=LIMIT_S).streams == {"WaitContainer": 2}
