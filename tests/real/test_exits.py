"""How the service learns of ends, and what it says when nobody knows."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ocigrpc.v1.container_pb2 import ExitProvenance, ExitStatus
from ocigrpc.v1.runtime_pb2 import CreateContainerRequest
from tests.bed.hosts.leaks import below, suspend, until
from tests.bed.services.service import Service

LIVES = 500
IN_FLIGHT = 8


def provenance(exit_status: ExitStatus) -> str:
    name = ExitProvenance.Name(exit_status.provenance)
    return name.removeprefix("EXIT_PROVENANCE_").lower()


def lose_monitor(service: Service, container_id: str) -> None:
    os.kill(service.monitor_pid(container_id), signal.SIGKILL)
    until(lambda: service.status(container_id).monitor_lost, limit_s=1.0)


# Half a minute on two idle cores.
@pytest.mark.timeout(600)
def test_five_hundred_short_containers_have_exact_exit_codes(service: Service) -> None:
    descriptors = len(os.listdir(f"/proc/{service.pid}/fd"))

    def live(number: int) -> int:
        container_id = service.run(f"exit {number % 256}")
        exit_status = service.wait(container_id)
        assert provenance(exit_status) == "exit_file"
        service.remove(container_id)
        return exit_status.exit_code

    with ThreadPoolExecutor(IN_FLIGHT) as pool:
        codes = list(pool.map(live, range(LIVES)))
    assert codes == [number % 256 for number in range(LIVES)]
    assert service.leaks() == []
    until(lambda: len(os.listdir(f"/proc/{service.pid}/fd")) <= descriptors + IN_FLIGHT)


def test_a_container_without_its_monitor_goes_on_and_says_so(service: Service) -> None:
    container_id = service.run()
    lose_monitor(service, container_id)
    assert service.state(container_id) == "running"
    assert "monitor_pid" not in service.info(container_id)
    service.pause(container_id)
    assert service.state(container_id) == "paused"
    service.resume(container_id)
    assert service.state(container_id) == "running"


@pytest.mark.parametrize("end", [lambda s, c: s.stop(c, 0), Service.kill, None])
def test_the_exit_of_a_container_without_its_monitor_is_unknown(
    service: Service, end: Callable[[Service, str], None] | None
) -> None:
    container_id = service.run("trap 'exit 3' USR1; echo ready; while :; do sleep 0.05; done")
    until(lambda: service.output(container_id) == ["ready"])
    lose_monitor(service, container_id)
    if end is None:
        service.kill(container_id, "USR1")
    else:
        end(service, container_id)
    exit_status = service.wait(container_id)
    assert provenance(exit_status) == "monitor_lost"
    assert not exit_status.HasField("exit_code")
    assert exit_status.message
    assert service.state(container_id) == "stopped"
    service.remove(container_id)
    assert service.leaks() == []


def test_monitor_and_container_that_die_together_leave_an_unknown_exit(service: Service) -> None:
    container_id = service.run()
    pids = service.monitor_pid(container_id), service.status(container_id).pid
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    exit_status = service.wait(container_id)
    assert provenance(exit_status) in ("monitor_lost", "file_missing")
    assert not exit_status.HasField("exit_code")
    assert service.state(container_id) == "stopped"


def test_an_end_that_the_monitor_has_not_told_yet_is_pending(service: Service) -> None:
    container_id = service.run()
    monitor_pid = service.monitor_pid(container_id)
    suspend(monitor_pid)
    try:
        service.kill(container_id)
        until(lambda: service.state(container_id) == "stopped")
        assert provenance(service.status(container_id).exit_status) == "pending"
        assert not service.status(container_id).exit_status.HasField("exit_code")
    finally:
        os.kill(monitor_pid, signal.SIGCONT)
    assert service.wait(container_id).exit_code == 137


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, "file_missing"),
        ("", "file_empty"),
        ("three", "file_invalid"),
        ("-1", "file_invalid"),
        ("256", "file_invalid"),
        ("1" * 10_000, "file_invalid"),
        ("3", "exit_file"),
    ],
)
def test_an_exit_file_is_believed_only_as_far_as_it_goes(
    service: Service, text: str | None, expected: str
) -> None:
    container_id = service.run()
    monitor_pid = service.monitor_pid(container_id)
    pid = service.status(container_id).pid
    suspend(monitor_pid)
    service.kill(container_id)
    until(lambda: service.state(container_id) == "stopped")
    assert Path(f"/proc/{pid}").exists()
    if text is not None:
        Path(service.status(container_id).bundle_path, "exit").write_text(text)
    os.kill(monitor_pid, signal.SIGKILL)
    exit_status = service.wait(container_id)
    assert provenance(exit_status) == expected
    assert exit_status.HasField("exit_code") == (expected == "exit_file")
    assert bool(exit_status.message) == (expected != "exit_file")


def test_an_exit_is_told_soon_after_the_end(service: Service) -> None:
    container_id = service.run("trap 'exit 0' USR1; echo ready; while :; do sleep 0.05; done")
    until(lambda: service.output(container_id) == ["ready"])
    with ThreadPoolExecutor(1) as pool:
        wait = pool.submit(service.wait, container_id)
        service.kill(container_id, "KILL")
        exit_status = wait.result()
        told_ns = time.time_ns()
    # A bound that a noisy machine keeps; scripts/bench measures it.
    assert 0 <= told_ns - exit_status.finished_at.ToNanoseconds() < 1_000_000_000


EAT = "tail /dev/zero"


@pytest.mark.parametrize(
    ("script", "exit_code", "oom_killed"),
    [(f"exec {EAT}", 137, True), (f"{EAT}; exit 5", 5, False)],
)
def test_a_death_for_want_of_memory_is_told_from_that_of_a_child(
    service: Service, script: str, exit_code: int, oom_killed: bool
) -> None:
    config = service.config(script)
    config.resources.memory_limit_in_bytes = 32 << 20
    config.resources.memory_swap_limit_in_bytes = 32 << 20
    request = CreateContainerRequest(config=config)
    container_id = service.client.create_container(request).container_id
    service.start_container(container_id)
    exit_status = service.wait(container_id)
    assert (exit_status.exit_code, exit_status.oom_killed) == (exit_code, oom_killed)


def monitor_groups(service: Service, container_id: str) -> list[Path]:
    return [
        group
        for parent in service.parents()
        for group in below(parent, f"ocigrpc-conmon-{container_id}")
    ]


def test_tidying_up_after_one_leaves_the_next_of_its_id_alone(service: Service) -> None:
    held_up = service.run()
    with subprocess.Popen(["sleep", "1000"]) as foreigner:
        # As long as it is there, the tidying of this one does not end, nor that of the next.
        for group in monitor_groups(service, held_up):
            (group / "cgroup.procs").write_text(str(foreigner.pid))
        service.kill(held_up)
        service.wait(held_up)
        service.wait(service.run("true", container_id="one"))
        service.remove("one")
        service.run(container_id="one")
        foreigner.kill()
    last = service.run("true")
    service.wait(last)
    until(lambda: not monitor_groups(service, last))
    assert monitor_groups(service, "one")
