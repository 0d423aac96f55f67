"""Events of real containers: in order, without a gap, and told by whoever is up again."""

from __future__ import annotations

import os
import signal
import subprocess
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from ocigrpc.errors import OcigrpcError
from ocigrpc.v1 import container_pb2, runtime_pb2
from tests.bed.clients.events import Events, word
from tests.bed.clients.refusal import refused
from tests.bed.hosts.leaks import LIMIT_S, until
from tests.bed.services.service import Service
from tests.real.conftest import StartService

FOREVER = "exec sleep 1000"


def test_a_whole_life_is_told_in_order(any_service: Service) -> None:
    service = any_service
    events = Events(service)
    container_id = service.create(FOREVER, name="one", labels={"app": "web"}).container_id
    service.start_container(container_id)
    service.pause(container_id)
    service.resume(container_id)
    service.stop(container_id, 0)
    service.remove(container_id)
    found = events.until("removed")
    assert [word(event) for event in found] == [
        "created",
        "started",
        "paused",
        "resumed",
        "exited",
        "removed",
    ]
    assert {event.container_id for event in found} == {container_id}
    assert {event.name for event in found} == {"one"}
    times_ns = [event.time.ToNanoseconds() for event in found]
    assert times_ns == sorted(times_ns)
    numbers = [event.sequence for event in found]
    assert numbers == list(range(numbers[0], numbers[0] + len(found)))
    ended = found[-2].exit_status
    assert (ended.exit_code, ended.signal) == (137, 9)


_SLOW_START = """#!/bin/sh
case " $* " in
*" start "*) runc "$@" && read go < {gate} ;;
*) exec runc "$@" ;;
esac
"""


def test_of_the_shortest_life_the_start_is_told_before_the_end(
    start_service: StartService, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    runtime = tmp_path / "slow-start"
    runtime.write_text(_SLOW_START.format(gate=gate))
    runtime.chmod(0o755)
    service = start_service(runtimes={"slow": {"path": str(runtime)}}, default_runtime="slow")
    events = Events(service)
    container_id = service.create("exit 3").container_id
    with ThreadPoolExecutor(1) as pool:
        starting = pool.submit(service.start_container, container_id)
        ended = service.wait(container_id)
        # Only now does the service come to know that it was started.
        gate.write_text("go\n")
        starting.result(LIMIT_S)
    found = events.until("exited")
    assert [word(event) for event in found] == ["created", "started", "exited"]
    assert found[-1].exit_status == ended


def test_of_one_removed_by_force_the_end_is_told_before_the_removal(service: Service) -> None:
    events = Events(service)
    service.remove(service.run(), force=True)
    assert events.words_until("removed") == ["created", "started", "exited", "removed"]


def test_one_that_never_started_is_told_as_ended_all_the_same(service: Service) -> None:
    events = Events(service)
    service.remove(service.create().container_id)
    assert events.words_until("removed") == ["created", "exited", "removed"]


def test_of_a_create_that_failed_nothing_is_told(service: Service) -> None:
    events = Events(service)
    with refused("FAILED_PRECONDITION", "PROGRAM_NOT_FOUND"):
        service.create_command("/no/such/program")
    service.create()
    found = events.until("created")
    assert [event.container_id for event in found] == service.ids()


def test_who_comes_back_after_a_restart_misses_nothing(start_service: StartService) -> None:
    service = start_service()
    container_id = service.run()
    events = Events(service, after=0)
    assert events.words_until("started") == ["created", "started"]
    service.pause(container_id)
    service.end()
    service.start()
    service.resume(container_id)
    again = Events(service, events.cursor)
    assert again.gap is None
    found = again.until("resumed")
    assert [word(event) for event in found] == ["paused", "resumed"]
    assert found[0].sequence == events.cursor + 1


def test_one_that_ended_while_the_service_was_down_is_told_when_it_is_up(
    start_service: StartService,
) -> None:
    service = start_service()
    container_id = service.run("trap 'exit 5' TERM; while :; do sleep 0.02; done")
    other_id = service.run()
    pids = [service.status(each).pid for each in (container_id, other_id)]
    cursor = Events(service).cursor
    service.die()
    os.kill(pids[1], signal.SIGKILL)
    service.start()
    events = Events(service, cursor)
    found = events.until("exited")
    assert [(word(event), event.container_id) for event in found] == [("exited", other_id)]
    assert found[0].exit_status.exit_code == 137
    assert found[0].exit_status.provenance == container_pb2.EXIT_PROVENANCE_EXIT_FILE
    # And once only.
    service.die()
    service.start()
    service.stop(container_id, 10)
    found = Events(service, events.cursor).until("exited")
    assert [event.container_id for event in found] == [container_id]


def test_what_is_not_kept_any_more_is_told_as_a_gap(start_service: StartService) -> None:
    service = start_service(event_history=10)
    first_life = Events(service, after=0)
    for _ in range(3):
        service.remove(service.run(), force=True)
    (created, *_) = first_life.until("started")
    service.end()
    service.start()
    # Twelve were told, of which the first two are gone.
    events = Events(service, created.sequence)
    assert events.gap is not None
    assert (events.gap.first, events.gap.last) == (created.sequence + 1,) * 2
    found = events.until("removed")
    assert [event.sequence for event in found] == [created.sequence + 2, created.sequence + 3]
    for _ in range(2):
        assert events.words_until("removed") == ["created", "started", "exited", "removed"]


def test_a_pause_by_hand_is_told_when_it_is_seen(service: Service) -> None:
    container_id = service.run()
    events = Events(service)
    root = str(service.directory / "runc")
    for verb, state in (("pause", "paused"), ("resume", "running")):
        subprocess.run(["runc", "--root", root, verb, container_id], check=True)
        assert service.state(container_id) == state
    assert events.words_until("resumed") == ["paused", "resumed"]


def test_a_lost_monitor_is_told(service: Service) -> None:
    container_id = service.run()
    events = Events(service, container_id=container_id)
    os.kill(service.monitor_pid(container_id), signal.SIGKILL)
    assert events.words_until("monitor_lost") == ["monitor_lost"]
    service.kill(container_id)
    found = events.until("exited")
    assert [word(event) for event in found] == ["exited"]
    assert not found[0].exit_status.HasField("exit_code")


def run_with_little_memory(service: Service, script: str) -> str:
    config = service.config(script)
    config.resources.memory_limit_in_bytes = 16 << 20
    request = runtime_pb2.CreateContainerRequest(config=config)
    container_id = service.client.create_container(request).container_id
    service.start_container(container_id)
    return container_id


def test_a_death_for_want_of_memory_is_told_before_the_end(service: Service) -> None:
    events = Events(service)
    run_with_little_memory(service, "exec tail /dev/zero")
    found = events.until("exited")
    assert [word(event) for event in found] == ["created", "started", "oom", "exited"]
    assert found[-1].exit_status.oom_killed


def test_a_child_killed_for_want_of_memory_is_told_too(service: Service) -> None:
    events = Events(service)
    run_with_little_memory(service, "tail /dev/zero; exit 7")
    found = events.until("exited")
    assert [word(event) for event in found] == ["created", "started", "oom", "exited"]
    assert found[-1].exit_status.exit_code == 7
    assert not found[-1].exit_status.oom_killed


def test_want_of_memory_is_told_while_the_container_lives(service: Service) -> None:
    events = Events(service)
    container_id = run_with_little_memory(service, "tail /dev/zero; exec sleep 1000")
    found = events.until("oom")
    assert [word(event) for event in found] == ["created", "started", "oom"]
    assert service.status(container_id).state == container_pb2.CONTAINER_STATE_RUNNING


def test_of_one_that_we_kill_an_earlier_want_of_memory_is_told_but_not_as_its_end(
    service: Service,
) -> None:
    events = Events(service)
    container_id = run_with_little_memory(service, "tail /dev/zero; echo on; exec sleep 1000")
    until(lambda: service.output(container_id) == ["on"])
    service.stop(container_id, 0)
    found = events.until("exited")
    assert [word(event) for event in found] == ["created", "started", "oom", "exited"]
    assert found[-1].exit_status.exit_code == 137
    assert not found[-1].exit_status.oom_killed


def test_the_end_of_the_service_ends_the_watch(start_service: StartService) -> None:
    service = start_service()
    events = Events(service)
    service.terminate()
    with refused("UNAVAILABLE", "SHUTTING_DOWN"):
        events.until("created")
    service.expect_end()


def test_in_a_wave_with_the_service_killed_in_its_middle_no_event_is_lost_or_doubled(
    start_service: StartService,
) -> None:
    service = start_service()
    whole_life = ["created", "started", "exited", "removed"]
    begin = Events(service).cursor
    watched = Events(service)

    def live(number: int) -> None:
        # What is cut off here, the service undoes or finishes when it is up again. grpc
        # says by ValueError that the connection has been closed.
        with suppress(OcigrpcError, ValueError):
            service.remove(service.run("exit 3", name=f"n{number}"), force=True)

    with ThreadPoolExecutor(4) as pool:
        lives = [pool.submit(live, number) for number in range(24)]
        seen = [event for _ in range(4) for event in watched.until("removed")]
        service.die()
        for each in lives:
            each.result(LIMIT_S)
    service.start()
    service.remove_all()
    service.remove(service.run("exit 3", name="last"), force=True)
    again = Events(service, watched.cursor)
    assert again.gap is None
    while seen[-1].name != "last" or word(seen[-1]) != "removed":
        seen += again.until("removed")
    numbers = [event.sequence for event in seen]
    assert numbers == list(range(begin + 1, begin + 1 + len(numbers)))
    found: dict[str, list[str]] = {}
    for event in seen:
        found.setdefault(event.container_id, []).append(word(event))
    for kinds in found.values():
        assert kinds in (whole_life, ["created", "exited", "removed"])
    assert len([kinds for kinds in found.values() if kinds == whole_life]) >= 5
