"""StopContainer: who is asked, who is killed, when, and who waits for whom."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest

from ocigrpc.v1 import runtime_pb2
from tests.bed.clients.refusal import refused
from tests.bed.hosts.leaks import LIMIT_S, children, pids_in, suspend, until
from tests.bed.services.service import Service
from tests.real.conftest import StartService

STUBBORN = "trap 'echo asked' TERM; echo ready; while :; do sleep 0.05; done"
POLITE = "trap 'exit 7' TERM; echo ready; while :; do sleep 0.05; done"


def ready(service: Service, script: str, stop_signal: str = "") -> str:
    """A container whose script has said that it is ready."""
    container_id = service.run(script, stop_signal=stop_signal)
    until(lambda: service.output(container_id) == ["ready"])
    return container_id


@contextmanager
def takes(least_s: float, most_s: float) -> Iterator[None]:
    began_s = time.monotonic()
    yield
    assert least_s <= time.monotonic() - began_s < most_s


def test_a_program_is_asked_and_its_exit_code_kept(service: Service) -> None:
    container_id = ready(service, POLITE)
    with takes(0, 5):
        service.stop(container_id, 10)
    assert service.wait(container_id).exit_code == 7


def test_a_program_that_ignores_its_stop_signal_is_killed_after_the_timeout(
    service: Service,
) -> None:
    container_id = ready(service, STUBBORN)
    with takes(0.5, 5):
        service.stop(container_id, 0.5)
    exit_status = service.wait(container_id)
    assert (exit_status.exit_code, exit_status.signal) == (137, 9)
    assert not exit_status.oom_killed


def test_a_timeout_of_zero_kills_at_once(service: Service) -> None:
    container_id = ready(service, POLITE)
    with takes(0, 2):
        service.stop(container_id, 0)
    assert service.wait(container_id).exit_code == 137


def test_the_stop_signal_of_the_request_is_used(service: Service) -> None:
    script = "trap 'exit 8' INT; echo ready; while :; do sleep 0.05; done"
    container_id = ready(service, script, stop_signal="SIGINT")
    service.stop(container_id, 10)
    assert service.wait(container_id).exit_code == 8


def test_a_stop_of_a_stopped_container_succeeds(service: Service) -> None:
    container_id = service.run("exit 6")
    service.wait(container_id)
    service.stop(container_id, 10)
    service.stop(container_id, 0)
    assert service.wait(container_id).exit_code == 6


def test_a_stop_of_a_created_container_succeeds_at_once(service: Service) -> None:
    container_id = service.create().container_id
    with takes(0, 5):
        service.stop(container_id, 10)
    assert service.state(container_id) == "stopped"


def test_a_paused_container_that_ignores_its_signal_is_killed_within_the_timeout(
    service: Service,
) -> None:
    container_id = ready(service, STUBBORN)
    service.pause(container_id)
    with takes(0, 5):
        service.stop(container_id, 0.5)
    assert service.wait(container_id).exit_code == 137


def test_a_shorter_stop_overtakes_a_longer_one(service: Service) -> None:
    container_id = ready(service, STUBBORN)
    with ThreadPoolExecutor(1) as pool, takes(0, 10):
        longer = pool.submit(service.stop, container_id, 600.0)
        until(lambda: service.output(container_id) == ["ready", "asked"])
        service.stop(container_id, 0.2)
        longer.result(LIMIT_S)
    assert service.wait(container_id).exit_code == 137


def test_a_longer_stop_does_not_hold_up_a_shorter_one(service: Service) -> None:
    container_id = ready(service, STUBBORN)
    with ThreadPoolExecutor(1) as pool, takes(0, 10):
        shorter = pool.submit(service.stop, container_id, 0.5)
        until(lambda: service.output(container_id) == ["ready", "asked"])
        service.stop(container_id, 600.0)
        shorter.result(LIMIT_S)
    assert service.state(container_id) == "stopped"


def test_twenty_stops_at_once_all_succeed(service: Service) -> None:
    container_id = ready(service, POLITE)
    with ThreadPoolExecutor(20) as pool:
        stops = [pool.submit(service.stop, container_id, 10) for _ in range(20)]
        for stop in stops:
            stop.result(LIMIT_S)
    assert service.wait(container_id).exit_code == 7


def test_status_and_list_answer_at_once_during_a_stop(service: Service) -> None:
    container_id = ready(service, STUBBORN)
    with ThreadPoolExecutor(1) as pool:
        stop = pool.submit(service.stop, container_id, 1.5)
        for _ in range(20):
            with takes(0, 0.5):
                assert service.state(container_id) == "running"
                assert service.ids() == [container_id]
        assert not stop.done()
        stop.result(LIMIT_S)


def test_a_stop_that_outlasts_the_clients_deadline_may_be_repeated(service: Service) -> None:
    container_id = ready(service, STUBBORN)
    with pytest.raises(grpc.RpcError) as caught:
        service.stop_by(container_id, 600, deadline_s=0.5)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert service.state(container_id) == "running"
    service.stop(container_id, 0)
    assert service.state(container_id) == "stopped"


@contextmanager
def undying(pid: int) -> Iterator[None]:
    """The first process of a container can't end in the block, not even by SIGKILL.

    pid_namespaces(7): it waits for all others of its namespace to be reaped, and one of
    them has a parent outside, who is stopped.
    """
    argv = ["nsenter", "--target", str(pid), "--pid", "sh", "-c", "echo ready; exec sleep 1000"]
    with subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        try:
            assert parent.stdout.readline() == b"ready\n"
            suspend(parent.pid)
            yield
        finally:
            for child in children(parent.pid):
                os.kill(int(child), signal.SIGKILL)
            parent.send_signal(signal.SIGCONT)
            parent.wait(LIMIT_S)


def test_a_stop_of_what_outlives_sigkill_times_out_and_may_be_repeated(
    start_service: StartService,
) -> None:
    service = start_service(timeouts_kill_s=1.0)
    container_id = ready(service, POLITE)
    with undying(service.status(container_id).pid):
        for _ in range(2):
            with refused("DEADLINE_EXCEEDED", "STOP_TIMEOUT") as refusal:
                service.stop(container_id, 0)
            assert dict(refusal.metadata) == {"container_id": container_id}
            assert service.state(container_id) == "running"
        with refused("DEADLINE_EXCEEDED", "STOP_TIMEOUT") as refusal:
            service.remove(container_id, force=True)
        assert dict(refusal.metadata) == {"container_id": container_id}
        # Before the caller's own clock runs out, as well.
        stop = runtime_pb2.StopContainerRequest(container_id=container_id)
        with refused("DEADLINE_EXCEEDED", "STOP_TIMEOUT"):
            service.wire.StopContainer(stop, timeout=2)
    service.stop(container_id, 0)
    assert service.wait(container_id).exit_code == 137


def test_a_negative_timeout_is_refused(service: Service) -> None:
    with refused("INVALID_ARGUMENT", "INVALID_TIMEOUT") as refusal:
        service.stop(service.run(), -1)
    assert refusal.fields == ["timeout"]


@pytest.mark.parametrize("end", ["stop", "exit"])
def test_children_in_the_hosts_pid_namespace_do_not_outlive_a_stop(
    service: Service, end: str
) -> None:
    # Children of their own sessions, which the end of the first process does not touch.
    script = "for i in 1 2 3; do setsid sleep 1000 & done; trap 'exit 0' TERM; echo ready; "
    script += "while :; do sleep 0.05; done"
    container_id = service.run_among_the_hosts_pids(script)
    until(lambda: service.output(container_id) == ["ready"])
    path = service.status(container_id).cgroup_path
    if end == "stop":
        service.stop(container_id, 10)
        assert members(service, path) == set()
    else:
        service.kill(container_id, "TERM")
        service.wait(container_id)
        assert members(service, path)
    service.remove(container_id)
    assert service.leaks() == []


def members(service: Service, cgroup_path: str) -> set[int]:
    """The processes in a container's cgroup, in any hierarchy."""
    groups = [Path(f"{root}{cgroup_path}") for root in service.host.cgroup_roots]
    return {pid for group in groups for pid in pids_in(group)}
