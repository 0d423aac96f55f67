"""Monitors that are killed or that hang: seen at once, and what becomes of their containers."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Unpack

import grpc
import pytest

from ocigrpc.v1.container_pb2 import (
    MONITOR_LOST_POLICY_KILL,
    MONITOR_LOST_POLICY_LEAVE,
    ExitProvenance,
    MonitorLostPolicy,
)
from tests.bed.checks.unknown_exit import expect_unknown_exit
from tests.bed.clients.events import Events, word
from tests.bed.faults.monitors import hanging_monitor, monitors
from tests.bed.hosts.leaks import LIMIT_S, below, pids_in, until
from tests.bed.services.service import Fields, Service
from tests.real.conftest import StartService

STUBBORN = "trap 'echo asked' TERM; echo ready; while :; do sleep 0.05; done"


def kill_monitors(service: Service, *container_ids: str) -> None:
    for pid in set(monitors(service, container_ids)):
        os.kill(pid, signal.SIGKILL)


def processes(service: Service, container_id: str) -> set[int]:
    """The pids in its cgroup, in any hierarchy."""
    path = service.status(container_id).cgroup_path
    return {
        pid
        for root in service.host.cgroup_roots
        for file in below(root / path.lstrip("/"), "cgroup.procs")
        for pid in pids_in(file.parent)
    }


def created(service: Service, **fields: Unpack[Fields]) -> str:
    return service.create(**fields).container_id


def running(service: Service, **fields: Unpack[Fields]) -> str:
    return service.run(**fields)


def paused(service: Service, **fields: Unpack[Fields]) -> str:
    container_id = service.run(**fields)
    service.pause(container_id)
    return container_id


Made = Callable[..., str]
MADE: Sequence[Made] = (created, running, paused)


@pytest.mark.parametrize("make", MADE)
def test_a_container_that_is_to_be_killed_is_when_its_monitor_is_gone(
    any_service: Service, make: Made
) -> None:
    service = any_service
    container_id = make(service, monitor_lost_policy=MONITOR_LOST_POLICY_KILL)
    assert processes(service, container_id)
    events = Events(service, container_id=container_id)
    kill_monitors(service, container_id)
    assert events.words_until("exited") == ["monitor_lost", "exited"]
    expect_unknown_exit(service, container_id)
    until(lambda: processes(service, container_id) == set())
    assert service.status(container_id).monitor_lost
    service.remove(container_id)
    assert service.leaks() == []


@pytest.mark.parametrize("make", MADE)
def test_a_container_that_is_to_be_left_obeys_every_verb_when_its_monitor_is_gone(
    any_service: Service, make: Made
) -> None:
    service = any_service
    container_id = make(service, monitor_lost_policy=MONITOR_LOST_POLICY_LEAVE)
    events = Events(service, container_id=container_id)
    kill_monitors(service, container_id)
    assert events.words_until("monitor_lost") == ["monitor_lost"]
    assert service.state(container_id) == make.__name__
    assert service.status(container_id).monitor_lost
    assert service.status(container_id).monitor_lost_policy == MONITOR_LOST_POLICY_LEAVE
    if make is created:
        service.start_container(container_id)
    if make is not paused:
        service.pause(container_id)
    service.resume(container_id)
    service.kill(container_id)
    assert events.words_until("exited")[-1] == "exited"
    expect_unknown_exit(service, container_id)
    service.remove(container_id)
    assert service.leaks() == []


@pytest.mark.parametrize("make", MADE)
def test_a_container_without_its_monitor_can_be_stopped(service: Service, make: Made) -> None:
    container_id = make(service)
    events = Events(service, container_id=container_id)
    kill_monitors(service, container_id)
    events.until("monitor_lost")
    service.stop(container_id, 0.1)
    expect_unknown_exit(service, container_id)


@pytest.mark.parametrize("make", MADE)
def test_a_container_without_its_monitor_can_be_removed(service: Service, make: Made) -> None:
    container_id = make(service)
    events = Events(service, container_id=container_id)
    kill_monitors(service, container_id)
    assert events.words_until("monitor_lost") == ["monitor_lost"]
    service.remove(container_id, force=True)
    # Its end is told before its removal.
    assert events.words_until("removed") == ["exited", "removed"]
    assert service.leaks() == []


def test_children_in_the_hosts_pid_namespace_are_killed_with_the_rest(
    start_service: StartService,
) -> None:
    service = start_service(monitor_lost_policy="kill")
    script = "for i in 1 2 3; do setsid sleep 1000 & done; echo ready; exec sleep 1000"
    container_id = service.run_among_the_hosts_pids(script)
    until(lambda: service.output(container_id) == ["ready"])
    assert service.status(container_id).monitor_lost_policy == MONITOR_LOST_POLICY_KILL
    assert len(processes(service, container_id)) == 4
    kill_monitors(service, container_id)
    expect_unknown_exit(service, container_id)
    until(lambda: processes(service, container_id) == set())


def test_a_request_goes_before_the_settings(start_service: StartService) -> None:
    service = start_service(monitor_lost_policy="kill")
    left = service.run(monitor_lost_policy=MONITOR_LOST_POLICY_LEAVE)
    killed = service.run()
    events = Events(service)
    # In this order: the container of the second one ends at once.
    kill_monitors(service, left)
    kill_monitors(service, killed)
    seen = events.until("exited")
    assert sorted(map(word, seen)) == ["exited", "monitor_lost", "monitor_lost"]
    assert seen[-1].container_id == killed
    assert service.state(left) == "running"


def test_monitors_that_are_killed_together_are_each_told_of(service: Service) -> None:
    policies = (MONITOR_LOST_POLICY_KILL, MONITOR_LOST_POLICY_LEAVE) * 2
    ids = [service.run(monitor_lost_policy=policy) for policy in policies]
    watched = [Events(service, container_id=each) for each in ids]
    kill_monitors(service, *ids)
    assert [events.words_until("monitor_lost") for events in watched] == [["monitor_lost"]] * 4
    assert [events.words_until("exited") for events in watched[::2]] == [["exited"]] * 2
    assert [service.state(each) for each in ids[1::2]] == ["running"] * 2


@pytest.mark.parametrize("policy", [MONITOR_LOST_POLICY_KILL, MONITOR_LOST_POLICY_LEAVE])
def test_a_monitor_killed_during_a_stop_does_not_hold_it_up(
    service: Service, policy: MonitorLostPolicy
) -> None:
    container_id = service.run(STUBBORN, monitor_lost_policy=policy)
    until(lambda: service.output(container_id) == ["ready"])
    with ThreadPoolExecutor(1) as pool:
        events = Events(service, container_id=container_id)
        stop = pool.submit(service.stop, container_id, 600.0)
        until(lambda: service.output(container_id) == ["ready", "asked"])
        kill_monitors(service, container_id)
        # Of what dies together, nobody knows the order.
        events.until("monitor_lost")
        if policy == MONITOR_LOST_POLICY_LEAVE:
            service.stop(container_id, 0)
        stop.result(LIMIT_S)
    expect_unknown_exit(service, container_id)


@pytest.mark.parametrize("die", [Service.end, Service.die])
def test_the_policy_holds_for_a_monitor_that_died_while_the_service_was_down(
    start_service: StartService, die: Callable[[Service], None]
) -> None:
    service = start_service()
    killed, left = (
        service.run(monitor_lost_policy=policy)
        for policy in (MONITOR_LOST_POLICY_KILL, MONITOR_LOST_POLICY_LEAVE)
    )
    cursor = Events(service).cursor
    die(service)
    kill_monitors(service, killed, left)
    service.start()
    expect_unknown_exit(service, killed)
    until(lambda: service.status(left).monitor_lost)
    assert service.state(left) == "running"
    events = Events(service, after=cursor, container_id=killed)
    assert events.words_until("exited") == ["monitor_lost", "exited"]


@pytest.fixture
def impatient(start_service: StartService) -> Service:
    """A service that gives a monitor little time."""
    return start_service(timeouts_kill_s=1.0)


def test_a_hanging_monitor_is_killed_by_a_stop(impatient: Service) -> None:
    container_id = impatient.run()
    with hanging_monitor(impatient, container_id):
        impatient.stop(container_id, 0)
        expect_unknown_exit(impatient, container_id, "MONITOR_HUNG")
        assert not impatient.status(container_id).monitor_lost


def test_a_stop_waits_for_the_program_and_not_for_its_hanging_monitor(impatient: Service) -> None:
    container_id = impatient.run("trap 'exit 3' TERM; echo ready; while :; do sleep 0.05; done")
    until(lambda: impatient.output(container_id) == ["ready"])
    with hanging_monitor(impatient, container_id):
        impatient.stop(container_id, 600.0)
        expect_unknown_exit(impatient, container_id, "MONITOR_HUNG")


@pytest.mark.parametrize("make", MADE)
def test_a_hanging_monitor_does_not_keep_its_container_from_being_removed(
    impatient: Service, make: Made
) -> None:
    container_id = make(impatient)
    events = Events(impatient, container_id=container_id)
    with hanging_monitor(impatient, container_id):
        impatient.remove(container_id, force=True)
    seen = events.until("removed")
    assert [word(event) for event in seen] == ["exited", "removed"]
    assert seen[0].exit_status.provenance == ExitProvenance.EXIT_PROVENANCE_MONITOR_HUNG
    assert impatient.leaks() == []


def test_a_hanging_monitor_of_what_ended_while_the_service_was_down_is_killed_by_a_stop(
    impatient: Service,
) -> None:
    container_id = impatient.run()
    pid = impatient.status(container_id).pid
    impatient.die()
    with hanging_monitor(impatient, container_id):
        os.kill(pid, signal.SIGKILL)
        impatient.start()
        assert impatient.state(container_id) == "stopped"
        impatient.stop(container_id, 600.0)
        expect_unknown_exit(impatient, container_id, "MONITOR_HUNG")


def test_short_deadlines_add_up_to_the_time_of_a_hanging_monitor(impatient: Service) -> None:
    container_id = impatient.run()
    with hanging_monitor(impatient, container_id):
        for _ in range(100):
            with suppress(grpc.RpcError):
                impatient.stop_by(container_id, 0, deadline_s=0.3)
                break
        expect_unknown_exit(impatient, container_id, "MONITOR_HUNG")


def test_a_monitor_that_comes_to_itself_in_time_is_believed(service: Service) -> None:
    container_id = service.run()
    with ThreadPoolExecutor(1) as pool:
        with hanging_monitor(service, container_id):
            stop = pool.submit(service.stop, container_id, 0)
            until(lambda: service.state(container_id) == "stopped")
            known = service.status(container_id).exit_status
            assert known.provenance == ExitProvenance.EXIT_PROVENANCE_PENDING
            assert not stop.done()
        stop.result(LIMIT_S)
    assert service.wait(container_id).exit_code == 137
