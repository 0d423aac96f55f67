"""Programs of Exec that outlive the service, and what they write then."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from ocigrpc.v1.container_pb2 import MONITOR_LOST_POLICY_LEAVE
from tests.bed.clients.events import Events
from tests.bed.clients.exec import Talk, exec_groups, exec_sync, process
from tests.bed.faults.monitors import monitors
from tests.bed.hosts.leaks import pids_in, until
from tests.bed.services.service import Service
from tests.real.conftest import StartService

GO = "/tmp/go"

# More than fits into a pipe, and far more than into a terminal.
WRITER = f"""
echo up
while [ ! -e {GO} ]; do echo on; sleep 0.05; done
head -c 300000 /dev/zero && head -c 300000 /dev/zero >&2 && touch {GO}ne"""


def exists(service: Service, container_id: str, path: str) -> bool:
    return exec_sync(service, container_id, process("ls", path)).exit.exit_code == 0


@pytest.mark.parametrize("end", [Service.end, Service.die])
@pytest.mark.parametrize("terminal", [False, True])
def test_one_that_is_kept_may_write_what_it_likes(
    start_service: StartService, terminal: bool, end: Callable[[Service], None]
) -> None:
    service = start_service()
    container_id = service.run()
    talk = Talk(service, container_id, WRITER, terminal=terminal, keep_running=True)
    talk.read(lambda: b"up" in talk.stdout)
    expect_life_after(service, container_id, end)


@pytest.mark.parametrize("end", [Service.end, Service.die])
@pytest.mark.parametrize("terminal", [False, True])
def test_one_that_is_detached_from_may_write_what_it_likes(
    start_service: StartService, terminal: bool, end: Callable[[Service], None]
) -> None:
    service = start_service()
    container_id = service.run()
    talk = Talk(service, container_id, WRITER, terminal=terminal, detach=True)
    talk.read_all()
    expect_life_after(service, container_id, end)


def test_one_that_has_a_terminal_outlives_the_monitor_of_its_container_and_the_service(
    any_service: Service,
) -> None:
    service = any_service
    container_id = service.run(monitor_lost_policy=MONITOR_LOST_POLICY_LEAVE)
    Talk(service, container_id, WRITER, terminal=True, detach=True).read_all()
    others = set(monitors(service, [container_id]))
    (monitor,) = {pid for pid in others if name_of(pid) == "conmon"}
    events = Events(service, container_id=container_id)
    os.kill(monitor, signal.SIGKILL)
    events.until("monitor_lost")
    # When that of another one is tidied up after, that one has been, too.
    another = service.run("exit 0")
    service.wait(another)
    until(lambda: not monitors(service, [another]))
    service.end()
    service.start()
    expect_end(service, container_id)
    until(lambda: not monitors(service, [container_id]))


def name_of(pid: int) -> str:
    return Path(f"/proc/{pid}/comm").read_text().strip()


def expect_life_after(service: Service, container_id: str, end: Callable[[Service], None]) -> None:
    end(service)
    service.start()
    assert any(map(pids_in, exec_groups(service)))
    expect_end(service, container_id)
    service.remove(container_id, force=True)
    assert service.leaks() == []


def expect_end(service: Service, container_id: str) -> None:
    """Let it write, and wait until it has ended well."""
    exec_sync(service, container_id, process("touch", GO))
    until(lambda: exists(service, container_id, f"{GO}ne"))
    until(lambda: not any(map(pids_in, exec_groups(service))))
