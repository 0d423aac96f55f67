"""Containers that the service removes when they have ended."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import grpc
import pytest

from ocigrpc.host.processes.process import Process
from ocigrpc.v1.container_pb2 import MonitorLostPolicy
from ocigrpc.v1.event_pb2 import EventFilter, EventKind
from ocigrpc.v1.runtime_pb2 import WaitContainerRequest, WaitContainerResponse
from ocigrpc.waiting import Deadline
from tests.bed.faults.monitors import hanging_monitor, monitors
from tests.bed.faults.runtimes import Switches
from tests.bed.hosts.leaks import LIMIT_S, until
from tests.bed.services.service import Service
from tests.real.conftest import StartService

# Ends when it is told to.
_ENDING = "trap 'exit 3' TERM; echo up; while :; do sleep 0.05; done"

_ENDS = (EventKind.EVENT_KIND_EXITED, EventKind.EVENT_KIND_REMOVED)


def waiting(service: Service, container_id: str) -> grpc.Future[WaitContainerResponse]:
    """A call that waits for the end by now."""
    request = WaitContainerRequest(container_id=container_id)
    call = service.wire.WaitContainer.future(request, timeout=LIMIT_S)
    until(lambda: service.client.status().streams["WaitContainer"] > 0)
    return call


def ends(service: Service, container_id: str) -> list[tuple[EventKind, int]]:
    """The events of its end, each with an exit code, -1 where there is none."""
    wanted = EventFilter(container_id=container_id, kinds=_ENDS)
    found: list[tuple[EventKind, int]] = []
    with service.client.watch_events(0, wanted, timeout_s=LIMIT_S) as watch:
        while len(found) < len(_ENDS):
            for each in next(watch).events:
                exited = each.HasField("exit_status")
                found.append((each.kind, each.exit_status.exit_code if exited else -1))
    return found


def end_by_itself(service: Service, container_id: str) -> None:
    service.kill(container_id, "TERM")


def stop(service: Service, container_id: str) -> None:
    service.stop(container_id, timeout_s=LIMIT_S)


def remove(service: Service, container_id: str) -> None:
    service.remove(container_id, force=True)


@pytest.mark.parametrize("end", [end_by_itself, stop, remove])
def test_who_waits_gets_the_exit_status_whoever_ends_it(
    any_service: Service, end: Callable[[Service, str], None]
) -> None:
    container_id = any_service.run(_ENDING, auto_remove=True)
    until(lambda: bool(any_service.output(container_id)))
    call = waiting(any_service, container_id)
    end(any_service, container_id)
    code = 137 if end is remove else 3
    assert call.result().exit_status.exit_code == code
    until(lambda: any_service.ids() == [])
    exited, removed = ends(any_service, container_id)
    assert exited == (EventKind.EVENT_KIND_EXITED, code)
    assert removed == (EventKind.EVENT_KIND_REMOVED, -1)
    assert any_service.leaks() == []


def test_one_that_is_never_started_is_removed_at_its_end(service: Service) -> None:
    container_id = service.create(auto_remove=True).container_id
    assert service.status(container_id).auto_remove
    service.kill(container_id)
    until(lambda: service.ids() == [])


def test_one_that_ends_while_the_service_is_away_is_removed(start_service: StartService) -> None:
    service = start_service()
    container_id = service.run(_ENDING, auto_remove=True)
    until(lambda: bool(service.output(container_id)))
    with Process(service.status(container_id).pid) as init:
        service.die()
        init.send_signal(signal.SIGTERM)
        assert init.wait(Deadline(LIMIT_S))
    service.start()
    until(lambda: service.ids() == [])
    assert ends(service, container_id)[0] == (EventKind.EVENT_KIND_EXITED, 3)
    assert service.leaks() == []


@pytest.mark.parametrize("service_is_away", [False, True])
def test_a_monitor_that_hangs_does_not_keep_it(
    start_service: StartService, service_is_away: bool
) -> None:
    service = start_service(timeouts_kill_s=1.0)
    container_id = service.run(auto_remove=True)
    with hanging_monitor(service, container_id):
        pid = service.status(container_id).pid
        if service_is_away:
            service.die()
        os.kill(pid, signal.SIGKILL)
        if service_is_away:
            service.start()
        until(lambda: service.ids() == [])
    assert ends(service, container_id)[0] == (EventKind.EVENT_KIND_EXITED, 0)
    assert service.leaks() == []


def test_of_one_that_ends_soon_after_its_monitor_one_removal_is_tried_at_a_time(
    start_service: StartService, switches: Switches, tmp_path: Path
) -> None:
    service = switched(start_service, switches)
    kill = MonitorLostPolicy.MONITOR_LOST_POLICY_KILL
    with switches.on("delete", fails(tmp_path / "tries", 2)):
        container_id = service.run(auto_remove=True, monitor_lost_policy=kill)
        (monitor,) = set(monitors(service, [container_id]))
        os.kill(monitor, signal.SIGKILL)
        until(lambda: service.ids() == [])
    pauses = [
        each["again_in_s"] for each in service.events() if each["event"] == "container.not_removed"
    ]
    assert pauses == [1.0, 2.0]


def fails(tries: Path, count: int) -> str:
    """What has the runtime fail a number of times, and note each try."""
    return f"echo >> {tries}; [ $(wc -l < {tries}) -gt {count} ] || exit 1"


def switched(start_service: StartService, switches: Switches) -> Service:
    return start_service(runtimes={"runc": {"path": str(switches.path)}})


def test_a_removal_that_fails_is_tried_again_until_it_succeeds(
    start_service: StartService, switches: Switches, tmp_path: Path
) -> None:
    service = switched(start_service, switches)
    with switches.on("delete", fails(tmp_path / "tries", 3)):
        container_id = service.run("exit 3", auto_remove=True)
        assert service.wait(container_id).exit_code == 3
        until(lambda: (tmp_path / "tries").exists())
        assert service.state(container_id) == "stopped"
        until(lambda: service.ids() == [])
    assert ends(service, container_id)[0] == (EventKind.EVENT_KIND_EXITED, 3)
    assert service.leaks() == []


def test_a_removal_that_fails_after_a_restart_is_tried_again(
    start_service: StartService, switches: Switches, tmp_path: Path
) -> None:
    service = switched(start_service, switches)
    never = fails(tmp_path / "never", 1_000_000)
    with switches.on("delete", never):
        container_id = service.run("exit 3", auto_remove=True)
        until(lambda: (tmp_path / "never").exists())
        service.die()
    with switches.on("delete", fails(tmp_path / "tries", 2)):
        service.start()
        until(lambda: service.ids() == [])
        assert len((tmp_path / "tries").read_text()) == 3
    assert service.leaks() == []
    assert ends(service, container_id)[0] == (EventKind.EVENT_KIND_EXITED, 3)
