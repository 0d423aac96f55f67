"""OCI runtimes that go wrong: each a typed error in bounded time, and a clean host after it."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from google.protobuf.duration_pb2 import Duration

from ocigrpc.v1.runtime_pb2 import (
    ContainerStatusRequest,
    CreateContainerRequest,
    PauseContainerRequest,
    StopContainerRequest,
)
from ocigrpc.waiting import Deadline
from tests.bed.clients.refusal import refused
from tests.bed.faults.runtimes import FAULTS, Gate, write_faults
from tests.bed.hosts.host import native
from tests.bed.hosts.leaks import LIMIT_S, until
from tests.bed.services.service import Service
from tests.real.conftest import serving, used

CREATE_TIMEOUT_S = 1.0
VERB_TIMEOUT_S = 1.5


@pytest.fixture(scope="module")
def scripts(faults_directory: Path) -> dict[str, Path]:
    return write_faults(faults_directory)


@pytest.fixture(scope="module")
def _faulty_service(scripts: dict[str, Path], _gate: Gate, rootfs: Path) -> Iterator[Service]:
    runtimes: dict[str, dict[str, object]] = {
        name: {
            "path": str(script),
            "create_timeout_s": CREATE_TIMEOUT_S if name in ("hangs", "floods") else 30.0,
        }
        for name, script in scripts.items()
    }
    runtimes["hangs-long"] = {"path": str(scripts["hangs"]), "create_timeout_s": 60.0}
    with (
        native() as host,
        serving(host, rootfs, runtimes=runtimes, timeouts_verb_s=VERB_TIMEOUT_S) as service,
    ):
        yield service


@pytest.fixture
def faulty(_faulty_service: Service) -> Iterator[Service]:
    """A service with every fault as a runtime handler of its name."""
    with used(_faulty_service):
        yield _faulty_service


@pytest.mark.parametrize("fault", ["hangs", "floods"])
def test_a_create_that_hangs_times_out_and_leaves_nothing(
    faulty: Service, gate: Gate, fault: str
) -> None:
    began_s = time.monotonic()
    with refused("DEADLINE_EXCEEDED", "CREATE_TIMEOUT") as refusal:
        faulty.create(runtime_handler=fault, container_id="one")
    assert CREATE_TIMEOUT_S <= time.monotonic() - began_s < CREATE_TIMEOUT_S + 5
    assert refusal.metadata["phase"] == "runtime"
    assert refusal.metadata["container_id"] == "one"
    assert faulty.ids() == []
    assert faulty.leaks() == []


def test_the_clients_shorter_deadline_undoes_a_create(faulty: Service, gate: Gate) -> None:
    request = CreateContainerRequest(config=faulty.config("true"), runtime_handler="hangs-long")
    with refused("DEADLINE_EXCEEDED", "CREATE_TIMEOUT") as refusal:
        faulty.wire.CreateContainer(request, timeout=4)
    assert refusal.metadata["phase"] == "runtime"
    until(lambda: faulty.ids() == [] and faulty.leaks() == [])


def test_a_client_that_goes_away_undoes_a_create(faulty: Service, gate: Gate) -> None:
    request = CreateContainerRequest(config=faulty.config("true"), runtime_handler="gated")
    call = faulty.wire.CreateContainer.future(request, timeout=LIMIT_S)
    gate.wait(Deadline(LIMIT_S))
    assert faulty.leaks()
    call.cancel()
    until(lambda: faulty.ids() == [] and faulty.leaks() == [])


def test_the_same_request_waits_for_a_create_under_way(faulty: Service, gate: Gate) -> None:
    request = CreateContainerRequest(
        config=faulty.config("exec sleep 1000"), runtime_handler="gated", container_id="one"
    )
    first = faulty.wire.CreateContainer.future(request, timeout=LIMIT_S)
    gate.wait(Deadline(LIMIT_S))
    again = faulty.wire.CreateContainer.future(request, timeout=LIMIT_S)
    assert faulty.state("one") == "creating"
    with refused("ALREADY_EXISTS", "CONTAINER_EXISTS"):
        faulty.create("true", container_id="one")
    assert not again.done()
    gate.open()
    assert first.result() == again.result()
    assert faulty.ids() == ["one"]


@pytest.mark.parametrize("fault", ["silent", "killed"])
def test_a_create_that_fails_without_a_word_is_an_error(faulty: Service, fault: str) -> None:
    with refused("INTERNAL", "RUNTIME_FAILED") as refusal:
        faulty.create(runtime_handler=fault)
    assert refusal.metadata["phase"] == "runtime"
    assert faulty.leaks() == []


def test_a_create_that_fails_is_told_in_the_runtimes_own_words(faulty: Service) -> None:
    with refused("INTERNAL", "RUNTIME_FAILED") as refusal:
        faulty.create(runtime_handler="talks")
    assert "the moon is full" in refusal.metadata["output"]
    assert "the moon is full" in refusal.message
    assert faulty.leaks() == []


@pytest.mark.parametrize("fault", ["missing", "forbidden"])
def test_a_runtime_that_can_not_be_run_is_named(
    faulty: Service, scripts: dict[str, Path], fault: str
) -> None:
    with refused("INTERNAL", "RUNTIME_NOT_FOUND") as refusal:
        faulty.create(runtime_handler=fault)
    assert refusal.metadata["path"] == str(scripts[fault])
    assert faulty.leaks() == []


def test_an_id_is_free_again_after_a_create_that_failed(faulty: Service) -> None:
    with refused("INTERNAL", "RUNTIME_FAILED"):
        faulty.create(runtime_handler="silent", container_id="one", name="web")
    faulty.create(runtime_handler="runc", container_id="one", name="web")
    assert faulty.ids() == ["one"]


def test_a_start_that_fails_leaves_the_container_created(faulty: Service) -> None:
    container_id = faulty.create(runtime_handler="start-fails").container_id
    with refused("INTERNAL", "RUNTIME_FAILED") as refusal:
        faulty.start_container(container_id)
    assert refusal.metadata["output"] == "the moon is full"
    assert faulty.state(container_id) == "created"


def test_a_verb_that_hangs_times_out_and_holds_up_neither_status_nor_stop(
    faulty: Service,
) -> None:
    container_id = faulty.run(runtime_handler="pause-hangs")
    with refused("DEADLINE_EXCEEDED", "RUNTIME_TIMEOUT") as refusal:
        faulty.pause(container_id)
    assert refusal.metadata["verb"] == "pause"
    assert faulty.state(container_id) == "running"
    faulty.stop(container_id, 0)
    assert faulty.wait(container_id).exit_code == 137


def test_a_pause_is_tried_again_when_the_kernel_is_slow_to_freeze(faulty: Service) -> None:
    container_id = faulty.run(runtime_handler="freezes-late")
    faulty.pause(container_id)
    assert faulty.state(container_id) == "paused"


def test_a_pause_that_the_kernel_never_gets_done_times_out(faulty: Service) -> None:
    container_id = faulty.run(runtime_handler="never-freezes")
    with refused("DEADLINE_EXCEEDED", "RUNTIME_TIMEOUT") as refusal:
        faulty.pause(container_id)
    assert refusal.metadata["verb"] == "pause"
    assert faulty.state(container_id) == "running"


def test_a_pause_that_fails_because_of_a_stop_says_so(faulty: Service, gate: Gate) -> None:
    script = 'trap "echo asked" TERM; echo up; while :; do sleep 0.1; done'
    container_id = faulty.run(script, runtime_handler="finds-thawed")
    until(lambda: faulty.output(container_id) == ["up"])
    pause = PauseContainerRequest(container_id=container_id)
    paused = faulty.wire.PauseContainer.future(pause, timeout=LIMIT_S)
    gate.wait(Deadline(LIMIT_S))
    stop = StopContainerRequest(container_id=container_id, timeout=Duration(seconds=1000))
    stopped = faulty.wire.StopContainer.future(stop, timeout=LIMIT_S)
    until(lambda: faulty.output(container_id) == ["up", "asked"])
    gate.open()
    with refused("ABORTED", "CONTAINER_BUSY") as refusal:
        paused.result()
    assert refusal.metadata["verb"] == "stop"
    faulty.stop(container_id, 0)
    stopped.result()


def paused_by_hand(service: Service, fault: str) -> str:
    """A container of which kernel and memory disagree, so that the runtime must be asked."""
    container_id = service.run(runtime_handler=fault)
    root = str(service.directory / "runc")
    subprocess.run(["runc", "--root", root, "pause", container_id], check=True)
    return container_id


def test_a_state_that_hangs_is_unknown_by_the_deadline_while_list_is_fast(
    faulty: Service,
) -> None:
    container_id = paused_by_hand(faulty, "state-hangs")
    request = ContainerStatusRequest(container_id=container_id)
    status = faulty.wire.ContainerStatus.future(request, timeout=LIMIT_S)
    began_s = time.monotonic()
    assert faulty.ids() == [container_id]
    assert time.monotonic() - began_s < VERB_TIMEOUT_S / 2
    assert not status.done()
    answer = status.result().status
    assert time.monotonic() - began_s < VERB_TIMEOUT_S + 3
    assert answer.state == 6
    assert answer.message


@pytest.mark.parametrize("fault", ["state-talks", "state-fails"])
def test_a_state_that_is_none_is_unknown(faulty: Service, fault: str) -> None:
    container_id = paused_by_hand(faulty, fault)
    assert faulty.state(container_id) == "unknown"
    assert "the moon is full" in faulty.status(container_id).message
    assert "the moon is full" in faulty.info(container_id).get(
        "state_error", faulty.info(container_id).get("state", "")
    )


def test_a_word_that_is_no_state_is_unknown_with_the_word_kept(faulty: Service) -> None:
    container_id = paused_by_hand(faulty, "state-lies")
    status = faulty.status(container_id)
    assert faulty.state(container_id) == "unknown"
    assert status.runtime_state == "dreaming"
    assert status.message
    errors = [
        event
        for event in faulty.events()
        if event["level"] == "error" and event.get("runtime_state") == "dreaming"
    ]
    assert errors
    assert errors[0]["container_id"] == container_id
    assert errors[0]["reason"] == "RUNTIME_STATE_UNTRUE"


def test_every_fault_has_a_test() -> None:
    tested = "".join(each.read_text() for each in Path(__file__).parent.glob("test_*.py"))
    assert [name for name in FAULTS if f'"{name}"' not in tested] == []
