"""The service is killed while it changes what a running container must not notice.

Its limits are the old ones or the new ones, and told so; of its log no line is lost or torn.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from ocigrpc.errors import OcigrpcError
from ocigrpc.host.processes.process import Process
from tests.bed.checks.integrity import expect_integrity
from tests.bed.clients.events import Events
from tests.bed.clients.limits import files, in_force, update, weight_file
from tests.bed.clients.logs import joined, lines, log_path, numbers, own_files, reopen, texts
from tests.bed.faults.crashing_service import VICTIM, CrashingService
from tests.bed.faults.runtimes import Switches
from tests.bed.hosts.host import native
from tests.bed.hosts.leaks import until
from tests.bed.services.service import Service
from tests.bed.services.serving import serving
from tests.real.conftest import StartService

LOG_MAX_BYTES = 65_536
WRITING = """i=0; rest=0.02; trap 'exit 42' TERM; trap 'rest=1' USR1; trap 'rest=0.02' USR2
while :; do
    j=0; while [ $j -lt 100 ]; do j=$((j+1)); i=$((i+1)); echo $i; done; sleep $rest
done"""

CONTROL = "ocigrpc.conmon.control:ControlFifo.reopen_log"
ASK = "ocigrpc.engine.logs.reopen:_Request.run"

UPDATES = [
    ("before", "ocigrpc.engine.store.store:Store.begin", "old"),
    ("after", "ocigrpc.engine.store.store:Store.begin", "old"),
    ("after", "ocigrpc.host.processes.child:Child.__init__", "old"),
    ("after", "ocigrpc.oci.runtime:Runtime.update", "old"),
    ("before", "ocigrpc.engine.store.store:Store.note", "old"),
    ("after", "ocigrpc.engine.store.store:Store.note", "new"),
]
"""When and where a service dies over new limits, and which ones hold then."""

REOPENINGS = [
    ("before", "ocigrpc.engine.logs.logs:reopen_log"),
    ("before", CONTROL),
    ("after", CONTROL),
    ("after", ASK),
]
"""When and where one dies that makes a new log, for a client."""

ROTATIONS = [
    ("before", "ocigrpc.engine.logs.rotate:keep_log"),
    ("before", "ocigrpc.conmon.log_numbering:_shift"),
    ("after", "os:replace"),
    ("after", "ocigrpc.conmon.log_numbering:_shift"),
    ("after", "os:rename"),
    ("before", "os:link"),
    ("after", "os:link"),
    ("after", "ocigrpc.engine.logs.rotate:keep_log"),
]
"""The same for one that keeps what conmon has rotated."""


@pytest.fixture(scope="module")
def _crashing(rootfs: Path) -> Iterator[CrashingService]:
    settings = {"logs_max_bytes": LOG_MAX_BYTES, "logs_max_files": 64}
    with native() as host, serving(host, rootfs, **settings) as service:
        places = [moment[1] for moment in (*UPDATES, *REOPENINGS, *ROTATIONS)]
        crashing = CrashingService(service, places)
        yield crashing
        crashing.bystander.end()


@pytest.fixture
def crashing(_crashing: CrashingService) -> Iterator[CrashingService]:
    """A service that can die at any moment, with nothing in it but the bystander."""
    with _crashing.used():
        yield _crashing


def process_of(service: Service) -> Process:
    return Process(service.status(VICTIM).pid)


def expect_unnoticed(crashing: CrashingService, victim: Process) -> None:
    """The victim and the bystander run on under their monitors, and nothing else is there."""
    service = crashing.service
    until(lambda: service.state(VICTIM) == "running")
    assert process_of(service).identity == victim.identity
    expect_integrity(service)
    crashing.bystander.expect_undisturbed()


def expect_told(service: Service, cursor: int, *updates: str) -> None:
    """Each thing that has happened to the victim is told once."""
    words = Events(service, after=cursor, container_id=VICTIM).words_until("removed")
    assert words == ["created", "started", *updates, "exited", "removed"]


@pytest.mark.parametrize(("when", "place", "which"), UPDATES)
def test_wherever_the_service_dies_limits_are_old_or_new_and_told_so(
    crashing: CrashingService, when: str, place: str, which: str
) -> None:
    service = crashing.service
    cursor = Events(service).cursor
    service.run(container_id=VICTIM)
    victim, limits = process_of(service), {"cpu_shares": 512, "pids_limit": 44}
    old = files(service, VICTIM)
    new = {**old, **weight_file(service, 512), "pids.max": "44"}
    crashing.die_over(when, place, lambda: update(service, VICTIM, **limits))
    assert files(service, VICTIM) == (new if which == "new" else old)
    assert not list(Path(service.status(VICTIM).bundle_path).glob("resources-*"))
    expect_unnoticed(crashing, victim)
    assert update(service, VICTIM, **limits).pids_limit == 44
    assert files(service, VICTIM) == new
    service.remove(VICTIM, force=True)
    expect_told(service, cursor, *["updated"] * (2 if which == "new" else 1))


def test_limits_that_were_changed_in_part_are_put_back(
    start_service: StartService, tmp_path: Path
) -> None:
    with closing(Switches(tmp_path)) as switches, ThreadPoolExecutor(1) as pool:
        service = start_service(runtimes={"runc": {"path": str(switches.path)}})
        container_id = service.run()
        before = files(service, container_id)
        shares = in_force(service, container_id).cpu_shares
        half = 'runc $(echo "$*" | sed "s/--resources [^ ]*/--cpu-share 777/")'
        with switches.on("update", f'{half}; echo > "$begun"; kill -STOP $$'):
            updating = pool.submit(update, service, container_id, cpu_shares=777, pids_limit=44)
            switches.wait()
            assert files(service, container_id) == {**before, **weight_file(service, 777)}
            service.die()
        with pytest.raises(OcigrpcError):
            updating.result()
        service.start()
        assert files(service, container_id) == before
        assert update(service, container_id, pids_limit=44).cpu_shares == shares


def end(service: Service) -> None:
    """Let the victim end its own way."""
    service.kill(VICTIM, "TERM")
    assert service.wait(VICTIM).exit_code == 42


def counted(*paths: Path) -> bytes:
    """What the victim wrote to these files, which are the numbers from 1 on."""
    written = texts(*paths)
    found = written.split(b"\n")[:-1]
    assert found == numbers(1, len(found))
    return written


@pytest.mark.parametrize(("when", "place"), REOPENINGS)
def test_wherever_the_service_dies_over_a_new_log_no_line_is_lost_or_torn(
    crashing: CrashingService, tmp_path: Path, when: str, place: str
) -> None:
    service, log = crashing.service, tmp_path / "0.log"
    cursor = Events(service).cursor
    service.run(WRITING, container_id=VICTIM, log_path=str(log))
    victim, rotated = process_of(service), tmp_path / "0.log.1"
    log.rename(rotated)
    crashing.die_over(when, place, lambda: reopen(service, VICTIM))
    if not log.exists():
        # Nobody has heard the one before.
        reopen(service, VICTIM)
    expect_unnoticed(crashing, victim)
    until(lambda: log.stat().st_size > 0)
    end(service)
    counted(rotated, log)
    service.remove(VICTIM)
    expect_told(service, cursor)


@pytest.mark.parametrize(("when", "place"), ROTATIONS)
def test_wherever_the_service_dies_over_its_own_rotation_no_line_is_lost_or_torn(
    crashing: CrashingService, when: str, place: str
) -> None:
    service = crashing.service
    cursor = Events(service).cursor
    service.run(WRITING, container_id=VICTIM)
    path, victim = log_path(service, VICTIM), process_of(service)
    # With a file that has to make way for the next.
    until(lambda: len(own_files(path)) == 2)
    crashing.light(when, place)
    service.expect_death()
    # Slowly, or conmon would have to throw something away before it is back.
    victim.send_signal(signal.SIGUSR1)
    cut_off = {file.stat().st_ino for file in path.parent.iterdir()}
    crashing.restart()
    expect_unnoticed(crashing, victim)
    # It goes on rotating.
    victim.send_signal(signal.SIGUSR2)
    until(lambda: path.stat().st_ino not in cut_off)
    end(service)
    until(lambda: not path.with_name(f"{path.name}.held").exists())
    assert joined(lines(service, VICTIM)) == counted(*own_files(path))
    service.remove(VICTIM)
    expect_told(service, cursor)
