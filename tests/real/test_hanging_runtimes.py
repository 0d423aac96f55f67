"""OCI runtimes that hang in, or flood, one verb after the other: all calls stay bounded."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from google.protobuf.duration_pb2 import Duration

from ocigrpc.v1 import runtime_pb2
from tests.bed.clients import verb_calls
from tests.bed.clients.exec import exec_sync, shell
from tests.bed.clients.limits import update
from tests.bed.clients.refusal import refused
from tests.bed.clients.verb_calls import VERBS, Pending, make_ready
from tests.bed.faults.runtimes import FLOODS, HANGS, HANGS_WHEN_DONE, Switches
from tests.bed.hosts.host import native
from tests.bed.hosts.leaks import LIMIT_S, children, until
from tests.bed.services.service import Service
from tests.real.conftest import serving, used

VERB_TIMEOUT_S = 8.0
"""With an impatient service, also for verbs that do not hang, on a machine that is busy."""

CREATE_TIMEOUT_S = 8.0
EXEC_TIMEOUT_S = 3
"""For a create or an exec that hangs, and for no other."""

CLIENTS_S = 4.0
"""Deadline of a client who knows less patience than the service."""

CALL_LIMIT_S = 60.0
"""By then a call that hangs has been given up, and all others have not needed to wait."""

FLOOD_LIMIT_S = 300.0
"""For a hundred megabytes that a verb says, on a machine that is busy."""

IS_SLOW = 'sleep 6; exec runc "$@"'

ONE = "one"


@pytest.fixture(scope="module")
def runtimes(switches: Switches) -> dict[str, dict[str, object]]:
    path = str(switches.path)
    return {
        "switched": {"path": path},
        "hasty": {"path": path, "create_timeout_s": CREATE_TIMEOUT_S},
    }


@pytest.fixture(scope="module")
def _patient_service(runtimes: dict[str, dict[str, object]], rootfs: Path) -> Iterator[Service]:
    with native() as host, serving(host, rootfs, runtimes=runtimes) as service:
        yield service


@pytest.fixture
def patient(_patient_service: Service) -> Iterator[Service]:
    """A service that lets the runtime hang for longer than any test takes."""
    with used(_patient_service):
        yield _patient_service


@pytest.fixture(scope="module")
def _impatient_service(runtimes: dict[str, dict[str, object]], rootfs: Path) -> Iterator[Service]:
    settings = {"runtimes": runtimes, "timeouts_verb_s": VERB_TIMEOUT_S}
    with native() as host, serving(host, rootfs, **settings) as service:
        yield service


@pytest.fixture
def impatient(_impatient_service: Service) -> Iterator[Service]:
    """A service that gives the runtime up soon."""
    with used(_impatient_service):
        yield _impatient_service


def creation(service: Service, handler: str = "switched") -> runtime_pb2.CreateContainerRequest:
    """The request for the container ONE; ``hasty`` is given up soon."""
    return runtime_pb2.CreateContainerRequest(
        config=service.config("exec sleep 1000"), container_id=ONE, runtime_handler=handler
    )


def prepare(service: Service, verb: str) -> None:
    """The container ONE in the state that the verb wants; none for a create."""
    make_ready(service.wire, verb, creation(service), LIMIT_S)


def begin(service: Service, verb: str, timeout_s: float = CALL_LIMIT_S) -> Pending:
    """The call that runs into a verb of the runtime, under way."""
    return verb_calls.begin(service.wire, verb, creation(service), timeout_s)


def begin_hastily(service: Service, verb: str, timeout_s: float = CALL_LIMIT_S) -> Pending:
    """The same; of a create and an exec, which have limits of their own, with short ones."""
    create, exec_timeout = creation(service, "hasty"), Duration(seconds=EXEC_TIMEOUT_S)
    return verb_calls.begin(service.wire, verb, create, timeout_s, exec_timeout)


def live_beside(service: Service) -> None:
    """Every verb on another container, from its making to its removal."""
    container_id = service.run(runtime_handler="runc")
    service.pause(container_id)
    service.resume(container_id)
    assert exec_sync(service, container_id, shell("exit 3")).exit.exit_code == 3
    update(service, container_id, pids_limit=50)
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
    assert service.leaks() == []


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
    prepare(impatient, verb)
    with switches.on(verb, HANGS):
        call = begin_hastily(impatient, verb)
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
def test_a_verb_that_hangs_is_told_of_before_the_clients_deadline(
    patient: Service, switches: Switches, verb: str
) -> None:
    prepare(patient, verb)
    with switches.on(verb, HANGS):
        call = begin(patient, verb, timeout_s=CLIENTS_S)
        if verb == "state":
            expect_state_error(call)
        else:
            with refused("DEADLINE_EXCEEDED", REASONS.get(verb, "RUNTIME_TIMEOUT")) as refusal:
                call.result()
            assert refusal.metadata.get("verb", verb) == verb
            assert refusal.metadata.get("phase", "runtime") == "runtime"
            assert ("restored" in refusal.metadata) == (verb == "update")
            assert ("undone" in refusal.metadata) == (verb == "create")
        expect_given_up(patient, verb)
    expect_well(patient)


def test_of_a_create_whose_undoing_takes_long_the_client_is_told_before_its_deadline(
    impatient: Service, switches: Switches
) -> None:
    with switches.on("delete", IS_SLOW):
        with (
            switches.on("create", HANGS_WHEN_DONE),
            refused("DEADLINE_EXCEEDED", "CREATE_TIMEOUT") as refusal,
        ):
            begin(impatient, "create", timeout_s=CLIENTS_S).result()
        assert (refusal.metadata["phase"], refusal.metadata["undone"]) == ("runtime", "false")
        assert impatient.state(ONE) == "creating"
        with refused("ABORTED", "CONTAINER_BUSY"):
            begin(impatient, "create", timeout_s=1.0).result()
    # It waits until the first one is undone.
    begin(impatient, "create").result()
    assert impatient.state(ONE) == "created"
    expect_well(impatient)


@pytest.mark.parametrize("verb", VERBS)
def test_while_a_verb_hangs_all_others_go_on(
    patient: Service, switches: Switches, verb: str
) -> None:
    prepare(patient, verb)
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
    prepare(patient, "pause")
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
    prepare(impatient, verb)
    with switches.on(verb, HANGS_WHEN_DONE), refused("DEADLINE_EXCEEDED", "RUNTIME_TIMEOUT"):
        begin(impatient, verb).result()
    assert impatient.state(ONE) == state
    expect_well(impatient)


def test_a_removal_that_hung_when_it_was_done_can_be_repeated(
    impatient: Service, switches: Switches
) -> None:
    prepare(impatient, "delete")
    with switches.on("delete", HANGS_WHEN_DONE), refused("DEADLINE_EXCEEDED", "RUNTIME_TIMEOUT"):
        begin(impatient, "delete").result()
    assert impatient.state(ONE) == "stopped"
    expect_well(impatient)


def test_a_create_whose_undoing_hangs_leaves_nothing_but_the_runtimes_own(
    impatient: Service, switches: Switches
) -> None:
    with (
        switches.on("create", HANGS),
        switches.on("state", HANGS),
        refused("DEADLINE_EXCEEDED", "CREATE_TIMEOUT"),
    ):
        begin_hastily(impatient, "create").result()
    assert impatient.ids() == []
    assert impatient.leaks() == []


PEAK_LIMIT_BYTES = 64 << 20
"""What a flood may take: less than one stream of it and the other are long."""


@pytest.mark.timeout(2 * FLOOD_LIMIT_S)
@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_that_floods_its_output_takes_little_memory(
    patient: Service, switches: Switches, verb: str
) -> None:
    prepare(patient, verb)
    with switches.on(verb, FLOODS):
        # proc(5): the peak begins anew.
        Path(f"/proc/{patient.pid}/clear_refs").write_text("5")
        before_bytes = peak_bytes(patient)
        call = (begin_hastily if verb == "create" else begin)(patient, verb, FLOOD_LIMIT_S)
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
        assert peak_bytes(patient) - before_bytes < PEAK_LIMIT_BYTES
    expect_well(patient)


def peak_bytes(service: Service) -> int:
    """The most memory that the service has had."""
    for line in Path(f"/proc/{service.pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) << 10
    raise AssertionError(line)
