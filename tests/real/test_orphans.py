"""Runtimes that outlive the service which has run them do no harm to the next one's containers."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from ocigrpc.deadline import Deadline
from ocigrpc.v1.runtime_pb2 import PauseContainerRequest, RemoveContainerRequest
from tests.real.conftest import StartService
from tests.real.exec_client import Talk, nothing_runs_but
from tests.real.faults import Gate, write_faults
from tests.real.remains import LIMIT_S, until
from tests.real.service import Service
from tests.real.wholeness import expect_whole

Runtimes = dict[str, dict[str, str]]


# For the whole module, since services that use them are ended after each test.
@pytest.fixture(scope="module")
def directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="ocigrpc-faults-", dir="/var/tmp") as directory:
        yield Path(directory)


@pytest.fixture(scope="module")
def runtimes(directory: Path) -> Runtimes:
    scripts = write_faults(directory)
    names = ("gated-exec", "gated-pause", "gated-delete")
    return {name: {"path": str(scripts[name])} for name in names}


@pytest.fixture(scope="module")
def gate(directory: Path, runtimes: Runtimes) -> Iterator[Gate]:
    with closing(Gate(directory)) as gate:
        yield gate


def restart_once_begun(service: Service, gate: Gate) -> None:
    gate.wait(Deadline(LIMIT_S))
    service.die()
    service.start()


def test_a_program_that_its_service_did_not_live_to_see_never_runs(
    start_service: StartService, runtimes: Runtimes, gate: Gate
) -> None:
    service = start_service(runtimes=runtimes)
    container_id = service.run(runtime_handler="gated-exec")
    talk = Talk(service, container_id, "sleep 1000")
    restart_once_begun(service, gate)
    talk.hang_up()
    files = service.directory / "run/containers" / container_id
    until(lambda: not list(files.glob("exec-*")))
    gate.open()
    expect_whole(service)
    assert nothing_runs_but(service, container_id)
    assert service.state(container_id) == "running"


def test_a_pause_that_comes_late_is_seen_and_can_be_ended(
    start_service: StartService, runtimes: Runtimes, gate: Gate
) -> None:
    service = start_service(runtimes=runtimes)
    container_id = service.run(runtime_handler="gated-pause")
    request = PauseContainerRequest(container_id=container_id)
    call = service.rpc.PauseContainer.future(request, timeout=LIMIT_S)
    restart_once_begun(service, gate)
    assert call.exception() is not None
    assert service.state(container_id) == "running"
    gate.open()
    until(lambda: service.state(container_id) == "paused")
    expect_whole(service)
    service.resume(container_id)
    assert service.state(container_id) == "running"


def test_two_removals_of_one_container_are_one(
    start_service: StartService, runtimes: Runtimes, gate: Gate
) -> None:
    service = start_service(runtimes=runtimes)
    container_id = service.run(runtime_handler="gated-delete")
    request = RemoveContainerRequest(container_id=container_id, force=True)
    call = service.rpc.RemoveContainer.future(request, timeout=LIMIT_S)
    restart_once_begun(service, gate)
    assert call.exception() is not None
    gate.wait(Deadline(LIMIT_S))
    gate.open()
    gate.open()
    until(lambda: service.ids() == service.remains() == [])
