"""The service is killed at each step of a verb: containers are wholly there or wholly gone.

Beside each of them another one runs all along, and never notices.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.bed.checks.integrity import expect_integrity
from tests.bed.clients.events import Events, word
from tests.bed.clients.exec import exec_sync, shell
from tests.bed.faults.crashing_service import VICTIM, CrashingService
from tests.bed.hosts.host import native
from tests.bed.hosts.leaks import until
from tests.bed.services.service import Service, state_word
from tests.bed.services.serving import serving
from tests.real.conftest import crun_host

EXIT_CODE = 42
SCRIPT = "trap 'exit 42' TERM; echo ready; while :; do sleep 0.05; done"


class Moment(NamedTuple):
    """When a service dies, and in which state its container is found afterwards."""

    verb: str
    when: str
    place: str
    found: str
    ended: int | None = None
    """The exit code, if that was its end."""

    def __str__(self) -> str:
        return f"{self.verb}-{self.when}-{self.place.rpartition(':')[2]}"


def moments() -> Iterator[Moment]:
    """Every step of every verb that has more than one."""
    store, creation = (
        "ocigrpc.engine.store.store:Store",
        "ocigrpc.engine.containers.creation.create",
    )
    cgroups, launch = (
        "ocigrpc.engine.containers.cgroups:ContainerCgroups",
        "ocigrpc.conmon.launch:Launch",
    )
    runtime, child = "ocigrpc.oci.runtime:Runtime", "ocigrpc.host.processes.child:Child.__init__"
    cgroup, teardown = "ocigrpc.host.cgroups.cgroup:Cgroup", "ocigrpc.engine.containers.teardown"

    yield Moment("create", "before", f"{store}.begin", "gone")
    yield Moment("create", "after", f"{store}.begin", "gone")
    yield Moment("create", "after", f"{creation}:make_bundle", "gone")
    yield Moment("create", "before", f"{launch}.__init__", "gone")
    yield Moment("create", "after", f"{launch}.__init__", "gone")
    yield Moment("create", "after", f"{cgroups}.enter", "gone")
    yield Moment("create", "after", f"{creation}:write_spec", "gone")
    yield Moment("create", "after", f"{launch}.go", "gone")
    yield Moment("create", "after", f"{launch}.created_pid", "gone")
    yield Moment("create", "before", f"{store}.put", "gone")
    yield Moment("create", "after", f"{store}.put", "created")

    yield Moment("start", "before", f"{store}.begin", "created")
    yield Moment("start", "after", f"{store}.begin", "running")
    yield Moment("start", "after", child, "running")
    yield Moment("start", "after", f"{runtime}.start", "running")
    yield Moment("start", "after", f"{store}.put", "running")

    yield Moment("start_short", "after", f"{runtime}.start", "stopped", 7)

    yield Moment("pause", "before", f"{cgroup}.freeze", "running")
    yield Moment("pause", "after", f"{cgroup}.freeze", "paused")
    yield Moment("resume", "before", f"{cgroup}.thaw_alone", "paused")
    yield Moment("resume", "after", f"{cgroup}.thaw_alone", "running")
    yield Moment("pause_by_verb", "before", f"{runtime}.pause", "running")
    yield Moment("pause_by_verb", "after", f"{runtime}.pause", "paused")
    yield Moment("resume_by_verb", "before", f"{runtime}.resume", "paused")
    yield Moment("resume_by_verb", "after", f"{runtime}.resume", "running")

    yield Moment("stop", "before", f"{store}.begin", "running")
    yield Moment("stop", "after", f"{store}.begin", "stopped", 42)
    yield Moment("stop", "after", "ocigrpc.engine.containers.stop:send_signal", "stopped", 42)
    yield Moment("stop", "before", f"{store}.put", "stopped", 42)
    yield Moment("stop", "after", f"{store}.put", "stopped", 42)
    yield Moment("stop", "after", "ocigrpc.engine.engine:stop", "stopped", 42)
    yield Moment(
        "stop_at_once", "after", "ocigrpc.engine.containers.kill:send_signal", "stopped", 137
    )
    yield Moment("stop_at_once", "after", f"{cgroup}.kill", "stopped", 137)
    yield Moment("stop_at_once", "before", f"{store}.put", "stopped", 137)

    yield Moment("remove", "before", f"{store}.begin", "running")
    yield Moment("remove_stopped", "before", f"{store}.begin", "stopped", 42)
    yield Moment("remove", "after", f"{cgroup}.kill", "gone", 137)
    for verb, ended in (("remove", 137), ("remove_stopped", 42)):
        yield Moment(verb, "after", f"{store}.begin", "gone", ended)
        yield Moment(verb, "after", f"{cgroup}.try_remove", "gone", ended)
        yield Moment(verb, "before", f"{runtime}.delete", "gone", ended)
        yield Moment(verb, "after", f"{runtime}.delete", "gone", ended)
        yield Moment(verb, "after", f"{teardown}:end_processes", "gone", ended)
        yield Moment(verb, "after", f"{teardown}:remove_files", "gone", ended)
        yield Moment(verb, "after", f"{store}.delete", "gone", ended)

    yield Moment("exec", "after", "ocigrpc.oci.exec:ExecFiles.make", "running")
    yield Moment("exec", "after", f"{cgroup}.create", "running")
    yield Moment("exec", "after", child, "running")
    yield Moment("exec", "after", "ocigrpc.oci.exec:ExecFiles.pid_written", "running")


def create(service: Service) -> None:
    service.create(SCRIPT, container_id=VICTIM)


def run(service: Service, handler: str = "") -> None:
    service.run(SCRIPT, container_id=VICTIM, runtime_handler=handler)
    until(lambda: service.output(VICTIM) == ["ready"])


def run_and_pause(service: Service, handler: str = "") -> None:
    run(service, handler)
    service.pause(VICTIM)


def run_and_stop(service: Service) -> None:
    run(service)
    service.stop(VICTIM, 20)


def create_short(service: Service) -> None:
    service.create("exit 7", container_id=VICTIM)


def nothing(service: Service) -> None:
    pass


PREPARED: dict[str, Callable[[Service], None]] = {
    "create": nothing,
    "start": create,
    "start_short": create_short,
    "pause": run,
    "resume": run_and_pause,
    "pause_by_verb": lambda service: run(service, BY_VERB),
    "resume_by_verb": lambda service: run_and_pause(service, BY_VERB),
    "stop": run,
    "stop_at_once": run,
    "remove": run,
    "remove_stopped": run_and_stop,
    "exec": run,
}
"""What there must be before a verb."""

DONE: dict[str, Callable[[Service], object]] = {
    "create": create,
    "start": lambda service: service.start_container(VICTIM),
    "start_short": lambda service: service.start_container(VICTIM),
    "pause": lambda service: service.pause(VICTIM),
    "resume": lambda service: service.resume(VICTIM),
    "pause_by_verb": lambda service: service.pause(VICTIM),
    "resume_by_verb": lambda service: service.resume(VICTIM),
    "stop": lambda service: service.stop(VICTIM, 20),
    "stop_at_once": lambda service: service.stop(VICTIM, 0),
    "remove": lambda service: service.remove(VICTIM, force=True),
    "remove_stopped": lambda service: service.remove(VICTIM),
    "exec": lambda service: exec_sync(service, VICTIM, shell("setsid sleep 1000 & sleep 1000")),
}
"""What each verb is."""


MOMENTS = list(moments())


KINDS = {"runc": native, "crun": crun_host}
"""The hosts, by the runtime that is used there."""

BY_VERB = "by-verb"
"""A runtime that pauses itself."""

WITH_CRUN = ("create", "exec")
"""The verbs whose moments are tried with crun, too: it does more by itself in these."""


@pytest.fixture(scope="module")
def _crashing(request: pytest.FixtureRequest, rootfs: Path) -> Iterator[CrashingService]:
    runtime = request.param
    handlers = {BY_VERB: {"path": "runc", "pause": "runtime"}}
    with (
        KINDS[runtime]() as host,
        serving(host, rootfs, default_runtime=runtime, runtimes=handlers) as service,
    ):
        crashing = CrashingService(service, {moment.place for moment in MOMENTS})
        yield crashing
        crashing.bystander.end()


@pytest.fixture
def crashing(_crashing: CrashingService) -> Iterator[CrashingService]:
    """A service that can die at any moment, with nothing in it but the bystander."""
    with _crashing.used():
        yield _crashing


def find(service: Service) -> str:
    """The state in which the victim is."""
    victims = service.containers(id_prefix=VICTIM)
    return state_word(victims[0]) if victims else "gone"


def obey(service: Service, state: str) -> None:
    """The victim does all that containers do in a life, from this state to its end."""
    if state == "gone":
        create(service)
    if state in ("gone", "created"):
        service.start_container(VICTIM)
        until(lambda: service.output(VICTIM) == ["ready"])
    if state == "paused":
        service.resume(VICTIM)
    if state != "stopped":
        service.pause(VICTIM)
        service.resume(VICTIM)
        assert exec_sync(service, VICTIM, shell("exit 5")).exit.exit_code == 5
        service.kill(VICTIM, "TERM")
        assert service.wait(VICTIM).exit_code == EXIT_CODE
    service.remove(VICTIM)


def expect_told(events: Events, exits: list[int]) -> None:
    """Nothing is missing of what happened, and nothing of the victim's lives is told twice."""
    seen = [event for _ in exits for event in events.until("removed")]
    assert {event.container_id for event in seen} == {VICTIM}
    numbers = [event.sequence for event in seen]
    assert numbers == list(range(numbers[0], numbers[0] + len(seen)))
    kinds = [word(event) for event in seen if word(event) not in ("paused", "resumed")]
    assert kinds == ["created", "started", "exited", "removed"] * len(exits)
    assert [each.exit_status.exit_code for each in seen if word(each) == "exited"] == exits


@pytest.mark.parametrize(
    ("_crashing", "moment"),
    [
        *(pytest.param("runc", moment, id=f"{moment}") for moment in MOMENTS),
        *(
            pytest.param("crun", moment, id=f"crun-{moment}")
            for moment in MOMENTS
            if moment.verb in WITH_CRUN
        ),
    ],
    indirect=["_crashing"],
)
def test_wherever_the_service_dies_its_container_is_wholly_there_or_wholly_gone(
    crashing: CrashingService, moment: Moment
) -> None:
    service = crashing.service
    cursor = Events(service).cursor
    PREPARED[moment.verb](service)
    seen = crashing.die_over(moment.when, moment.place, lambda: DONE[moment.verb](service))
    assert seen == "UNAVAILABLE"
    until(lambda: find(service) == moment.found)
    expect_integrity(service)
    crashing.bystander.expect_undisturbed()
    obey(service, moment.found)
    exits = [] if moment.ended is None else [moment.ended]
    # The one that was still there, or made anew, has ended by itself.
    exits += [] if moment.found == "stopped" else [EXIT_CODE]
    expect_told(Events(service, after=cursor), exits)
