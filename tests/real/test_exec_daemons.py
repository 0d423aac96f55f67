"""What programs of ExecSync and Exec leave behind, when it is to live on."""

from __future__ import annotations

import os
import time

import pytest

from tests.bed.clients.exec import (
    Talk,
    exec_groups,
    exec_sync,
    nothing_made_is_left,
    nothing_runs_but,
    process,
    shell,
)
from tests.bed.clients.refusal import refused
from tests.bed.hosts.leaks import pids_in, until
from tests.bed.services.service import Service
from tests.real.conftest import StartService

DAEMON = "(while :; do echo on; echo on >&2; sleep 0.05; touch /tmp/alive; done) & echo begun"
SILENT = "(exec >/dev/null 2>&1 </dev/null; while :; do touch /tmp/alive; sleep 0.05; done) & :"


def lives(service: Service, container_id: str) -> bool:
    """Whether the daemon goes on."""
    exec_sync(service, container_id, process("rm", "-f", "/tmp/alive"))
    look = process("ls", "/tmp/alive")
    return until(lambda: exec_sync(service, container_id, look).exit.exit_code == 0) >= 0


@pytest.mark.parametrize("script", [DAEMON, SILENT, "setsid sh -c '" + SILENT + "' & :"])
def test_a_daemon_lives_on_until_the_container_ends(any_service: Service, script: str) -> None:
    container_id = any_service.run()
    started_s = time.monotonic()
    result = exec_sync(any_service, container_id, shell(script), keep_running=True)
    assert time.monotonic() - started_s < 10
    assert result.exit.exit_code == 0
    assert (b"begun\n" in result.stdout) == (script is DAEMON)
    assert lives(any_service, container_id)
    any_service.stop(container_id, timeout_s=0)
    until(lambda: not any(map(pids_in, exec_groups(any_service))))
    any_service.remove(container_id)
    assert nothing_made_is_left(any_service, container_id)


def test_without_being_asked_it_ends(any_service: Service) -> None:
    container_id = any_service.run()
    exec_sync(any_service, container_id, shell(DAEMON))
    assert nothing_made_is_left(any_service, container_id)


def test_all_that_was_written_by_the_end_is_answered(any_service: Service) -> None:
    container_id = any_service.run()
    script = "head -c 5000000 /dev/zero; echo bad >&2; sleep 1000 & exit 6"
    result = exec_sync(
        any_service, container_id, shell(script), keep_running=True, max_output_bytes=5_000_000
    )
    assert (len(result.stdout), result.stderr) == (5_000_000, b"bad\n")
    assert result.exit.exit_code == 6


def test_a_program_that_leaves_nobody_leaves_nothing(any_service: Service) -> None:
    container_id = any_service.run()
    result = exec_sync(any_service, container_id, shell("echo hi"), keep_running=True)
    assert result.stdout == b"hi\n"
    assert nothing_made_is_left(any_service, container_id)


def test_a_program_that_does_not_end_is_ended_by_its_timeout(any_service: Service) -> None:
    container_id = any_service.run()
    with refused("DEADLINE_EXCEEDED", "EXEC_TIMEOUT"):
        exec_sync(
            any_service,
            container_id,
            shell("sleep 1000 & sleep 1000"),
            timeout_s=0.7,
            keep_running=True,
        )
    assert nothing_made_is_left(any_service, container_id)


def test_daemons_that_have_ended_are_swept_up_after(service: Service) -> None:
    container_id = service.run()
    go = "/tmp/go"
    script = f"(exec >/dev/null 2>&1; while [ ! -e {go} ]; do sleep 0.02; done) & :"
    for _ in range(3):
        exec_sync(service, container_id, shell(script), keep_running=True)
    assert len({group.name for group in exec_groups(service)}) == 3
    exec_sync(service, container_id, process("touch", go))

    def swept() -> bool:
        exec_sync(service, container_id, process("true"), keep_running=True)
        return nothing_runs_but(service, container_id)

    until(swept)


def descriptors(service: Service) -> int:
    return len(os.listdir(f"/proc/{service.pid}/fd"))


def threads(service: Service) -> int:
    return len(os.listdir(f"/proc/{service.pid}/task"))


def test_daemons_share_a_thread_and_take_two_descriptors_each(start_service: StartService) -> None:
    service = start_service()
    container_id = service.run()
    exec_sync(service, container_id, shell("sleep 1000 & :"), keep_running=True)
    fds, tasks = descriptors(service), threads(service)
    for _ in range(30):
        exec_sync(service, container_id, shell("sleep 1000 & :"), keep_running=True)
    # Connections come and go besides.
    assert descriptors(service) < fds + 2 * 30 + 10
    assert threads(service) < tasks + 10
    service.remove(container_id, force=True)
    until(lambda: descriptors(service) < fds)


def test_a_daemon_outlives_the_service(start_service: StartService) -> None:
    service = start_service()
    container_id = service.run()
    exec_sync(service, container_id, shell(SILENT), keep_running=True)
    service.die()
    service.start()
    assert lives(service, container_id)


def test_one_that_holds_the_output_of_exec_keeps_the_call(any_service: Service) -> None:
    container_id = any_service.run()
    go = "/tmp/go"
    script = f"(while [ ! -e {go} ]; do sleep 0.02; done; echo late) & echo soon"
    talk = Talk(any_service, container_id, script, keep_running=True)
    talk.read(lambda: b"soon" in talk.stdout)
    exec_sync(any_service, container_id, process("touch", go))
    talk.read_all()
    assert talk.stdout == b"soon\nlate\n"


def test_a_daemon_of_exec_that_holds_no_output_lives_on(any_service: Service) -> None:
    container_id = any_service.run()
    talk = Talk(any_service, container_id, SILENT, keep_running=True)
    talk.read_all()
    assert talk.exit is not None
    assert lives(any_service, container_id)
