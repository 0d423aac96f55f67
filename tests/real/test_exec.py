"""Programs run in a container, and talked to."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ocigrpc.errors import OcigrpcError
from ocigrpc.v1 import exec_pb2
from ocigrpc.v1.terminal_pb2 import TerminalSize
from tests.bed.clients.exec import (
    Talk,
    exec_groups,
    exec_sync,
    nothing_runs_but,
    process,
    seconds,
)
from tests.bed.clients.refusal import refused
from tests.bed.hosts.leaks import LIMIT_S, pids_in, until
from tests.bed.services.service import Service
from tests.real.conftest import StartService

TEN_MEGABYTES = os.urandom(1 << 20) * 10


@pytest.mark.parametrize("terminal", [False, True])
def test_ten_megabytes_pass_in_both_directions(service: Service, terminal: bool) -> None:
    raw = "stty raw -opost -echo; echo ready; exec head -c 10485760"
    script = raw if terminal else "echo ready; exec cat"
    talk = Talk(service, service.run(), script, stdin=True, terminal=terminal)
    ready = b"ready\n"
    talk.read(lambda: talk.stdout.endswith(ready))
    talk.stdout = b""
    for begin in range(0, len(TEN_MEGABYTES), 1 << 18):
        talk.type(TEN_MEGABYTES[begin : begin + (1 << 18)])
    if not terminal:
        talk.hang_up()
    talk.read_all()
    assert talk.stdout == TEN_MEGABYTES
    assert talk.exit is not None
    assert talk.exit.exit_code == 0


def test_standard_output_and_error_are_apart(service: Service) -> None:
    talk = Talk(service, service.run(), "echo good; echo bad >&2; exit 7")
    talk.read_all()
    assert (talk.stdout, talk.stderr) == (b"good\n", b"bad\n")
    assert talk.exit is not None
    assert talk.exit.exit_code == 7


def test_what_the_runtime_says_of_a_failure_is_no_output(any_service: Service) -> None:
    start = exec_pb2.ExecStart(container_id=any_service.run(), process=process("missing"))
    call = any_service.client.exec([exec_pb2.ExecRequest(start=start)], timeout_s=LIMIT_S)
    with refused("FAILED_PRECONDITION", "PROGRAM_NOT_FOUND"):
        raise AssertionError(next(call))


def test_an_error_that_is_written_at_once_arrives_before_the_end(any_service: Service) -> None:
    script = "head -c 100000 /dev/zero >&2; while [ ! -e /tmp/go ]; do sleep 0.05; done"
    container_id = any_service.run()
    talk = Talk(any_service, container_id, script)
    talk.read(lambda: len(talk.stderr) == 100_000)
    exec_sync(any_service, container_id, process("touch", "/tmp/go"))
    talk.read_all()
    assert talk.stderr == bytes(100_000)


def test_standard_input_ends_when_told(service: Service) -> None:
    talk = Talk(service, service.run(), "cat; echo over", stdin=True)
    talk.type(b"some\n")
    talk.close_stdin()
    talk.read_all()
    assert talk.stdout == b"some\nover\n"


def test_closing_standard_input_types_the_end_on_a_terminal(service: Service) -> None:
    talk = Talk(
        service, service.run(), "stty -echo; echo up; cat; echo over", stdin=True, terminal=True
    )
    talk.read(lambda: b"up" in talk.stdout)
    talk.close_stdin()
    talk.read_all()
    assert talk.stdout.split() == [b"up", b"over"]


def test_a_program_that_reads_nothing_ends_all_the_same(service: Service) -> None:
    talk = Talk(service, service.run(), "exit 4", stdin=True)
    talk.type(bytes(1 << 20))
    talk.type(bytes(1 << 20))
    talk.type(bytes(1 << 20))
    talk.read_all()
    assert talk.exit is not None
    assert talk.exit.exit_code == 4


def test_a_terminal_has_the_size_asked_for_and_the_program_hears_of_a_new_one(
    any_service: Service,
) -> None:
    # crun gives it a moment after the program has begun.
    script = """until stty size >/dev/null 2>&1; do :; done
    trap 'stty size' WINCH; stty size; while :; do sleep 0.05; done"""
    talk = Talk(
        any_service,
        any_service.run(),
        script,
        terminal=True,
        terminal_size=TerminalSize(rows=10, columns=20),
    )
    talk.read(lambda: talk.stdout.endswith(b"\n"))
    assert talk.stdout.split() == [b"10", b"20"]
    talk.resize(30, 40)
    talk.read(lambda: talk.stdout.endswith(b"30 40\r\n"))
    talk.leave()


def test_a_timeout_ends_a_stream(service: Service) -> None:
    container_id = service.run()
    talk = Talk(
        service,
        container_id,
        "echo up; setsid sleep 1000 & sleep 1000",
        timeout=seconds(LIMIT_S / 20),
    )
    with refused("DEADLINE_EXCEEDED", "EXEC_TIMEOUT"):
        talk.read_all()
    talk.hang_up()
    assert talk.stdout == b"up\n"
    assert nothing_runs_but(service, container_id)


def test_a_timeout_holds_for_a_client_that_does_not_read(service: Service) -> None:
    container_id = service.run()
    # Long enough to be seen on a busy host.
    talk = Talk(service, container_id, "yes", timeout=seconds(2))
    until(lambda: len(exec_groups(service)) > 0)
    until(lambda: nothing_runs_but(service, container_id))
    with refused("DEADLINE_EXCEEDED", "EXEC_TIMEOUT"):
        talk.read_all()
    talk.hang_up()


def test_a_slow_client_loses_nothing(service: Service) -> None:
    talk = Talk(service, service.run(), "yes | head -c 8000000; echo last >&2")
    talk.read(lambda: len(talk.stdout) > 0)
    # Much more than all buffers on the way hold: the program is made to wait.
    until(lambda: len(exec_groups(service)) > 0)
    talk.read_all()
    assert talk.stdout == b"y\n" * 4_000_000
    assert talk.stderr == b"last\n"


@pytest.mark.parametrize("moment", ["at once", "silent", "talking", "typing"])
def test_a_client_may_go_at_any_moment(service: Service, moment: str) -> None:
    container_id = service.run()
    script = "yes" if moment == "talking" else "echo up; setsid sleep 1000 & cat; sleep 1000"
    talk = Talk(service, container_id, script, stdin=True)
    if moment != "at once":
        talk.read(lambda: len(talk.stdout) > 0)
    if moment == "typing":
        talk.type(bytes(1 << 20))
    talk.leave()
    until(lambda: nothing_runs_but(service, container_id))


def test_a_program_to_be_kept_outlives_its_client(service: Service) -> None:
    container_id = service.run()
    script = "echo up; while [ ! -e /tmp/go ]; do echo on; sleep 0.05; done; touch /tmp/gone"
    talk = Talk(service, container_id, script, keep_running=True)
    talk.read(lambda: len(talk.stdout) > 0)
    talk.leave()
    assert len(exec_groups(service)) > 0
    exec_sync(service, container_id, process("touch", "/tmp/go"))
    until(lambda: exec_sync(service, container_id, process("ls", "/tmp/gone")).exit.exit_code == 0)
    until(lambda: nothing_runs_but(service, container_id))


def test_a_container_that_is_removed_ends_its_programs(service: Service) -> None:
    container_id = service.run()
    talk = Talk(service, container_id, "echo up; sleep 1000")
    talk.read(lambda: len(talk.stdout) > 0)
    service.remove(container_id, force=True)
    talk.read_all()
    assert talk.exit is not None
    assert talk.exit.signal == 9


def test_the_first_message_must_be_the_start(service: Service) -> None:
    with refused("INVALID_ARGUMENT", "START_MISSING"):
        list(service.wire.Exec(iter([exec_pb2.ExecRequest(stdin=b"x")]), timeout=LIMIT_S))
    with refused("INVALID_ARGUMENT", "START_MISSING"):
        list(service.wire.Exec(iter([]), timeout=LIMIT_S))


def test_a_second_start_is_refused_and_ends_the_program(service: Service) -> None:
    container_id = service.run()
    start = exec_pb2.ExecRequest(
        start=exec_pb2.ExecStart(container_id=container_id, process=process("sleep", "1000"))
    )
    with refused("INVALID_ARGUMENT", "START_AGAIN"):
        list(service.client.exec([start, start], timeout_s=LIMIT_S))
    until(lambda: nothing_runs_but(service, container_id))


def wait_until_held_up(group: Path) -> None:
    """Wait until the one program of a group has written much, and then nothing for a while."""
    seen: list[str] = []

    def held_up() -> bool:
        for pid in pids_in(group):
            seen.append(Path(f"/proc/{pid}/io").read_text().split()[3])
        return int((seen or ["0"])[-1]) > 100_000 and len(seen) > 40 and len(set(seen[-40:])) == 1

    until(held_up)


def test_a_client_that_does_not_read_frees_its_thread_at_once_when_it_leaves(
    start_service: StartService,
) -> None:
    service = start_service(limits_stream_threads=1)
    container_id = service.run()
    talk = Talk(service, container_id, "exec yes")
    until(lambda: len(exec_groups(service)) > 0)
    wait_until_held_up(exec_groups(service)[0])
    with refused("RESOURCE_EXHAUSTED", "TOO_MANY_STREAMS"):
        exec_sync(service, container_id, process("true"))
    talk.leave()
    assert until(lambda: may_exec(service, container_id)) < 2
    until(lambda: nothing_runs_but(service, container_id))


def may_exec(service: Service, container_id: str) -> bool:
    try:
        exec_sync(service, container_id, process("true"))
    except OcigrpcError:
        return False
    return True
