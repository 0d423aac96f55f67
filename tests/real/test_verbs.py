"""The verbs and questions beside create and stop: start, pause, kill, remove, list, wait."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest

from ocigrpc.errors import OcigrpcError
from ocigrpc.v1.container_pb2 import ContainerState, ExitProvenance
from ocigrpc.v1.runtime_pb2 import WaitContainerRequest
from tests.bed.clients.error_info import code_of
from tests.bed.clients.refusal import refused
from tests.bed.hosts.leaks import LIMIT_S, until
from tests.bed.services.service import Service

Verb = Callable[[Service, str], object]
VERBS: dict[str, Verb] = {
    "start": Service.start_container,
    "pause": Service.pause,
    "resume": Service.resume,
    "remove": Service.remove,
    "kill": Service.kill,
}


def make(service: Service, state: str) -> str:
    """A container in ``state``."""
    if state == "created":
        return service.create().container_id
    container_id = service.run("exit 0" if state == "stopped" else "exec sleep 1000")
    if state == "stopped":
        service.wait(container_id)
    if state == "paused":
        service.pause(container_id)
    return container_id


@pytest.mark.parametrize(
    ("verb", "state"),
    [
        *(("start", state) for state in ("running", "paused", "stopped")),
        *(("pause", state) for state in ("created", "paused", "stopped")),
        *(("resume", state) for state in ("created", "running", "stopped")),
        *(("remove", state) for state in ("running", "paused")),
        ("kill", "stopped"),
    ],
)
def test_a_verb_in_the_wrong_state_is_failed_precondition_with_the_state(
    service: Service, verb: str, state: str
) -> None:
    container_id = make(service, state)
    with refused("FAILED_PRECONDITION", "WRONG_STATE") as refusal:
        VERBS[verb](service, container_id)
    assert refusal.metadata["state"] == state
    assert refusal.metadata["container_id"] == container_id
    assert service.state(container_id) == state


@pytest.mark.parametrize("verb", [*VERBS.values(), Service.status, Service.wait])
def test_a_verb_on_an_unknown_container_is_not_found(service: Service, verb: Verb) -> None:
    if verb is Service.remove:
        service.remove("unknown")  # Which is idempotent.
        return
    with refused("NOT_FOUND", "CONTAINER_NOT_FOUND") as refusal:
        verb(service, "unknown")
    assert refusal.metadata["container_id"] == "unknown"


@pytest.mark.parametrize("state", ["created", "running", "paused", "stopped"])
def test_remove_by_force_leaves_nothing_in_any_state(service: Service, state: str) -> None:
    container_id = make(service, state)
    service.remove(container_id, force=True)
    assert service.leaks() == []
    service.remove(container_id)


def test_a_created_container_is_removed_without_force(service: Service) -> None:
    service.remove(make(service, "created"))
    assert service.leaks() == []


@pytest.mark.parametrize("name", ["HUP", "SIGHUP", "1", "hup"])
def test_a_signal_is_known_by_name_and_number(service: Service, name: str) -> None:
    container_id = service.run("trap 'exit 9' HUP; echo ready; while :; do sleep 0.05; done")
    until(lambda: service.output(container_id) == ["ready"])
    service.kill(container_id, name)
    assert service.wait(container_id).exit_code == 9


def test_a_word_that_is_no_signal_is_refused(service: Service) -> None:
    container_id = service.run()
    with refused("INVALID_ARGUMENT", "INVALID_SIGNAL") as refusal:
        service.kill(container_id, "SIGNONSENSE")
    assert refusal.fields == ["signal"]


FAMILY = """
sh -c 'trap "echo child; exit" USR1; echo ready; while :; do sleep 0.05; done' &
trap 'echo parent' USR1
wait; wait; wait
"""


@pytest.mark.parametrize(
    ("everyone", "reached"), [(False, {"parent"}), (True, {"parent", "child"})]
)
def test_a_signal_goes_to_the_first_process_or_to_all(
    service: Service, everyone: bool, reached: set[str]
) -> None:
    container_id = service.run(FAMILY)
    until(lambda: service.output(container_id) == ["ready"])
    service.kill(container_id, "USR1", everyone=everyone)
    until(lambda: set(service.output(container_id)) == {"ready", *reached})


def test_sigkill_ends_a_paused_container(service: Service) -> None:
    container_id = make(service, "paused")
    service.kill(container_id, "KILL")
    assert service.wait(container_id).exit_code == 137


@pytest.mark.parametrize("code", [0, 1, 77, 126, 127, 255])
def test_an_exit_code_is_exact(service: Service, code: int) -> None:
    exit_status = service.wait(service.run(f"exit {code}"))
    assert exit_status.exit_code == code
    assert exit_status.HasField("exit_code")
    assert exit_status.provenance == ExitProvenance.EXIT_PROVENANCE_EXIT_FILE
    assert not exit_status.HasField("signal")


@pytest.mark.parametrize("name", ["SIGKILL", "SIGUSR1", "SIGSEGV", "SIGTERM"])
def test_a_death_by_a_signal_names_it(service: Service, name: str) -> None:
    # The first process of a pid namespace is spared all signals that it does not handle.
    container_id = service.run_among_the_hosts_pids("echo ready; exec sleep 1000")
    # Until then it is the runtime's program, which may handle it.
    until(lambda: service.output(container_id) == ["ready"])
    service.kill(container_id, name)
    exit_status = service.wait(container_id)
    assert exit_status.exit_code == 128 + signal.Signals[name]
    assert exit_status.signal == signal.Signals[name]
    assert not exit_status.oom_killed


def test_all_waiters_get_the_same_answer(service: Service) -> None:
    container_id = service.run("trap 'exit 4' TERM; echo ready; while :; do sleep 0.05; done")
    until(lambda: service.output(container_id) == ["ready"])
    request = WaitContainerRequest(container_id=container_id)
    waits = [service.wire.WaitContainer.future(request, timeout=LIMIT_S) for _ in range(50)]
    service.stop(container_id, 10)
    statuses = [wait.result().exit_status for wait in waits]
    assert {each.exit_code for each in statuses} == {4}
    assert all(each == statuses[0] for each in statuses)


def test_a_wait_ends_with_the_clients_deadline(service: Service) -> None:
    request = WaitContainerRequest(container_id=service.run())
    began_s = time.monotonic()
    with pytest.raises(grpc.RpcError) as caught:
        service.wire.WaitContainer(request, timeout=0.3)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert time.monotonic() - began_s < 3


def test_a_wait_ends_when_the_container_is_removed(service: Service) -> None:
    container_id = service.create().container_id
    request = WaitContainerRequest(container_id=container_id)
    wait = service.wire.WaitContainer.future(request, timeout=LIMIT_S)
    service.remove(container_id)
    try:
        # The kill of a created container is an exit too, and may be told first.
        is_answered = wait.result().exit_status.exit_code == 128 + signal.SIGKILL
    except grpc.RpcError as error:
        is_answered = error.code() is grpc.StatusCode.NOT_FOUND
    assert is_answered


def test_a_list_is_sorted_by_creation(service: Service) -> None:
    for container_id in ("c", "a", "b"):
        service.create(container_id=container_id)
    assert service.ids() == ["c", "a", "b"]


def test_a_list_is_filtered_by_every_field(service: Service) -> None:
    service.create(container_id="web-1", name="first", labels={"app": "web", "tier": "x"})
    service.create(container_id="web-2", labels={"app": "web"})
    service.run(container_id="db-1", labels={"app": "db", "tier": "x"})
    assert service.ids(id_prefix="web-") == ["web-1", "web-2"]
    assert service.ids(name="first") == ["web-1"]
    assert service.ids(name="fir") == []
    assert service.ids(label_selector={"app": "web"}) == ["web-1", "web-2"]
    assert service.ids(label_selector={"app": "web", "tier": "x"}) == ["web-1"]
    created, running = (
        ContainerState.CONTAINER_STATE_CREATED,
        ContainerState.CONTAINER_STATE_RUNNING,
    )
    assert service.ids(states=[running]) == ["db-1"]
    assert service.ids(states=[created, running]) == ["web-1", "web-2", "db-1"]
    assert service.ids(id_prefix="web-", label_selector={"tier": "x"}) == ["web-1"]


def test_a_verbose_status_has_the_runtimes_own_words(service: Service) -> None:
    info = service.info(service.run(container_id="one"))
    assert '"id": "one"' in info["state"]
    assert int(info["monitor_pid"]) > 1


def test_pausing_and_resuming_at_once_ends_in_one_of_both(service: Service) -> None:
    container_id = service.run()

    def change(verb: Verb) -> bool:
        try:
            verb(service, container_id)
        except OcigrpcError as error:
            return code_of(error) is grpc.StatusCode.FAILED_PRECONDITION
        return True

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(change, [Service.pause, Service.resume] * 8))
    assert service.state(container_id) in ("running", "paused")
