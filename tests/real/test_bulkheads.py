"""Calls of one RPC that hang, more of them than may run at once: all others answer."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import pytest
from google.protobuf.message import Message

from ocigrpc.engine.containers.context import ASKING_LIMIT
from ocigrpc.settings.values import Settings
from ocigrpc.v1 import attach_pb2, event_pb2, log_pb2
from ocigrpc.v1 import runtime_pb2 as pb
from tests.bed.clients import verb_calls
from tests.bed.clients.exec import exec_sync, shell
from tests.bed.clients.refusal import refused
from tests.bed.clients.verb_calls import Pending, update_of
from tests.bed.faults.runtimes import HANGS, Switches
from tests.bed.hosts.host import native
from tests.bed.hosts.leaks import LIMIT_S, children, until
from tests.bed.services.service import Service
from tests.real.conftest import serving, used

if TYPE_CHECKING:
    from grpc import _CallIterator

_M = TypeVar("_M", bound=Message)

ONE = "one"
CALLS = 70
HANG_S = 600.0
"""For the calls that hang, which are left before that."""

RPCS = {
    "create": "CreateContainer",
    "start": "StartContainer",
    "pause": "PauseContainer",
    "resume": "ResumeContainer",
    "update": "UpdateContainerResources",
    "exec": "ExecSync",
    "delete": "RemoveContainer",
    "state": "ContainerStatus",
}
"""The verbs of a runtime that can hang, and who runs into them."""

NEEDS = {"PauseContainer": "ResumeContainer"}
"""What can't be called with good end while the other hangs."""


@pytest.fixture(scope="module")
def _service(switches: Switches, rootfs: Path) -> Iterator[Service]:
    runtimes: dict[str, dict[str, object]] = {"switched": {"path": str(switches.path)}}
    # So that as many execs hang as other calls.
    threads = Settings().limits.unary_threads
    with (
        native() as host,
        serving(host, rootfs, runtimes=runtimes, limits_stream_threads=threads) as service,
    ):
        yield service


@pytest.fixture
def service(_service: Service) -> Iterator[Service]:
    with used(_service):
        yield _service


def creation(service: Service, container_id: str) -> pb.CreateContainerRequest:
    return pb.CreateContainerRequest(
        config=service.config("exec sleep 1000"),
        container_id=container_id,
        runtime_handler="switched",
    )


def others(service: Service, fresh: str, live: str) -> Mapping[str, Callable[[], object]]:
    """A call of every RPC, on a container that waits to be started and one that runs."""
    rpc = service.wire
    start = attach_pb2.AttachRequest(start=attach_pb2.AttachStart(container_id=live, stdout=True))
    logs = log_pb2.ContainerLogsRequest(container_id=live)
    return {
        "Version": lambda: rpc.Version(pb.VersionRequest(), timeout=LIMIT_S),
        "Status": lambda: rpc.Status(pb.StatusRequest(), timeout=LIMIT_S),
        "ListContainers": lambda: service.ids(),
        "ContainerStatus": lambda: service.status(live),
        "ContainerStats": lambda: rpc.ContainerStats(
            pb.ContainerStatsRequest(container_id=live), timeout=LIMIT_S
        ),
        "ListContainerStats": lambda: rpc.ListContainerStats(
            pb.ListContainerStatsRequest(), timeout=LIMIT_S
        ),
        "WatchEvents": lambda: first(
            rpc.WatchEvents(event_pb2.WatchEventsRequest(), timeout=LIMIT_S)
        ),
        "WatchStats": lambda: first(rpc.WatchStats(pb.WatchStatsRequest(), timeout=LIMIT_S)),
        "ContainerLogs": lambda: list(rpc.ContainerLogs(logs, timeout=LIMIT_S)),
        "Attach": lambda: first(rpc.Attach(iter([start]), timeout=LIMIT_S)),
        "CreateContainer": lambda: service.create(container_id="another"),
        "StartContainer": lambda: service.start_container(fresh),
        "ExecSync": lambda: exec_sync(service, live, shell("exit 3")),
        "UpdateContainerResources": lambda: rpc.UpdateContainerResources(
            update_of(live), timeout=LIMIT_S
        ),
        "PauseContainer": lambda: service.pause(live),
        "ResumeContainer": lambda: service.resume(live),
        "KillContainer": lambda: service.kill(fresh),
        "WaitContainer": lambda: service.wait(fresh),
        "StopContainer": lambda: service.stop(live, 0),
        "RemoveContainer": lambda: service.remove(fresh, force=True),
    }


def first(messages: _CallIterator[_M]) -> None:
    """The first message of a stream, which is left then."""
    next(messages)
    messages.cancel()


def begin_all(service: Service, verb: str) -> list[Pending]:
    """More calls than may run at once, which run into the verb."""
    if verb != "create":
        return [
            verb_calls.begin(service.wire, verb, creation(service, ONE), HANG_S)
            for _ in range(CALLS)
        ]
    requests = [creation(service, f"{ONE}-{number}") for number in range(CALLS)]
    return [verb_calls.begin(service.wire, verb, request, HANG_S) for request in requests]


@pytest.mark.parametrize("verb", RPCS)
def test_calls_that_hang_hold_up_no_other_rpc(
    service: Service, switches: Switches, verb: str
) -> None:
    verb_calls.make_ready(service.wire, verb, creation(service, ONE), LIMIT_S)
    fresh = service.create(container_id="fresh", runtime_handler="runc").container_id
    live = service.run(container_id="live", runtime_handler="runc")
    with switches.on(verb, HANGS):
        calls = begin_all(service, verb)
        switches.wait()
        # Those for whom there is no place, or no turn, are told so at once.
        until(lambda: sum(call.done() for call in calls) >= CALLS - Settings().limits.unary_threads)
        for name, call in others(service, fresh, live).items():
            if name not in (RPCS[verb], NEEDS.get(RPCS[verb])):
                call()
        hung = [call for call in calls if not call.done()]
        assert hung
        for pending in hung:
            pending.cancel()
        until(lambda: list(children(service.pid)) == [], 4 * LIMIT_S)
        # A create that was left is undone first.
        until(lambda: not service.ids(id_prefix=f"{ONE}-"), 4 * LIMIT_S)


def test_statuses_that_wait_for_a_runtime_hold_up_no_others(
    service: Service, switches: Switches
) -> None:
    service.client.create_container(creation(service, ONE))
    verbose = pb.ContainerStatusRequest(container_id=ONE, verbose=True)
    with switches.on("state", HANGS):
        calls = [service.wire.ContainerStatus.future(verbose, timeout=HANG_S) for _ in range(CALLS)]
        until(lambda: len(list(children(service.pid))) == ASKING_LIMIT)
        until(lambda: sum(call.done() for call in calls) == CALLS - ASKING_LIMIT)
        with ThreadPoolExecutor(ASKING_LIMIT) as pool:
            list(pool.map(service.status, [ONE] * CALLS))
        answers = [call.result() for call in calls if call.done()]
        assert {answer.status.container_id for answer in answers} == {ONE}
        assert all("state_error" in answer.info for answer in answers)
        for call in calls:
            call.cancel()
        until(lambda: list(children(service.pid)) == [], LIMIT_S)


def test_a_status_that_only_a_runtime_knows_is_refused_when_too_many_wait_for_one(
    service: Service, switches: Switches
) -> None:
    verb_calls.make_ready(service.wire, "pause", creation(service, ONE), LIMIT_S)
    argv = ["runc", "--root", str(service.directory / "runc"), "pause", ONE]
    subprocess.run(service.host.command(argv), check=True, timeout=LIMIT_S)
    verbose = pb.ContainerStatusRequest(container_id=ONE, verbose=True)
    with switches.on("state", HANGS):
        calls = [
            service.wire.ContainerStatus.future(verbose, timeout=HANG_S)
            for _ in range(ASKING_LIMIT)
        ]
        until(lambda: len(list(children(service.pid))) == ASKING_LIMIT)
        with refused("RESOURCE_EXHAUSTED", "TOO_MANY_CALLS") as refusal:
            service.status(ONE)
        assert dict(refusal.metadata) == {"limit": str(ASKING_LIMIT)}
        for call in calls:
            call.cancel()
        until(lambda: list(children(service.pid)) == [], LIMIT_S)
    assert service.state(ONE) == "paused"


def test_changes_of_one_container_that_wait_leave_room_for_those_of_others(
    service: Service, switches: Switches
) -> None:
    service.client.create_container(creation(service, ONE))
    start = pb.StartContainerRequest(container_id=ONE)
    with switches.on("start", HANGS):
        calls = [service.wire.StartContainer.future(start, timeout=HANG_S) for _ in range(CALLS)]
        switches.wait()
        until(lambda: any(call.done() for call in calls))
        with refused("ABORTED", "CONTAINER_BUSY"):
            next(call for call in calls if call.done()).result()
        service.run(container_id="beside", runtime_handler="runc")
        for call in calls:
            call.cancel()
        until(lambda: list(children(service.pid)) == [], LIMIT_S)
