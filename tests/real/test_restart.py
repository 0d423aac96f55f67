"""The service ends and begins again; containers live on, and nothing of them is forgotten."""

from __future__ import annotations

import os
import signal

import grpc
import pytest

from ocigrpc.v1.container_pb2 import ExitProvenance
from ocigrpc.v1.runtime_pb2 import (
    CreateContainerRequest,
    CreateContainerResponse,
    WaitContainerRequest,
)
from ocigrpc.waiting import Deadline
from tests.bed.checks.intents import intents
from tests.bed.clients.refusal import refused
from tests.bed.faults.runtimes import Gate
from tests.bed.hosts.leaks import LIMIT_S, suspend, until
from tests.bed.services.service import Service
from tests.real.conftest import Runtimes, StartService

WAITS_FOR_USR1 = "trap 'exit 42' USR1; echo ready; while :; do sleep 0.05; done"


def ready(service: Service) -> str:
    container_id = service.run(WAITS_FOR_USR1)
    until(lambda: service.output(container_id) == ["ready"])
    return container_id


def restart(service: Service) -> None:
    service.end()
    service.start()


def test_containers_of_every_state_are_found_again(start_service: StartService) -> None:
    service = start_service()
    states = {service.create(name="web", labels={"a": "1"}).container_id: "created"}
    states[service.run()] = "running"
    states[service.run()] = "paused"
    service.pause(list(states)[-1])
    states[service.run("exit 9")] = "stopped"
    service.wait(list(states)[-1])
    before = {container_id: service.status(container_id) for container_id in states}
    restart(service)
    assert service.ids() == list(states)
    assert {each: service.state(each) for each in states} == states
    assert {each: service.status(each) for each in states} == before


def test_containers_found_again_obey_every_verb(start_service: StartService) -> None:
    service = start_service()
    created, paused = service.create("exit 3").container_id, service.run()
    service.pause(paused)
    running = ready(service)
    restart(service)
    service.start_container(created)
    assert service.wait(created).exit_code == 3
    service.resume(paused)
    service.pause(paused)
    service.stop(paused, 0)
    assert service.wait(paused).exit_code == 137
    service.kill(running, "USR1")
    assert service.wait(running).exit_code == 42


def test_exits_in_between_are_told_with_their_codes(start_service: StartService) -> None:
    service = start_service()
    ended, killed, lived = ready(service), service.run(), ready(service)
    pids = {each: service.status(each).pid for each in (ended, killed)}
    monitors = [os.pidfd_open(service.monitor_pid(each)) for each in (ended, killed)]
    service.end()
    os.kill(pids[ended], signal.SIGUSR1)
    os.kill(pids[killed], signal.SIGKILL)
    for monitor in monitors:
        Deadline(LIMIT_S).wait(monitor)
        os.close(monitor)
    service.start()
    assert service.wait(ended).exit_code == 42
    assert service.wait(killed).exit_code == 137
    assert service.state(lived) == "running"


def test_an_exit_that_nobody_saw_is_unknown_and_not_running(start_service: StartService) -> None:
    service = start_service()
    container_id = service.run()
    monitor_pid, pid = service.monitor_pid(container_id), service.status(container_id).pid
    monitor = os.pidfd_open(monitor_pid)
    service.end()
    os.kill(monitor_pid, signal.SIGKILL)
    Deadline(LIMIT_S).wait(monitor)
    os.close(monitor)
    os.kill(pid, signal.SIGKILL)
    service.start()
    exit_status = service.wait(container_id)
    assert not exit_status.HasField("exit_code")
    assert exit_status.provenance == 6
    assert service.state(container_id) == "stopped"


def test_an_end_that_the_monitor_has_not_told_yet_is_not_running(
    start_service: StartService,
) -> None:
    service = start_service()
    container_id = service.run()
    pid, monitor = service.status(container_id).pid, service.monitor_pid(container_id)
    service.die()
    suspend(monitor)
    os.kill(pid, signal.SIGKILL)
    service.start()
    status = service.status(container_id)
    assert service.state(container_id) == "stopped"
    assert status.pid == 0
    assert status.exit_status.provenance == ExitProvenance.EXIT_PROVENANCE_PENDING
    assert not status.exit_status.HasField("exit_code")
    os.kill(monitor, signal.SIGCONT)
    assert service.wait(container_id).exit_code == 137


def test_a_monitor_lost_in_between_is_told(start_service: StartService) -> None:
    service = start_service()
    container_id = service.run()
    monitor_pid = service.monitor_pid(container_id)
    service.end()
    os.kill(monitor_pid, signal.SIGKILL)
    service.start()
    until(lambda: service.status(container_id).monitor_lost)
    assert service.state(container_id) == "running"
    service.stop(container_id, 0)


def test_a_request_is_the_same_after_a_restart(start_service: StartService) -> None:
    service = start_service()
    first = service.create(container_id="one", name="web")
    restart(service)
    assert service.create(container_id="one", name="web") == first
    with refused("ALREADY_EXISTS", "CONTAINER_EXISTS"):
        service.create("true", container_id="one")
    with refused("ALREADY_EXISTS", "NAME_IN_USE"):
        service.create(container_id="two", name="web")


def test_a_removed_container_stays_removed(start_service: StartService) -> None:
    service = start_service()
    service.remove(service.create().container_id)
    restart(service)
    assert service.ids() == []


def test_a_stop_that_failed_is_not_finished_by_the_next_service(
    start_service: StartService,
) -> None:
    service = start_service(timeouts_stop_s=0.1)
    container_id = service.run("trap '' TERM; echo ready; while :; do sleep 0.05; done")
    until(lambda: service.output(container_id) == ["ready"])
    with pytest.raises(grpc.RpcError):
        service.stop_by(container_id, 1000, deadline_s=0.5)
    until(lambda: any(each.get("rpc") == "StopContainer" for each in service.events()))
    service.end()
    assert intents(service) == set()
    service.start()
    assert service.state(container_id) == "running"


def test_a_service_killed_outright_forgets_nothing(start_service: StartService) -> None:
    service = start_service()
    container_id = ready(service)
    service.die()
    service.start()
    assert service.state(container_id) == "running"
    service.kill(container_id, "USR1")
    assert service.wait(container_id).exit_code == 42


def begin_create(service: Service, gate: Gate) -> grpc.Future[CreateContainerResponse]:
    request = CreateContainerRequest(
        config=service.config("exec sleep 1000"), runtime_handler="gated", container_id="one"
    )
    call = service.wire.CreateContainer.future(request, timeout=LIMIT_S)
    gate.wait(Deadline(LIMIT_S))
    return call


def test_a_wait_in_flight_is_unavailable_when_the_service_ends(
    start_service: StartService,
) -> None:
    service = start_service()
    request = WaitContainerRequest(container_id=service.run())
    wait = service.wire.WaitContainer.future(request, timeout=LIMIT_S)
    # Answered after the wait has been taken in, since both are on one connection.
    service.ids()
    service.terminate()
    with refused("UNAVAILABLE", "SHUTTING_DOWN"):
        wait.result()
    service.expect_end()


def test_a_create_in_flight_finishes_when_the_service_ends(
    start_service: StartService, faulty_runtimes: Runtimes, gate: Gate
) -> None:
    service = start_service(runtimes=faulty_runtimes)
    call = begin_create(service, gate)
    service.terminate()
    service.wait_for_word("STOPPING=1")
    gate.open()
    assert call.result().container_id == "one"
    service.expect_end()
    service.start()
    assert service.state("one") == "created"


def test_a_create_that_does_not_finish_is_undone_when_the_service_ends(
    start_service: StartService, faulty_runtimes: Runtimes, gate: Gate
) -> None:
    service = start_service(runtimes=faulty_runtimes, timeouts_drain_s=1.5)
    call = begin_create(service, gate)
    service.terminate()
    error = call.exception()
    assert isinstance(error, grpc.RpcError)
    assert error.code().name in ("UNAVAILABLE", "CANCELLED")
    service.expect_end()
    assert service.leaks() == []
