"""Processes that outlive the first one of their container, until it is stopped or removed."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.bed.clients.refusal import refused
from tests.bed.hosts.leaks import LIMIT_S, until
from tests.bed.services.service import Service
from tests.real.conftest import StartService
from tests.real.test_pausing import WRITE, SlowDisk
from tests.real.test_pausing import disk as disk
from tests.real.test_recovery import restart_after_death
from tests.real.test_stopping import members

# Of sessions of their own, which the end of the first process does not touch.
_LEAVES = "setsid sleep 1000 & setsid sleep 1000 & trap 'exit 5' TERM; echo ready; "
_LEAVES += "while :; do sleep 0.05; done"


def left(service: Service) -> tuple[str, str]:
    """A container whose first process has ended, and others have not; and its cgroup."""
    container_id = service.run_among_the_hosts_pids(_LEAVES)
    path = service.status(container_id).cgroup_path
    until(lambda: service.output(container_id) == ["ready"])
    service.kill(container_id, "TERM")
    assert service.wait(container_id).exit_code == 5
    assert service.state(container_id) == "stopped"
    assert len(members(service, path)) == 2
    return container_id, path


def expect_ended(service: Service, container_id: str, path: str) -> None:
    assert members(service, path) == set()
    assert service.state(container_id) == "stopped"
    assert service.wait(container_id).exit_code == 5
    service.stop(container_id, 0)
    service.remove(container_id)
    assert service.leaks() == []


@pytest.mark.parametrize("timeout_s", [0, 5])
@pytest.mark.parametrize("restarted", [False, True])
def test_a_stop_ends_what_has_outlived_the_first_process(
    any_service: Service, restarted: bool, timeout_s: float
) -> None:
    container_id, path = left(any_service)
    if restarted:
        restart_after_death(any_service)
    any_service.stop(container_id, timeout_s)
    expect_ended(any_service, container_id, path)


def frozen(service: Service, path: str) -> None:
    """Freeze what is in a cgroup, by hand."""
    for root in service.host.cgroup_roots:
        state, freeze = (
            Path(f"{root}{path}/{name}") for name in ("freezer.state", "cgroup.freeze")
        )
        if state.exists():
            state.write_text("FROZEN")
            until(lambda state=state: state.read_text() == "FROZEN\n")  # type: ignore[misc]
            return
        if freeze.exists() and service.host.name != "native" and service.host.name != "v1":
            events = freeze.with_name("cgroup.events")
            freeze.write_text("1")
            until(lambda events=events: "frozen 1" in events.read_text())  # type: ignore[misc]
            return
    raise AssertionError(path)


@pytest.mark.parametrize("timeout_s", [0, 5])
def test_a_stop_ends_frozen_ones(any_service: Service, timeout_s: float) -> None:
    container_id, path = left(any_service)
    frozen(any_service, path)
    any_service.stop(container_id, timeout_s)
    expect_ended(any_service, container_id, path)


@pytest.mark.parametrize("is_frozen", [False, True])
def test_a_kill_of_all_reaches_what_has_outlived_the_first_process(
    any_service: Service, is_frozen: bool
) -> None:
    container_id, path = left(any_service)
    if is_frozen:
        frozen(any_service, path)
    with refused("FAILED_PRECONDITION", "WRONG_STATE"):
        any_service.kill(container_id)
    any_service.kill(container_id, "KILL" if is_frozen else "TERM", everyone=True)
    until(lambda: members(any_service, path) == set())
    with refused("FAILED_PRECONDITION", "WRONG_STATE"):
        any_service.kill(container_id, everyone=True)
    expect_ended(any_service, container_id, path)


def test_stops_at_once_all_end_it(service: Service) -> None:
    container_id, path = left(service)
    with ThreadPoolExecutor(8) as pool:
        for stop in [pool.submit(service.stop, container_id, each % 2) for each in range(8)]:
            stop.result(LIMIT_S)
    expect_ended(service, container_id, path)


def test_a_removal_ends_what_has_outlived_the_first_process(any_service: Service) -> None:
    container_id, path = left(any_service)
    any_service.remove(container_id)
    assert members(any_service, path) == set()
    assert any_service.leaks() == []


def move(service: Service, path: str, pid: int) -> None:
    """Move a process to a container's cgroup, by hand."""
    for root in service.host.cgroup_roots:
        procs = Path(f"{root}{path}/cgroup.procs")
        if procs.exists():
            procs.write_text(str(pid))


@contextmanager
def undying_member(service: Service, path: str, disk: SlowDisk) -> Iterator[None]:
    """A process of a container's cgroup waits for a disk in the block, and can't end."""
    writes = f"read go; exec {WRITE.format(disk.path)}"
    with (
        subprocess.Popen(["sh", "-c", writes], stdin=subprocess.PIPE, text=True) as member,
        disk.stuck(),
    ):
        assert member.stdin is not None
        move(service, path, member.pid)
        member.stdin.write("go\n")
        member.stdin.flush()
        until(lambda: disk.holds_up(member.pid))
        yield


def test_a_stop_of_what_outlives_sigkill_times_out_also_when_the_exit_is_known(
    start_service: StartService, disk: SlowDisk
) -> None:
    service = start_service(timeouts_kill_s=1.0)
    container_id, path = left(service)
    with undying_member(service, path, disk):
        for timeout_s in (0, 0.1):
            with refused("DEADLINE_EXCEEDED", "STOP_TIMEOUT") as refusal:
                service.stop(container_id, timeout_s)
            assert dict(refusal.metadata) == {"container_id": container_id}
        assert members(service, path)
        assert service.state(container_id) == "stopped"
    service.stop(container_id, 0)
    expect_ended(service, container_id, path)


def test_a_stop_that_was_cut_off_is_finished_also_when_the_exit_is_known(
    start_service: StartService, disk: SlowDisk
) -> None:
    service = start_service()
    container_id, path = left(service)
    with ThreadPoolExecutor(1) as pool, subprocess.Popen(["sleep", "1000"]) as late:
        with undying_member(service, path, disk):
            stop = pool.submit(service.stop, container_id, 0)
            until(lambda: len(members(service, path)) == 1)
            service.die()
            assert stop.exception(LIMIT_S) is not None
            move(service, path, late.pid)
        service.start()
        assert late.wait(LIMIT_S) == -signal.SIGKILL
    until(lambda: members(service, path) == set())
    expect_ended(service, container_id, path)
