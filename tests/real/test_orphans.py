"""Runtimes do not outlive the service which has run them for longer than until the next one."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from ocigrpc.v1.runtime_pb2 import PauseContainerRequest, RemoveContainerRequest
from ocigrpc.waiting import Deadline
from tests.bed.checks.integrity import expect_integrity
from tests.bed.clients.exec import Talk, nothing_runs_but
from tests.bed.faults.runtimes import Gate
from tests.bed.hosts.leaks import LIMIT_S, until
from tests.bed.services.service import Service
from tests.real.conftest import Runtimes, StartService


def restart_once_begun(service: Service, gate: Gate) -> None:
    gate.wait(Deadline(LIMIT_S))
    service.die()
    service.start()


def runtimes_at_work(runtimes: Runtimes) -> list[str]:
    """The process ids of the faulty ones."""
    scripts = {handler["path"].encode() for handler in runtimes.values()}
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            # A shell, and the script; conmon has it too, but later.
            shell = (entry / "cmdline").read_bytes().split(b"\0")[:2]
            found += [entry.name] if scripts & set(shell) else []
    return found


def test_a_program_that_its_service_did_not_live_to_see_never_runs(
    start_service: StartService, faulty_runtimes: Runtimes, gate: Gate
) -> None:
    service = start_service(runtimes=faulty_runtimes)
    container_id = service.run(runtime_handler="gated-exec")
    talk = Talk(service, container_id, "sleep 1000")
    restart_once_begun(service, gate)
    talk.hang_up()
    files = service.directory / "run/containers" / container_id
    until(lambda: not list(files.glob("exec-*")))
    gate.open()
    expect_integrity(service)
    assert nothing_runs_but(service, container_id)
    assert service.state(container_id) == "running"


def test_a_pause_that_was_cut_off_never_comes(
    start_service: StartService, faulty_runtimes: Runtimes, gate: Gate
) -> None:
    service = start_service(runtimes=faulty_runtimes)
    container_id = service.run(runtime_handler="gated-pause")
    request = PauseContainerRequest(container_id=container_id)
    call = service.wire.PauseContainer.future(request, timeout=LIMIT_S)
    restart_once_begun(service, gate)
    assert call.exception() is not None
    assert runtimes_at_work(faulty_runtimes) == []
    assert service.state(container_id) == "running"
    call = service.wire.PauseContainer.future(request, timeout=LIMIT_S)
    gate.wait(Deadline(LIMIT_S))
    gate.open()
    call.result()
    expect_integrity(service)


def test_a_removal_that_was_cut_off_does_not_touch_the_next_of_its_id(
    start_service: StartService, faulty_runtimes: Runtimes, gate: Gate
) -> None:
    service = start_service(runtimes=faulty_runtimes)
    container_id = service.run(runtime_handler="gated-delete", container_id="one")
    request = RemoveContainerRequest(container_id=container_id, force=True)
    call = service.wire.RemoveContainer.future(request, timeout=LIMIT_S)
    restart_once_begun(service, gate)
    assert call.exception() is not None
    # The next service removes it itself; the one before would have been let go with it.
    gate.wait(Deadline(LIMIT_S))
    assert len(runtimes_at_work(faulty_runtimes)) == 1
    gate.open()
    until(lambda: service.ids() == service.leaks() == [])
    service.run(container_id="one")
    assert service.state("one") == "running"
