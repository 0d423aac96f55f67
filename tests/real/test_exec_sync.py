"""Programs run in a container to their end, each with all that it starts."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

import pytest

from ocigrpc.v1 import exec_pb2
from tests.bed.clients.exec import (
    Talk,
    exec_groups,
    exec_sync,
    nothing_runs_but,
    process,
    shell,
)
from tests.bed.clients.refusal import refused
from tests.bed.faults.runtimes import Switches
from tests.bed.hosts.leaks import LIMIT_S, until
from tests.bed.hosts.usage import usage_of
from tests.bed.services.service import Service
from tests.real.conftest import StartService


def test_output_and_exit_code_are_told_apart(any_service: Service) -> None:
    container_id = any_service.run()
    result = exec_sync(any_service, container_id, shell("echo good; echo bad >&2; exit 3"))
    assert (result.stdout, result.stderr) == (b"good\n", b"bad\n")
    assert result.exit.exit_code == 3
    assert not result.exit.HasField("signal")
    assert (result.stdout_truncated, result.stderr_truncated) == (False, False)
    until(lambda: not exec_groups(any_service))


_LATE = """
while [ $# -gt 0 ]; do
    case $1 in --pid-file) pid_file=$2 ;; --cgroup) group=$2 ;; esac
    shift
done
(sleep 0.4; echo hi; exit 7) &
printf $! > "$pid_file"
sleep 0.2
found=
for file in $(find /sys/fs/cgroup -path "*$group/cgroup.procs"); do
    echo $! > $file
    found=yes
done
wait $! && exit 8
[ $? = 7 ] && [ -n "$found" ] && exit 7
exit 9
"""
"""A runtime that names the program before it has put it into its group, as crun does at times."""


def test_a_program_that_is_named_before_it_is_in_its_group_is_not_taken_for_ended(
    start_service: StartService, switches: Switches
) -> None:
    service = start_service(runtimes={"runc": {"path": str(switches.path)}})
    container_id = service.run()
    with switches.on("exec", _LATE):
        result = exec_sync(service, container_id, shell("true"))
    assert (result.stdout, result.exit.exit_code) == (b"hi\n", 7)


def test_a_death_by_signal_is_told(any_service: Service) -> None:
    result = exec_sync(any_service, any_service.run(), shell("kill -9 $$"))
    assert (result.exit.exit_code, result.exit.signal) == (137, 9)


def test_a_timeout_kills_the_whole_tree(any_service: Service) -> None:
    container_id = any_service.run()
    script = "setsid sh -c 'setsid sleep 1000 & sleep 1000' & sleep 1000"
    with refused("DEADLINE_EXCEEDED", "EXEC_TIMEOUT"):
        exec_sync(any_service, container_id, shell(script), timeout_s=0.7)
    assert exec_groups(any_service) == []
    result = exec_sync(any_service, container_id, shell("ps | grep -c 'sleep 100[0]'"))
    assert result.stdout == b"1\n"


def test_what_a_program_leaves_behind_ends_with_it(service: Service) -> None:
    container_id = service.run()
    result = exec_sync(service, container_id, shell("setsid sleep 1000 & echo done; exit 5"))
    assert (result.stdout, result.exit.exit_code) == (b"done\n", 5)
    until(lambda: nothing_runs_but(service, container_id))


def test_a_program_runs_as_the_first_process_does_unless_told(service: Service) -> None:
    container_id = service.run()
    program = shell("id -u; pwd; echo $A $B $PATH; grep NoNewPrivs /proc/self/status")
    assert exec_sync(service, container_id, program).stdout.decode().split("\n")[:2] == ["0", "/"]
    program.user, program.working_dir = "alice", "/tmp"
    program.env.update({"A": "1", "B": "two"})
    lines = exec_sync(service, container_id, program).stdout.decode().splitlines()
    assert lines[:2] == ["1001", "/tmp"]
    assert lines[2].startswith("1 two /")
    assert lines[3].split() == ["NoNewPrivs:", "1"]


def test_another_user_has_no_capabilities(service: Service) -> None:
    container_id = service.run()
    program = shell("grep -E 'Cap(Eff|Prm|Amb|Inh)' /proc/self/status", user="alice")
    lines = exec_sync(service, container_id, program).stdout.decode().splitlines()
    assert {int(line.split()[1], 16) for line in lines} == {0}


def test_a_program_that_is_not_there_is_no_exit_code(any_service: Service) -> None:
    with refused("FAILED_PRECONDITION", "PROGRAM_NOT_FOUND") as refusal:
        exec_sync(any_service, any_service.run(), process("/no/such/program"))
    assert "/no/such/program" in refusal.metadata["output"]
    assert refusal.metadata["exit_code"] == "127"


@pytest.mark.parametrize("state", ["created", "paused", "stopped"])
def test_exec_in_a_container_that_does_not_run_is_refused_at_once(
    service: Service, state: str
) -> None:
    container_id = service.create().container_id
    if state != "created":
        service.start_container(container_id)
    if state == "paused":
        service.pause(container_id)
    if state == "stopped":
        service.kill(container_id)
        service.wait(container_id)
    request = exec_pb2.ExecSyncRequest(container_id=container_id, process=process("true"))
    with refused("FAILED_PRECONDITION", "WRONG_STATE") as refusal:
        service.wire.ExecSync(request, timeout=5)
    assert refusal.metadata["state"] == state
    with refused("FAILED_PRECONDITION", "WRONG_STATE"):
        Talk(service, container_id, "true").read_all()
    assert exec_groups(service) == []


@pytest.mark.parametrize(
    ("program", "field"),
    [
        (process(), "process.command"),
        (process(""), "process.command[0]"),
        (process("true", "a\0b"), "process.command[1]"),
        (process("true", working_dir="tmp"), "process.working_dir"),
        (process("true", user="nobody-knows"), "process.user"),
        (process("true", env={"A=B": "c"}), 'process.env["A=B"]'),
    ],
)
def test_a_malformed_program_is_invalid_argument(
    service: Service, program: exec_pb2.ExecProcess, field: str
) -> None:
    with refused("INVALID_ARGUMENT") as refusal:
        exec_sync(service, service.run(), program)
    assert refusal.message.startswith(f"{field}:")


@pytest.mark.parametrize(
    ("asked_bytes", "kept_bytes"), [(0, 3 << 19), (1, 1), (5_000_000, 5_000_000)]
)
def test_output_over_the_limit_is_dropped_and_told(
    service: Service, asked_bytes: int, kept_bytes: int
) -> None:
    script = "yes | head -c 20000000; printf x >&2"
    result = exec_sync(service, service.run(), shell(script), max_output_bytes=asked_bytes)
    assert (len(result.stdout), len(result.stderr)) == (kept_bytes, 1)
    assert (result.stdout_truncated, result.stderr_truncated) == (True, False)
    assert result.exit.exit_code == 0


def test_output_up_to_the_largest_limit_is_whole(service: Service) -> None:
    script = "yes | head -c 16777216; yes | head -c 16777217 >&2"
    result = exec_sync(service, service.run(), shell(script), max_output_bytes=16 << 20)
    assert (len(result.stdout), len(result.stderr)) == (16 << 20, 16 << 20)
    assert (result.stdout_truncated, result.stderr_truncated) == (False, True)


def test_all_output_that_is_answered_unasked_fits_a_client_that_says_nothing(
    service: Service,
) -> None:
    script = "yes | head -c 5000000; yes | head -c 5000000 >&2; exit 3"
    request = exec_pb2.ExecSyncRequest(container_id=service.run(), process=shell(script))
    result = service.wire.ExecSync(request, timeout=LIMIT_S)
    assert result.exit.exit_code == 3
    assert (result.stdout_truncated, result.stderr_truncated) == (True, True)
    assert len(result.stdout) == len(result.stderr) == 3 << 19


@pytest.mark.parametrize("asked_bytes", [-1, (16 << 20) + 1])
def test_an_output_limit_that_can_not_be_is_refused(service: Service, asked_bytes: int) -> None:
    with refused("INVALID_ARGUMENT", "OUT_OF_RANGE") as refusal:
        exec_sync(service, service.run(), process("true"), max_output_bytes=asked_bytes)
    assert refusal.fields == ["max_output_bytes"]


def test_a_client_that_goes_takes_its_program_with_it(service: Service) -> None:
    container_id = service.run()
    request = exec_pb2.ExecSyncRequest(
        container_id=container_id, process=shell("setsid sleep 1000 & touch /tmp/up; sleep 1000")
    )
    call = service.wire.ExecSync.future(request)
    until(lambda: len(exec_groups(service)) > 0)
    call.cancel()
    until(lambda: nothing_runs_but(service, container_id))


def test_fifty_in_a_row_leave_nothing(service: Service) -> None:
    container_id = service.run()

    def usage() -> tuple[int, int]:
        status = Path(f"/proc/{service.pid}/status").read_text()
        threads = int(status.split("Threads:")[1].split()[0])
        return len(os.listdir(f"/proc/{service.pid}/fd")), threads

    for _ in range(5):
        exec_sync(service, container_id, process("true"))
    fds, threads = usage()
    with ThreadPoolExecutor(2) as pool:
        results = pool.map(
            lambda n: exec_sync(service, container_id, shell(f"exit {n}")), range(50)
        )
        assert [result.exit.exit_code for result in results] == list(range(50))
    until(lambda: nothing_runs_but(service, container_id))
    # A connection that its client has closed takes a moment to go.
    until(lambda: usage()[0] <= fds + 2)
    assert usage()[1] <= threads + 4


def test_output_of_many_at_once_is_bounded_and_its_memory_goes_back(service: Service) -> None:
    container_id = service.run()
    exec_sync(service, container_id, process("true"))
    before = usage_of(service.pid).rss
    peaks = [before]

    def written(size: int) -> exec_pb2.ExecSyncResponse:
        program = shell(f"yes | head -c {size}")
        return exec_sync(service, container_id, program, max_output_bytes=16 << 20)

    with ThreadPoolExecutor(24) as pool:
        big = [pool.submit(written, 20_000_000) for _ in range(24)]
        small = written(60_000)
        while not all(each.done() for each in big):
            peaks.append(usage_of(service.pid).rss)
            wait(big, timeout=0.05)
    results = [each.result() for each in big]
    assert all(each.stdout_truncated and len(each.stdout) >= 1 << 16 for each in results)
    assert (len(small.stdout), small.stdout_truncated) == (60_000, False)
    # In KiB. Of an answer there are copies until it is sent.
    assert max(peaks) < before + (300 << 10)
    until(lambda: usage_of(service.pid).rss < before + (40 << 10))
