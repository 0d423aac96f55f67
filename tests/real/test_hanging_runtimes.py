"""OCI runtimes that hang in, or flood, one verb after the other: all calls stay bounded."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Protocol

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message

from ocigrpc.v1 import config_pb2, exec_pb2, runtime_pb2
from tests.real.conftest import serving, used
from tests.real.faults import FLOODS, HANGS, HANGS_WHEN_DONE, Switches
from tests.real.hosts import native
from tests.real.refusal import refused
from tests.real.remains import LIMIT_S, children, until
from tests.real.service import Service

VERBS = ("create", "start", "state", "pause", "resume", "exec", "update", "delete")
"""All that the service runs: signals it sends itself, so that there is no kill."""

VERB_TIMEOUT_S = 3.0
CREATE_TIMEOUT_S = 5.0

ONE = "one"


class Pending(Protocol):
    """A call under way, of any kind."""

    def result(self) -> Message: ...
    def exception(self) -> BaseException | None: ...
    def done(self) -> bool: ...
    def cancel(self) -> bool: ...


@pytest.fixture(scope="module")
def switches() -> Iterator[Switches]:
    with (
        tempfile.TemporaryDirectory(prefix="ocigrpc-faults-", dir="/var/tmp") as directory,
        closing(Switches(Path(directory))) as switches,
    ):
        yield switches


@pytest.fixture(scope="module")
def _patient_service(switches: Switches, rootfs: Path) -> Iterator[Service]:
    runtimes: dict[str, dict[str, object]] = {"switched": {"path": str(switches.path)}}
    with native() as host, serving(host, rootfs, runtimes=runtimes) as service:
        yield service


@pytest.fixture
def patient(_patient_service: Service) -> Iterator[Service]:
    """A service that lets the runtime hang for longer than any test takes."""
    with used(_patient_service):
        yield _patient_service


@pytest.fixture(scope="module")
def _impatient_service(switches: Switches, rootfs: Path) -> Iterator[Service]:
    runtimes: dict[str, dict[str, object]] = {
        "switched": {"path": str(switches.path), "create_timeout_s": CREATE_TIMEOUT_S}
    }
    settings = {"runtimes": runtimes, "verb_timeout_s": VERB_TIMEOUT_S}
    with native() as host, serving(host, rootfs, **settings) as service:
        yield service


@pytest.fixture
def impatient(_impatient_service: Service) -> Iterator[Service]:
    """A service that gives the runtime up soon."""
    with used(_impatient_service):
        yield _impatient_service


def make_ready(service: Service, verb: str) -> None:
    """The container ONE in the state that the verb wants; none for a create."""
    if verb != "create":
        service.create(runtime_handler="switched", container_id=ONE)
    if verb not in ("create", "start"):
        service.start_container(ONE)
    if verb == "resume":
        service.pause(ONE)


def begin(service: Service, verb: str, timeout_s: float = LIMIT_S) -> Pending:
    """The call that runs into a verb of the runtime, under way."""
    rpc, v1 = service.rpc, runtime_pb2
    match verb:
        case "create":
            config = service.config("exec sleep 1000")
            request = v1.CreateContainerRequest(
                config=config, container_id=ONE, runtime_handler="switched"
            )
            return rpc.CreateContainer.future(request, timeout=timeout_s)
        case "start":
            start = v1.StartContainerRequest(container_id=ONE)
            return rpc.StartContainer.future(start, timeout=timeout_s)
        case "state":
            status = v1.ContainerStatusRequest(container_id=ONE, verbose=True)
            return rpc.ContainerStatus.future(status, timeout=timeout_s)
        case "pause":
            pause = v1.PauseContainerRequest(container_id=ONE)
            return rpc.PauseContainer.future(pause, timeout=timeout_s)
        case "resume":
            resume = v1.ResumeContainerRequest(container_id=ONE)
            return rpc.ResumeContainer.future(resume, timeout=timeout_s)
        case "exec":
            return rpc.ExecSync.future(exec_of("true"), timeout=timeout_s)
        case "update":
            return rpc.UpdateContainerResources.future(update_of(ONE), timeout=timeout_s)
        case _:
            remove = v1.RemoveContainerRequest(container_id=ONE, force=True)
            return rpc.RemoveContainer.future(remove, timeout=timeout_s)


def exec_of(*command: str, container_id: str = ONE) -> exec_pb2.ExecSyncRequest:
    return exec_pb2.ExecSyncRequest(
        container_id=container_id,
        process=exec_pb2.ExecProcess(command=command),
        timeout=Duration(seconds=int(VERB_TIMEOUT_S)) if container_id == ONE else None,
    )


def update_of(container_id: str) -> runtime_pb2.UpdateContainerResourcesRequest:
    resources = config_pb2.LinuxContainerResources(pids_limit=50)
    return runtime_pb2.UpdateContainerResourcesRequest(
        container_id=container_id, resources=resources
    )


def live_beside(service: Service) -> None:
    """Every verb on another container, from its making to its removal."""
    container_id = service.run(runtime_handler="runc")
    service.pause(container_id)
    service.resume(container_id)
    request = exec_of("/bin/sh", "-c", "exit 3", container_id=container_id)
    assert service.rpc.ExecSync(request, timeout=LIMIT_S).exit.exit_code == 3
    service.rpc.UpdateContainerResources(update_of(container_id), timeout=LIMIT_S)
    assert service.state(container_id) == "running"
    assert "state" in service.info(container_id)
    assert container_id in service.ids()
    service.kill(container_id)
    assert service.wait(container_id).exit_code == 137
    service.stop(container_id, 0)
    service.remove(container_id)


def expect_well(service: Service) -> None:
    """The container can be removed, if it is there, and nothing is left."""
    service.remove(ONE, force=True)
    assert service.ids() == []
    assert service.remains() == []


def expect_given_up(service: Service, verb: str) -> None:
    """No child of the service is left soon, nor what it was making."""
    until(lambda: list(children(service.pid)) == [])
    until(lambda: service.ids() == ([] if verb == "create" else [ONE]))


def expect_state_error(call: Pending) -> None:
    """The call is answered, but for the runtime's own words."""
    answer = call.result()
    assert isinstance(answer, runtime_pb2.ContainerStatusResponse)
    assert answer.status.container_id == ONE
    assert answer.info["state_error"]


REASONS = {"create": "CREATE_TIMEOUT", "exec": "EXEC_TIMEOUT"}


@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_that_hangs_is_given_up_in_time_and_can_be_repeated(
    impatient: Service, switches: Switches, verb: str
) -> None:
    make_ready(impatient, verb)
    with switches.on(verb, HANGS):
        call = begin(impatient, verb)
        if verb == "state":
            # What is known without the runtime is answered all the same.
            expect_state_error(call)
        else:
            with refused("DEADLINE_EXCEEDED", REASONS.get(verb, "RUNTIME_TIMEOUT")) as refusal:
                call.result()
            assert refusal.metadata.get("verb", verb) == verb
            assert refusal.metadata.get("phase", "runtime") == "runtime"
        assert list(children(impatient.pid)) == []
    if verb == "create":
        assert impatient.ids() == []
    if verb not in ("exec", "state"):
        begin(impatient, verb).result()
    expect_well(impatient)


@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_that_hangs_is_given_up_at_the_clients_deadline(
    patient: Service, switches: Switches, verb: str
) -> None:
    make_ready(patient, verb)
    with switches.on(verb, HANGS):
        error = begin(patient, verb, timeout_s=1.0).exception()
        assert isinstance(error, grpc.RpcError)
        assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        expect_given_up(patient, verb)
    expect_well(patient)


@pytest.mark.parametrize("verb", VERBS)
def test_while_a_verb_hangs_all_others_go_on(
    patient: Service, switches: Switches, verb: str
) -> None:
    make_ready(patient, verb)
    with switches.on(verb, HANGS):
        call = begin(patient, verb)
        switches.wait()
        assert patient.ids() == [ONE]
        assert patient.status(ONE).container_id == ONE
        live_beside(patient)
        if verb not in ("create", "delete"):
            # Signals need no runtime.
            patient.stop(ONE, 0)
            assert patient.state(ONE) == "stopped"
        assert not call.done()
        call.cancel()
        expect_given_up(patient, verb)
    expect_well(patient)


def test_a_change_that_waits_for_one_that_hangs_is_told_so_before_its_deadline(
    patient: Service, switches: Switches
) -> None:
    make_ready(patient, "pause")
    with switches.on("pause", HANGS):
        hanging = begin(patient, "pause")
        switches.wait()
        with refused("ABORTED", "CONTAINER_BUSY") as refusal:
            begin(patient, "update", timeout_s=6.0).result()
        assert dict(refusal.metadata) == {"container_id": ONE, "verb": "pause"}
        assert not hanging.done()
        hanging.cancel()
        expect_given_up(patient, "pause")
    begin(patient, "update").result()
    expect_well(patient)


@pytest.mark.parametrize(
    ("verb", "state"), [("start", "running"), ("pause", "paused"), ("resume", "running")]
)
def test_what_a_verb_has_done_before_it_hung_is_told(
    impatient: Service, switches: Switches, verb: str, state: str
) -> None:
    make_ready(impatient, verb)
    with switches.on(verb, HANGS_WHEN_DONE), refused("DEADLINE_EXCEEDED", "RUNTIME_TIMEOUT"):
        begin(impatient, verb).result()
    assert impatient.state(ONE) == state
    expect_well(impatient)


def test_a_removal_that_hung_when_it_was_done_can_be_repeated(
    impatient: Service, switches: Switches
) -> None:
    make_ready(impatient, "delete")
    with switches.on("delete", HANGS_WHEN_DONE), refused("DEADLINE_EXCEEDED", "RUNTIME_TIMEOUT"):
        begin(impatient, "delete").result()
    assert impatient.state(ONE) == "stopped"
    expect_well(impatient)


def test_a_create_whose_undoing_hangs_leaves_nothing_but_the_runtimes_own(
    impatient: Service, switches: Switches
) -> None:
    with (
        switches.on("create", HANGS),
        switches.on("delete", HANGS),
        refused("DEADLINE_EXCEEDED", "CREATE_TIMEOUT"),
    ):
        begin(impatient, "create").result()
    assert impatient.ids() == []
    assert impatient.remains() == []


PEAK_LIMIT_BYTES = 64 << 20
"""What a flood may take: less than one stream of it and the other are long."""


@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_that_floods_its_output_takes_little_memory(
    impatient: Service, switches: Switches, verb: str
) -> None:
    make_ready(impatient, verb)
    with switches.on(verb, FLOODS):
        # proc(5): the peak begins anew.
        Path(f"/proc/{impatient.pid}/clear_refs").write_text("5")
        before_bytes = peak_bytes(impatient)
        call = begin(impatient, verb)
        if verb == "state":
            expect_state_error(call)
        elif verb == "create":
            # conmon waits for its end before it reads what it says.
            with refused("DEADLINE_EXCEEDED", "CREATE_TIMEOUT"):
                call.result()
        else:
            reason = "EXEC_FAILED" if verb == "exec" else "RUNTIME_FAILED"
            with refused("INTERNAL", reason) as refusal:
                call.result()
            assert 0 < len(refusal.metadata["output"]) < 4096
        assert peak_bytes(impatient) - before_bytes < PEAK_LIMIT_BYTES
    expect_well(impatient)


def peak_bytes(service: Service) -> int:
    """The most memory that the service has had."""
    for line in Path(f"/proc/{service.pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) << 10
    raise AssertionError(line)
