"""Runtimes and monitors that do not know all options that the service passes."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from ocigrpc.v1 import exec_pb2, runtime_pb2
from tests.bed.clients.conditions import works
from tests.bed.clients.exec import (
    Talk,
    exec_groups,
    exec_sync,
    nothing_made_is_left,
    process,
    shell,
)
from tests.bed.clients.limits import update
from tests.bed.clients.logs import lines
from tests.bed.clients.refusal import refused
from tests.bed.hosts.leaks import LIMIT_S, pids_in, until
from tests.bed.services.service import Service
from tests.bed.services.serving import serving
from tests.real.conftest import StartService, crun_host

# As runc 1.0 does it (urfave/cli), and crun (argp): neither knows of the option.
RUNC = """#!/bin/sh
case " $* " in *" {option}"[\\ =]*)
    echo "Incorrect Usage: flag provided but not defined: {short}"
    echo 'time="2026-01-02T03:04:05Z" level=error msg="flag provided but not defined: {short}"' >&2
    exit 1 ;;
esac
{count}
exec runc "$@"
"""
CRUN = """#!/bin/sh
case " $* " in *" {option}"[\\ =]*)
    echo "exec: unrecognized option '{option}'" >&2
    echo "Try 'exec --help' or 'exec --usage' for more information." >&2
    exit 64 ;;
esac
{count}
exec crun "$@"
"""
CONMON = """#!/bin/sh
case " $* " in *" {option} "*)
    echo "conmon: option parsing failed: Unknown option {option}" >&2; exit 1 ;;
esac
exec conmon "$@"
"""


@pytest.fixture
def directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="ocigrpc-old-", dir="/var/tmp") as directory:
        yield Path(directory)


def script(directory: Path, text: str, option: str, count: str = "") -> str:
    path = directory / "old"
    made = path.with_suffix(".new")
    made.write_text(text.format(option=option, short=option[1:], count=count))
    made.chmod(0o755)
    made.rename(path)
    return str(path)


def condition(service: Service, kind: str) -> runtime_pb2.Condition:
    answer = service.client.status()
    return next(each for each in answer.conditions if each.type == kind)


@pytest.fixture(params=["runc", "crun"])
def old_service(request: pytest.FixtureRequest, rootfs: Path, directory: Path) -> Iterator[Service]:
    """A service whose runtime does not know ``exec --cgroup``."""
    old = script(directory, RUNC if request.param == "runc" else CRUN, "--cgroup")
    with (
        crun_host() as host,
        serving(host, rootfs, runtimes={"old": {"path": old}}, default_runtime="old") as service,
    ):
        yield service
        service.remove_all()


def test_what_is_lost_is_said_by_status(old_service: Service) -> None:
    found = condition(old_service, "RuntimeReady")
    assert (works(found), found.reason) == (True, "OptionsUnknown")
    assert "exec does not know --cgroup" in found.message
    assert found.message.count("does not know") == 1


def test_a_runtime_that_knows_all_loses_nothing(service: Service) -> None:
    for kind in ("RuntimeReady", "MonitorReady"):
        found = condition(service, kind)
        assert (works(found), found.reason, found.message) == (True, "", "")


@pytest.mark.parametrize("terminal", [False, True])
def test_programs_run_all_the_same(old_service: Service, terminal: bool) -> None:
    container_id = old_service.run()
    talk = Talk(old_service, container_id, "echo hi; exit 7", terminal=terminal)
    talk.read_all()
    assert talk.stdout.split() == [b"hi"]
    assert talk.exit is not None
    assert talk.exit.exit_code == 7
    assert nothing_made_is_left(old_service, container_id)


def test_a_program_is_moved_into_its_own_group_and_ends_with_all_it_started(
    old_service: Service,
) -> None:
    container_id = old_service.run()
    pid = old_service.status(container_id).pid
    body = "sleep 0.5; setsid sleep 1000 & sleep 1000"
    with refused("DEADLINE_EXCEEDED", "EXEC_TIMEOUT"):
        exec_sync(old_service, container_id, shell(body), timeout_s=3)
    assert nothing_made_is_left(old_service, container_id)
    until(lambda: in_namespace_of(pid) == {pid})


def test_what_it_has_started_at_once_is_moved_with_it(old_service: Service) -> None:
    container_id = old_service.run()
    pid = old_service.status(container_id).pid
    talk = Talk(old_service, container_id, "sleep 1000 & sleep 1000 & echo up; wait")
    talk.read(lambda: b"up" in talk.stdout)
    until(lambda: any(len(pids_in(group)) == 3 for group in exec_groups(old_service)))
    talk.leave()
    until(lambda: in_namespace_of(pid) == {pid})


def in_namespace_of(pid: int) -> set[int]:
    namespace = os.readlink(f"/proc/{pid}/ns/pid")
    found = set()
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if os.readlink(entry / "ns/pid") == namespace and (entry / "cmdline").read_bytes():
                found.add(int(entry.name))
        except OSError:
            continue
    return found


def test_a_daemon_lives_on_with_it_as_well(old_service: Service) -> None:
    container_id = old_service.run()
    body = "(exec >/dev/null 2>&1; sleep 1000) & echo begun"
    result = exec_sync(old_service, container_id, shell(body), keep_running=True)
    assert result.stdout == b"begun\n"
    assert len(in_namespace_of(old_service.status(container_id).pid)) >= 2


def test_a_runtime_that_is_replaced_is_asked_again(
    directory: Path, start_service: StartService
) -> None:
    counted = directory / "asked"
    count = f'case " $* " in *" exec "*" --help "*) echo >> {counted} ;; esac'
    old = script(directory, RUNC, "--never-heard-of", count)
    service = start_service(runtimes={"old": {"path": old}}, default_runtime="old")
    container_id = service.run()
    for _ in range(3):
        assert exec_sync(service, container_id, process("true")).exit.exit_code == 0
    assert len(counted.read_text()) == 1
    assert condition(service, "RuntimeReady").reason == ""
    script(directory, RUNC, "--cgroup", count)
    assert exec_sync(service, container_id, process("true")).exit.exit_code == 0
    assert condition(service, "RuntimeReady").reason == "OptionsUnknown"
    script(directory, RUNC, "--never-heard-of", count)
    assert condition(service, "RuntimeReady").reason == ""


def test_one_that_hangs_when_it_is_asked_is_taken_to_know_all(
    directory: Path, start_service: StartService
) -> None:
    hangs = 'case " $* " in *" --help "*) exec sleep 1000 ;; esac'
    old = script(directory, RUNC, "--never-heard-of", hangs)
    service = start_service(runtimes={"old": {"path": old}}, default_runtime="old")
    container_id = service.run()
    assert exec_sync(service, container_id, process("true")).exit.exit_code == 0


@pytest.mark.parametrize("option", ["--detach", "--console-socket"])
def test_terminals_are_lost_with_what_brings_them(
    directory: Path, start_service: StartService, option: str
) -> None:
    old = script(directory, RUNC, option)
    service = start_service(runtimes={"old": {"path": old}}, default_runtime="old")
    # conmon passes these, too.
    service.create()
    assert option in condition(service, "RuntimeReady").message


@pytest.mark.parametrize("option", ["--log", "--log-format"])
def test_a_runtime_without_a_log_of_its_own_works(
    directory: Path, start_service: StartService, option: str
) -> None:
    old = script(directory, RUNC, option)
    service = start_service(runtimes={"old": {"path": old}}, default_runtime="old")
    container_id = service.run()
    assert exec_sync(service, container_id, process("true")).exit.exit_code == 0
    assert option in condition(service, "RuntimeReady").message
    # What it prints to a terminal's client, and to one that leaves it at once.
    program = process("true", working_dir="/missing")
    for detach in (False, True):
        start = exec_pb2.ExecStart(
            container_id=container_id, process=program, terminal=True, detach=detach
        )
        with refused("FAILED_PRECONDITION", "WORKING_DIR_UNUSABLE"):
            list(service.client.exec([exec_pb2.ExecRequest(start=start)], timeout_s=LIMIT_S))


def test_limits_can_not_be_changed_without_resources(
    directory: Path, start_service: StartService
) -> None:
    old = script(directory, RUNC, "--resources")
    service = start_service(runtimes={"old": {"path": old}}, default_runtime="old")
    container_id = service.run()
    with refused("FAILED_PRECONDITION", "OPTION_UNKNOWN"):
        update(service, container_id, pids_limit=77)


@pytest.mark.parametrize("option", ["--log-level", "--leave-stdin-open", "--persist-dir"])
def test_an_older_conmon_does_without(
    directory: Path, start_service: StartService, option: str
) -> None:
    service = start_service(conmon_path=script(directory, CONMON, option))
    found = condition(service, "MonitorReady")
    assert (works(found), found.reason) == (True, "OptionsUnknown")
    assert option in found.message
    container_id = service.run("echo hi; exit 3", stdin=True)
    assert service.wait(container_id).exit_code == 3
    assert [line.content for line in lines(service, container_id)] == [b"hi"]


def test_what_an_older_conmon_can_not_do_is_refused(
    directory: Path, start_service: StartService
) -> None:
    service = start_service(conmon_path=script(directory, CONMON, "--log-size-max"))
    with refused("FAILED_PRECONDITION", "OPTION_UNKNOWN"):
        service.create(log_size_max_bytes=100_000)
    service.create()
