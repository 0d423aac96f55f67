"""Programs of Exec that run on without a client from their start."""

from __future__ import annotations

import os
import stat
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from ocigrpc.client import Stream
from ocigrpc.v1 import exec_pb2
from tests.bed.clients.exec import (
    exec_groups,
    exec_sync,
    nothing_made_is_left,
    nothing_runs_but,
    process,
    seconds,
    shell,
)
from tests.bed.clients.refusal import refused
from tests.bed.faults.runtimes import HANGS_WHEN_DONE, Switches
from tests.bed.hosts.leaks import LIMIT_S, pids_in, until
from tests.bed.services.service import Service
from tests.real.conftest import StartService

GO = "/tmp/go"


def call(
    service: Service, container_id: str, program: exec_pb2.ExecProcess, **fields: Any
) -> Stream[exec_pb2.ExecResponse]:
    start = exec_pb2.ExecStart(container_id=container_id, process=program, detach=True, **fields)
    return service.client.exec([exec_pb2.ExecRequest(start=start)], timeout_s=LIMIT_S)


def detached(
    service: Service, container_id: str, program: exec_pb2.ExecProcess, **fields: Any
) -> int:
    """The process id of a program that runs now; its answer is the only one."""
    (answer,) = call(service, container_id, program, **fields)
    assert answer.WhichOneof("output") == "started"
    return answer.started.pid


def has_ended(service: Service, container_id: str) -> bool:
    """Whether a program has ended, and what the service did for it."""
    return any(
        each["event"] == "exec.unattended_ended" and each["container_id"] == container_id
        for each in service.events()
    )


def exists(service: Service, container_id: str, path: str) -> bool:
    return exec_sync(service, container_id, process("ls", path)).exit.exit_code == 0


def test_it_is_listed_and_ends_with_the_container(any_service: Service) -> None:
    container_id = any_service.run()
    pid = detached(any_service, container_id, process("sleep", "1000"))
    listed = any_service.client.list_processes(container_id)
    assert pid in [each.pid for each in listed]
    any_service.stop(container_id, timeout_s=0)
    until(lambda: not any(map(pids_in, exec_groups(any_service))))
    until(lambda: nothing_made_is_left(any_service, container_id))


@pytest.mark.parametrize("terminal", [False, True])
def test_it_has_no_input_and_its_output_holds_nothing_up(
    any_service: Service, terminal: bool
) -> None:
    container_id = any_service.run()
    read = "" if terminal else "cat;"
    script = f"{read} head -c 1000000 /dev/zero; head -c 1000000 /dev/zero >&2; touch {GO}"
    detached(any_service, container_id, shell(script), terminal=terminal)
    until(lambda: exists(any_service, container_id, GO))
    # It leaves nothing when it has ended by itself.
    until(lambda: nothing_made_is_left(any_service, container_id))


def test_the_hosts_null_device_is_no_users(any_service: Service) -> None:
    container_id = any_service.run()
    # Each has a null device of its own, which it may open again.
    script = "cat </proc/self/fd/0 && echo >/proc/self/fd/1 && exec sleep 2000"
    detached(any_service, container_id, shell(script, user="7:8"))
    listed = partial(any_service.client.list_processes, container_id)
    until(lambda: ["sleep", "2000"] in [list(each.command) for each in listed()])
    once = shell("cat </proc/self/fd/0; chmod 0 /proc/self/fd/0; true", user="7:8")
    assert exec_sync(any_service, container_id, once).exit.exit_code == 0
    found = Path(os.devnull).stat()
    assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (0, 0, 0o666)


def test_what_it_leaves_behind_lives_on(any_service: Service) -> None:
    container_id = any_service.run()
    script = f"(while [ ! -e {GO} ]; do sleep 0.05; done; touch {GO}ne) & :"
    detached(any_service, container_id, shell(script))
    until(lambda: has_ended(any_service, container_id))
    exec_sync(any_service, container_id, process("touch", GO))
    until(lambda: exists(any_service, container_id, f"{GO}ne"))


def test_its_timeout_ends_it(service: Service) -> None:
    container_id = service.run()
    detached(service, container_id, process("sleep", "1000"), timeout=seconds(0.5))
    until(lambda: nothing_made_is_left(service, container_id))


def test_it_outlives_the_service_and_may_write_then(start_service: StartService) -> None:
    service = start_service()
    container_id = service.run()
    script = f"while [ ! -e {GO} ]; do echo on; sleep 0.05; done; echo on && touch {GO}ne"
    detached(service, container_id, shell(script))
    service.die()
    service.start()
    exec_sync(service, container_id, process("touch", GO))
    until(lambda: exists(service, container_id, f"{GO}ne"))
    until(lambda: not any(map(pids_in, exec_groups(service))))
    service.remove(container_id, force=True)
    assert service.leaks() == []


@pytest.mark.parametrize(
    ("program", "code", "reason"),
    [
        (process("missing"), "FAILED_PRECONDITION", "PROGRAM_NOT_FOUND"),
        (process("/etc/passwd"), "FAILED_PRECONDITION", "PROGRAM_NOT_EXECUTABLE"),
        # Seen by the runtime alone, which has made the process by then.
        (process("true", working_dir="/missing"), "FAILED_PRECONDITION", "WORKING_DIR_UNUSABLE"),
    ],
)
def test_one_that_can_not_be_run_fails_the_call(
    any_service: Service, program: exec_pb2.ExecProcess, code: str, reason: str
) -> None:
    container_id = any_service.run()
    for terminal in (False, True):
        with refused(code, reason):
            list(call(any_service, container_id, program, terminal=terminal))
        assert nothing_made_is_left(any_service, container_id)


def test_input_is_refused(service: Service) -> None:
    with refused("INVALID_ARGUMENT", "CONFLICT") as refusal:
        list(call(service, service.run(), process("true"), stdin=True))
    assert refusal.fields == ["start.stdin"]


def test_what_a_runtime_prints_of_its_failure_is_known_with_a_terminal(
    start_service: StartService, switches: Switches
) -> None:
    service = start_service(runtimes={"runc": {"path": str(switches.path)}})
    container_id = service.run()
    # More than a pipe holds.
    fault = "echo the moon is full >&2; head -c 200000 /dev/zero >&2; exit 3"
    with switches.on("exec", fault), refused("INTERNAL", "EXEC_FAILED") as refusal:
        list(call(service, container_id, process("true"), terminal=True))
    assert refusal.metadata["output"].startswith("the moon is full\n")
    # The program would have the same standard error, and must not be held up by it.
    with switches.on("exec", fault), refused("INTERNAL", "EXEC_FAILED") as refusal:
        list(call(service, container_id, process("true")))
    assert refusal.metadata["output"] == ""
    assert "exit code 3" in refusal.message
    assert nothing_made_is_left(service, container_id)


def test_a_runtime_that_fails_after_it_has_begun_it_fails_the_call(
    start_service: StartService, switches: Switches
) -> None:
    service = start_service(runtimes={"runc": {"path": str(switches.path)}})
    container_id = service.run()
    with (
        switches.on("exec", 'runc "$@"; exit 1'),
        refused("INTERNAL", "EXEC_FAILED"),
    ):
        list(call(service, container_id, process("sleep", "1000")))
    assert nothing_runs_but(service, container_id)


def test_whoever_leaves_before_it_has_started_leaves_nothing(
    start_service: StartService, switches: Switches
) -> None:
    service = start_service(runtimes={"runc": {"path": str(switches.path)}})
    container_id = service.run()
    with switches.on("exec", HANGS_WHEN_DONE):
        begun = call(service, container_id, process("sleep", "1000"))
        switches.wait()
        begun.close()
        until(lambda: nothing_runs_but(service, container_id))
