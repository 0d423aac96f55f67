"""The server itself: its socket, its limits, its end, and what it serves besides."""

from __future__ import annotations

import grp
import os
import socket
import stat
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, TypeAlias

import grpc
import pytest
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_reflection.v1alpha.reflection_pb2 import (
    ServerReflectionRequest,
    ServerReflectionResponse,
)

from ocigrpc.errors import Cancelled, HostFailed, InvalidSettings
from ocigrpc.service.interceptor import OTHER_STREAMS_LIMIT, SERVICE_NAME
from ocigrpc.service.server import Server, serving
from ocigrpc.settings import FileMode, Settings
from ocigrpc.v1 import runtime_pb2 as v1
from ocigrpc.v1.runtime_pb2_grpc import RuntimeServiceStub
from tests.rpc.fake_engine import LIMIT_S, FakeEngine
from tests.rpc.statuses import Failure, failure_of

PAUSE = v1.PauseContainerRequest(container_id="c1")
WAIT = v1.WaitContainerRequest(container_id="c1")
STATUS = v1.ContainerStatusRequest(container_id="c1")
SERVING = HealthCheckResponse.SERVING
NOT_SERVING = HealthCheckResponse.NOT_SERVING

Watch: TypeAlias = "grpc._CallIterator[HealthCheckResponse]"


class Running(NamedTuple):
    server: Server
    engine: FakeEngine
    channel: grpc.Channel
    stub: RuntimeServiceStub
    held: list[grpc.Future[v1.WaitContainerResponse] | grpc.Future[v1.PauseContainerResponse]]
    """Calls that are under way; grpc cancels those that nobody holds on to."""

    def hold(self, verb: str, count: int) -> None:
        """Make ``count`` calls that the engine holds until its ``release``."""
        self.engine.held |= {verb}
        for _ in range(count):
            if verb == "wait":
                self.held.append(self.stub.WaitContainer.future(WAIT))
            else:
                self.held.append(self.stub.PauseContainer.future(PAUSE))
            assert self.engine.entered.get(timeout=LIMIT_S) == verb


@contextmanager
def running(socket_path: Path, *, opened: bool = True) -> Iterator[Running]:
    engine = FakeEngine()
    settings = Settings(
        socket_path=str(socket_path),
        unary_threads=2,
        stream_threads=3,
        max_message_bytes=1 << 16,
        drain_timeout_s=LIMIT_S,
    )
    with (
        serving(engine, settings) as server,
        grpc.insecure_channel(f"unix:{socket_path}") as channel,
    ):
        if opened:
            server.open()
        try:
            yield Running(server, engine, channel, RuntimeServiceStub(channel), [])
        finally:
            engine.release.set()


@pytest.fixture
def served(socket_path: Path) -> Iterator[Running]:
    with running(socket_path) as it:
        yield it


def check(channel: grpc.Channel, service: str = "") -> HealthCheckResponse:
    call: grpc.UnaryUnaryMultiCallable[HealthCheckRequest, HealthCheckResponse]
    call = channel.unary_unary(
        "/grpc.health.v1.Health/Check",
        HealthCheckRequest.SerializeToString,
        HealthCheckResponse.FromString,
    )
    return call(HealthCheckRequest(service=service), timeout=LIMIT_S)


def watch(channel: grpc.Channel) -> Watch:
    call: grpc.UnaryStreamMultiCallable[HealthCheckRequest, HealthCheckResponse]
    call = channel.unary_stream(
        "/grpc.health.v1.Health/Watch",
        HealthCheckRequest.SerializeToString,
        HealthCheckResponse.FromString,
    )
    return call(HealthCheckRequest(), timeout=LIMIT_S)


def drain_in_thread(server: Server, timeout_s: float) -> threading.Thread:
    thread = threading.Thread(target=server.drain, args=(timeout_s,))
    thread.start()
    return thread


def wait_until_not_serving(channel: grpc.Channel) -> None:
    answers = watch(channel)
    next(each for each in answers if each.status == NOT_SERVING)
    answers.cancel()


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
    assert dict(failure.info.metadata) == {"limit": "3"}
    served.stub.ContainerStatus(STATUS, timeout=LIMIT_S)


def test_calls_above_the_limit_are_refused_and_waits_are_not(served: Running) -> None:
    served.hold("pause", 2)
    failure = failure_of(lambda: served.stub.ContainerStatus(STATUS, timeout=LIMIT_S))
    assert failure.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert failure.reason == "TOO_MANY_CALLS"
    served.stub.WaitContainer(WAIT, timeout=LIMIT_S)


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
    # The server hears of the cancelling in its own time.
    until_s = time.monotonic() + LIMIT_S
    while not _answers(watch(served.channel)):
        assert time.monotonic() < until_s


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
    assert served.engine.asked == []


# Reflection and health


def test_health_is_serving_for_the_whole_and_for_the_service(served: Running) -> None:
    assert check(served.channel).status == SERVING
    assert check(served.channel, SERVICE_NAME).status == SERVING


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
    drain = drain_in_thread(served.server, LIMIT_S)
    wait_until_not_serving(served.channel)
    # The gate closes right after health has been told.
    until_s = time.monotonic() + LIMIT_S
    while (failure := _outcome(served)) is None:
        assert time.monotonic() < until_s
    assert (failure.code, failure.reason) == (grpc.StatusCode.UNAVAILABLE, "SHUTTING_DOWN")
    served.engine.release.set()
    served.held[0].result(timeout=LIMIT_S)
    drain.join(LIMIT_S)
    assert not drain.is_alive()
    assert served.engine.left.get(timeout=LIMIT_S) is None


def _outcome(served: Running) -> Failure | None:
    try:
        served.stub.ContainerStatus(STATUS, timeout=LIMIT_S)
    except grpc.RpcError as error:
        return Failure(error)
    return None


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


# The socket


def test_socket_has_its_mode_whatever_the_umask(socket_path: Path) -> None:
    before = os.umask(0o000)
    try:
        settings = Settings(socket_path=str(socket_path), socket_mode=FileMode(0o640))
        with serving(FakeEngine(), settings):
            assert stat.S_IMODE(socket_path.stat().st_mode) == 0o640
            assert [each.name for each in socket_path.parent.iterdir()] == ["test.sock"]
    finally:
        os.umask(before)


def test_nothing_is_left_of_the_socket(socket_path: Path) -> None:
    with running(socket_path):
        assert socket_path.is_socket()
    assert list(socket_path.parent.iterdir()) == []


def test_socket_that_nobody_listens_on_is_replaced(socket_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(socket_path))
        dead.listen()
    with running(socket_path) as served:
        served.stub.ContainerStatus(STATUS, timeout=LIMIT_S)


def test_socket_that_somebody_listens_on_is_left_alone(served: Running, socket_path: Path) -> None:
    with pytest.raises(InvalidSettings) as caught, running(socket_path):
        pass
    assert caught.value.reason == "SOCKET_IN_USE"
    served.stub.ContainerStatus(STATUS, timeout=LIMIT_S)


def test_file_that_is_no_socket_is_left_alone(socket_path: Path) -> None:
    socket_path.write_text("precious")
    with pytest.raises(InvalidSettings) as caught, running(socket_path):
        pass
    assert caught.value.reason == "SOCKET_PATH_TAKEN"
    assert socket_path.read_text() == "precious"


def test_socket_of_a_successor_is_not_removed(socket_path: Path) -> None:
    with running(socket_path):
        socket_path.unlink()
        with socket.socket(socket.AF_UNIX) as successor:
            successor.bind(str(socket_path))
    assert socket_path.is_socket()


def test_socket_belongs_to_the_group_of_the_settings(socket_path: Path) -> None:
    socket_path.parent.chmod(0o711)
    with serving(FakeEngine(), Settings(socket_path=str(socket_path), socket_group="4711")):
        assert socket_path.stat().st_gid == 4711
        assert stat.S_IMODE(socket_path.stat().st_mode) == Settings().socket_mode


def test_group_by_its_name_is_the_one_that_the_host_knows(socket_path: Path) -> None:
    group = grp.getgrall()[-1]
    os.chown(socket_path.parent, -1, group.gr_gid)
    socket_path.parent.chmod(0o710)
    settings = Settings(socket_path=str(socket_path), socket_group=group.gr_name)
    with serving(FakeEngine(), settings):
        assert socket_path.stat().st_gid == group.gr_gid


def refusal(socket_path: Path, socket_group: str = "") -> InvalidSettings:
    """The error of a socket that can't be had, of which nothing is left."""
    settings = Settings(socket_path=str(socket_path), socket_group=socket_group)
    with pytest.raises(InvalidSettings) as caught, serving(FakeEngine(), settings):
        pass
    assert (caught.value.metadata["key"], caught.value.metadata["path"]) == (
        "socket_path",
        str(socket_path),
    )
    assert list(socket_path.parent.iterdir()) == []
    return caught.value


@pytest.mark.parametrize("group", ["no-such-group", "4711x", "-1", "4294967295"])
def test_group_that_the_host_does_not_know_is_refused(socket_path: Path, group: str) -> None:
    error = refusal(socket_path, group)
    assert (error.reason, error.metadata["group"]) == ("UNKNOWN_GROUP", group)


def test_group_that_cannot_enter_the_directory_is_refused(socket_path: Path) -> None:
    assert refusal(socket_path, "4711").reason == "SOCKET_DIRECTORY_CLOSED"


@pytest.mark.parametrize("mode", [0o770, 0o702, 0o1777])
def test_directory_that_others_can_write_is_refused(socket_path: Path, mode: int) -> None:
    socket_path.parent.chmod(mode)
    error = refusal(socket_path)
    assert (error.reason, error.metadata["directory"]) == (
        "SOCKET_DIRECTORY_UNSAFE",
        str(socket_path.parent),
    )


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
def test_directory_of_somebody_else_is_refused(socket_path: Path) -> None:
    os.chown(socket_path.parent, 65534, 65534)
    assert refusal(socket_path).reason == "SOCKET_DIRECTORY_UNSAFE"


def test_directory_that_is_a_link_is_refused(socket_path: Path, tmp_path: Path) -> None:
    (tmp_path / "l").symlink_to(socket_path.parent)
    assert refusal(tmp_path / "l" / "s").reason == "SOCKET_DIRECTORY_UNSAFE"


def test_missing_directory_is_a_failure_of_the_host(socket_path: Path) -> None:
    nowhere = socket_path.parent / "missing" / "test.sock"
    with pytest.raises(HostFailed) as caught, running(nowhere):
        pass
    assert caught.value.metadata["path"] == str(nowhere)
