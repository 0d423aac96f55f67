"""The service dies in the middle of a call; the next one finishes it, or undoes it."""

from __future__ import annotations

import os
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

import grpc
import pytest

from ocigrpc.v1.event_pb2 import EventFilter, EventKind
from ocigrpc.v1.runtime_pb2 import (
    CreateContainerRequest,
    CreateContainerResponse,
    ListContainersRequest,
    StartContainerRequest,
)
from ocigrpc.waiting import Deadline
from tests.bed.checks.intents import intents
from tests.bed.clients.conditions import works
from tests.bed.clients.exec import Talk, exec_groups
from tests.bed.clients.refusal import refused
from tests.bed.documents import OPERATING, fences
from tests.bed.faults.runtimes import Gate
from tests.bed.hosts.leaks import LIMIT_S, until
from tests.bed.services.service import Service
from tests.real.conftest import Runtimes, StartService


def begin_create(
    service: Service, gate: Gate, log_path: str = ""
) -> grpc.Future[CreateContainerResponse]:
    request = CreateContainerRequest(
        config=service.config("exec sleep 1000"),
        runtime_handler="gated",
        container_id="one",
        log_path=log_path,
    )
    call = service.wire.CreateContainer.future(request, timeout=LIMIT_S)
    gate.wait(Deadline(LIMIT_S))
    return call


def restart_after_death(service: Service) -> None:
    service.die()
    service.start()


def logged(service: Service, event: str, key: str = "container_id") -> list[object]:
    """What each of such events that it has logged says of a key."""
    return [each[key] for each in service.events() if each["event"] == event]


def kinds(service: Service, container_id: str, last: EventKind) -> list[EventKind]:
    """What is told of a container from its first event to the ``last``."""
    wanted = EventFilter(container_id=container_id)
    found: list[EventKind] = []
    with service.client.watch_events(0, wanted, timeout_s=LIMIT_S) as watch:
        while last not in found:
            found += [event.kind for event in next(watch).events]
    return found


def test_a_create_that_was_cut_off_is_undone(
    start_service: StartService, faulty_runtimes: Runtimes, gate: Gate
) -> None:
    service = start_service(runtimes=faulty_runtimes)
    begin_create(service, gate)
    restart_after_death(service)
    until(lambda: service.ids() == [])
    assert service.leaks() == []
    service.create(container_id="one")


@pytest.mark.parametrize("text", ["", "kept\n"])
def test_a_create_that_was_cut_off_leaves_only_logs_that_were_there(
    start_service: StartService, faulty_runtimes: Runtimes, gate: Gate, tmp_path: Path, text: str
) -> None:
    service = start_service(runtimes=faulty_runtimes)
    log = tmp_path / "log"
    if text:
        log.write_text(text)
    begin_create(service, gate, str(log))
    assert log.exists()
    restart_after_death(service)
    until(lambda: service.ids() == [])
    assert log.exists() == bool(text)
    assert not text or log.read_text() == text


def test_the_same_create_waits_until_it_is_undone_and_is_made_anew(
    start_service: StartService, faulty_runtimes: Runtimes, gate: Gate
) -> None:
    service = start_service(runtimes=faulty_runtimes)
    begin_create(service, gate)
    restart_after_death(service)
    call = begin_create(service, gate)
    gate.open()
    assert call.result().container_id == "one"
    assert service.state("one") == "created"


def test_a_start_that_was_cut_off_is_finished_and_told_once(
    start_service: StartService, faulty_runtimes: Runtimes, gate: Gate
) -> None:
    service = start_service(runtimes=faulty_runtimes)
    service.create(container_id="one", runtime_handler="gated-start")
    request = StartContainerRequest(container_id="one")
    call = service.wire.StartContainer.future(request, timeout=LIMIT_S)
    gate.wait(Deadline(LIMIT_S))
    restart_after_death(service)
    assert call.exception() is not None
    # Begun by the next service, which has killed the one that was cut off.
    gate.wait(Deadline(LIMIT_S))
    gate.open()
    created, started = EventKind.EVENT_KIND_CREATED, EventKind.EVENT_KIND_STARTED
    assert kinds(service, "one", started) == [created, started]
    assert service.state("one") == "running"
    restart_after_death(service)
    assert service.state("one") == "running"


def test_a_start_that_failed_is_not_tried_again(service: Service) -> None:
    container_id = service.create_command("/bin/sh").container_id
    service.kill(container_id)
    service.wait(container_id)
    with refused("FAILED_PRECONDITION", "WRONG_STATE"):
        service.start_container(container_id)
    service.end()
    assert intents(service) == set()
    service.start()


def test_a_failed_create_that_could_not_be_undone_is_undone_by_the_next_service(
    start_service: StartService, faulty_runtimes: Runtimes, faults_directory: Path
) -> None:
    service = start_service(runtimes=faulty_runtimes)
    with refused("INTERNAL", "RUNTIME_FAILED"):
        service.create(container_id="one", runtime_handler="half")
    assert service.ids() == []
    assert [Path(each).name for each in service.leaks()] == ["one"], "the runtime's own notes"
    restart_after_death(service)
    until(lambda: logged(service, "container.create_undone", "whole") == [False])
    assert service.leaks() != []
    (faults_directory / "stuck").unlink()
    restart_after_death(service)
    until(lambda: service.ids() == service.leaks() == [])
    until(lambda: logged(service, "container.create_undone", "whole") == [False, True])
    assert logged(service, "container.create_undone") == ["one", "one"]


def test_programs_of_exec_end_with_the_service_and_kept_ones_go_on(service: Service) -> None:
    container_id = service.run()
    script = "setsid sleep 1000 & echo ready; wait"
    talks = [Talk(service, container_id, script, keep_running=kept) for kept in (False, True)]
    for talk in talks:
        talk.read(lambda talk=talk: talk.stdout == b"ready\n")  # type: ignore[misc]
    before = {group.name for group in exec_groups(service)}
    restart_after_death(service)
    for talk in talks:
        talk.hang_up()
    until(lambda: len({group.name for group in exec_groups(service)}) == 1)
    (kept,) = {group.name for group in exec_groups(service)}
    assert kept in before
    files = service.directory / "run/containers" / container_id
    until(lambda: [each.name for each in files.glob("exec-*")] == [kept])
    assert service.state(container_id) == "running"


def test_without_its_store_the_service_does_not_start_and_ends_no_container(
    service: Service,
) -> None:
    container_id = service.run()
    service.end()
    store = service.directory / "root/ocigrpc.db"
    store.rename(store.with_suffix(".away"))
    event = service.refusal()
    assert (event["reason"], event["path"]) == ("STORE_MISSING", str(store))
    assert event["containers"] == "1"
    assert not store.exists()
    store.with_suffix(".away").rename(store)
    service.start()
    assert service.state(container_id) == "running"


def test_without_its_store_containers_can_be_ended_as_documented(service: Service) -> None:
    service.run()
    service.end()
    (service.directory / "root/ocigrpc.db").unlink()
    service.refusal()
    (script,) = (text for _, text in fences(OPERATING) if "runc delete" in text)
    ours = script.replace("/run/ocigrpc", str(service.directory / "run"))
    assert ours != script
    runc = f'runc() {{ command runc --root {service.directory / "runc"} "$@"; }}'
    subprocess.run(["bash", "-euc", f"{runc}\n{ours}"], timeout=LIMIT_S, check=True)
    service.start()
    assert service.ids() == []
    logs = list((service.directory / "log").iterdir())
    assert set(service.leaks()) == set(map(str, logs))
    for log in logs:
        log.unlink()


def test_a_container_that_the_store_has_lost_is_ended_and_removed(any_service: Service) -> None:
    service = any_service
    lost, known = service.run(), service.run()
    service.end()
    with closing(sqlite3.connect(service.directory / "root/ocigrpc.db")) as store, store:
        store.execute("DELETE FROM records WHERE id = ?", (lost,))
    service.start()
    until(lambda: service.ids() == [known])
    assert logged(service, "container.orphan_found") == [lost]
    assert not [each for each in service.leaks() if lost in each]
    assert service.state(known) == "running"


def test_until_all_are_found_status_says_how_far_it_is(start_service: StartService) -> None:
    service = start_service()
    container_id = service.run()
    service.die()
    place, fuse = "ocigrpc.engine.recovery.recovery:Recovery._find", service.directory / "fuse"
    fuse.write_text(f"hold {place}")
    os.mkfifo(fuse.with_suffix(".gate"))
    service.launch("tests.bed.faults.crashing", str(fuse), place)
    service.wait_for_word("STATUS=Finding containers again")
    service.connect()
    status = service.client.status()
    recovered = status.conditions[-1]
    assert (recovered.type, works(recovered)) == ("ContainersReady", False)
    assert recovered.reason == "Recovering"
    assert "0 of 1" in recovered.message
    with refused("UNAVAILABLE", "RECOVERING"):
        service.wire.ListContainers(ListContainersRequest(), timeout=LIMIT_S)
    with fuse.with_suffix(".gate").open("w"):
        service.wait_for_word("READY=1")
    assert service.ids() == [container_id]
    assert service.state(container_id) == "running"
