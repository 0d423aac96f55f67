"""A store is replaced by a backup of it, or by another node's, while containers live on."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import grpc
from google.protobuf.duration_pb2 import Duration

from ocigrpc.v1.container_pb2 import ExitProvenance
from ocigrpc.v1.event_pb2 import EventKind, WatchEventsResponse
from ocigrpc.v1.runtime_pb2 import (
    CreateContainerRequest,
    CreateContainerResponse,
    StartContainerRequest,
    StartContainerResponse,
    StopContainerRequest,
)
from ocigrpc.waiting import Deadline
from tests.bed.checks.integrity import expect_integrity
from tests.bed.checks.intents import intents
from tests.bed.checks.unknown_exit import expect_unknown_exit
from tests.bed.documents import OPERATING, fences
from tests.bed.faults.runtimes import Gate
from tests.bed.hosts.host import Host, private_systemd_host
from tests.bed.hosts.leaks import LIMIT_S, until
from tests.bed.services.backups import backed_up, restore, store_of
from tests.bed.services.service import Service
from tests.bed.services.serving import serving
from tests.real.conftest import Runtimes, StartService


def restored(service: Service, backup: Path) -> None:
    service.end()
    restore(service, backup)
    service.start()


def first_batch(service: Service, after: int | None = None) -> WatchEventsResponse:
    with service.client.watch_events(after, timeout_s=LIMIT_S) as watch:
        return next(watch)


def numbers(service: Service, after: int, last: EventKind) -> list[int]:
    """The numbers of the events behind one, up to the first of a kind."""
    found: list[int] = []
    with service.client.watch_events(after, timeout_s=LIMIT_S) as watch:
        for batch in watch:
            for event in batch.events:
                found.append(event.sequence)
                if event.kind == last:
                    return found
    raise AssertionError(found)


def test_what_has_changed_since_a_backup_is_found(service: Service) -> None:
    names = ("lives", "pauses", "starts", "ends", "goes")
    ids = {name: service.run(container_id=name) for name in names if name != "starts"}
    service.create(container_id="starts")
    backup = backed_up(service)
    service.pause(ids["pauses"])
    service.start_container("starts")
    service.kill("ends", "TERM")
    service.kill("ends", "KILL")
    assert service.wait("ends").exit_code == 137
    service.remove("goes", force=True)
    restored(service, backup)
    assert sorted(service.ids()) == sorted(names)
    states = {name: service.state(name) for name in names}
    assert states == {
        "lives": "running",
        "pauses": "paused",
        "starts": "running",
        "ends": "stopped",
        "goes": "stopped",
    }
    assert service.status("ends").exit_status.exit_code == 137
    gone = service.status("goes").exit_status
    assert not gone.HasField("exit_code")
    assert gone.provenance == ExitProvenance.EXIT_PROVENANCE_MONITOR_LOST
    service.remove("goes")
    expect_integrity(service)


def test_a_follower_from_before_a_restored_backup_is_told_what_it_missed(
    service: Service,
) -> None:
    container_id = service.run()
    backup = backed_up(service)
    before = first_batch(service).cursor
    service.pause(container_id)
    seen = numbers(service, before, EventKind.EVENT_KIND_PAUSED)[-1]
    service.resume(container_id)
    lost = numbers(service, seen, EventKind.EVENT_KIND_RESUMED)[-1]
    restored(service, backup)
    service.pause(container_id)
    for cursor in (before, seen):
        batch = first_batch(service, cursor)
        assert batch.gap.first == cursor + 1
        assert batch.gap.last >= lost
        new = numbers(service, batch.cursor, EventKind.EVENT_KIND_PAUSED)
        assert min(new) == batch.gap.last + 1
    assert not first_batch(service, new[-1]).HasField("gap")
    service.die()
    service.start()
    assert not first_batch(service, new[-1]).HasField("gap")
    assert first_batch(service, seen).gap.first == seen + 1


def test_a_backup_that_is_older_than_living_containers_is_refused_until_they_are_ended(
    service: Service,
) -> None:
    known, again = service.run(container_id="known"), service.run(container_id="again")
    backup = backed_up(service)
    newer = service.run(container_id="newer")
    # Another one, of the same id.
    service.remove(again, force=True)
    service.run(container_id=again)
    service.end()
    restore(service, backup)
    kept = backup.read_bytes()
    for _ in range(2):
        event = service.refusal()
        assert (event["reason"], event["containers"]) == ("STORE_OUTDATED", "2")
        assert event["ids"] == "again newer"
        assert store_of(service).read_bytes() == kept
    end_as_documented(service, [again, newer])
    service.start()
    assert sorted(service.ids()) == ["again", "known"]
    assert service.state(known) == "running"
    assert service.state(again) == "stopped"
    service.remove(again)
    assert service.create(container_id=newer).container_id == newer
    expect_integrity(service)


def begin_start(service: Service, gate: Gate) -> grpc.Future[StartContainerResponse]:
    """A start of a container that waits for the gate."""
    service.create(container_id="one", runtime_handler="gated-start")
    request = StartContainerRequest(container_id="one")
    call = service.wire.StartContainer.future(request, timeout=LIMIT_S)
    gate.wait(Deadline(LIMIT_S))
    return call


def test_what_had_begun_when_a_backup_was_made_is_not_finished_after_it_is_restored(
    start_service: StartService, faulty_runtimes: Runtimes, gate: Gate
) -> None:
    service = start_service(runtimes=faulty_runtimes)
    other = service.run(container_id="other")
    call = begin_start(service, gate)
    backup = backed_up(service)
    call.cancel()
    # Something has happened since, and is over.
    service.pause(other)
    service.resume(other)
    service.end()
    assert intents(service) == set()
    restore(service, backup)
    assert intents(service) == {("one", "start")}
    gate.open()
    service.start()
    (*_, done) = (each for each in service.events() if each["event"] == "recovery.done")
    assert done["unfinished"] == 0
    assert service.state("one") == "created"
    gate.reset()
    service.end()
    assert intents(service) == set()


def test_a_stop_that_has_failed_since_a_backup_is_not_carried_out_after_it_is_restored(
    service: Service,
) -> None:
    container_id = service.run("trap 'echo asked' TERM; echo ready; while :; do sleep 0.05; done")
    until(lambda: service.output(container_id) == ["ready"])
    request = StopContainerRequest(container_id=container_id, timeout=Duration(seconds=600))
    call = service.wire.StopContainer.future(request, timeout=LIMIT_S)
    until(lambda: service.output(container_id) == ["ready", "asked"])
    backup = backed_up(service)
    # No event tells that the store has changed since.
    call.cancel()
    restored(service, backup)
    (*_, done) = (each for each in service.events() if each["event"] == "recovery.done")
    assert done["unfinished"] == 0
    assert service.state(container_id) == "running"
    assert service.output(container_id) == ["ready", "asked"]


def begin_create(service: Service, gate: Gate) -> grpc.Future[CreateContainerResponse]:
    request = CreateContainerRequest(
        config=service.config("exec sleep 1000"), runtime_handler="gated", container_id="one"
    )
    call = service.wire.CreateContainer.future(request, timeout=LIMIT_S)
    gate.wait(Deadline(LIMIT_S))
    return call


def test_a_container_that_was_being_created_during_a_backup_is_newer_than_it(
    start_service: StartService, faulty_runtimes: Runtimes, gate: Gate
) -> None:
    service = start_service(runtimes=faulty_runtimes)
    call = begin_create(service, gate)
    backup = backed_up(service)
    gate.open()
    assert call.result().container_id == "one"
    newer = backed_up(service, "newer")
    service.end()
    restore(service, backup)
    event = service.refusal()
    assert (event["reason"], event["ids"]) == ("STORE_OUTDATED", "one")
    restore(service, newer)
    service.start()
    assert service.state("one") == "created"
    expect_integrity(service)


def test_a_create_that_was_under_way_during_a_backup_and_has_failed_since_leaves_nothing(
    start_service: StartService, faulty_runtimes: Runtimes, gate: Gate
) -> None:
    service = start_service(runtimes=faulty_runtimes)
    other = service.run(container_id="other")
    call = begin_create(service, gate)
    backup = backed_up(service)
    call.cancel()
    until(lambda: service.ids() == [other])
    service.pause(other)
    restored(service, backup)
    until(lambda: service.ids() == [other])
    assert service.state(other) == "paused"
    expect_integrity(service)


@contextmanager
def another_node(directory: Path) -> Iterator[Host]:
    """A host with cgroups, processes and a boot of its own."""
    boot_id = directory / "boot_id"
    boot_id.write_text("11111111-2222-3333-4444-555555555555\n")
    script = f'mount --bind {boot_id} /proc/sys/kernel/random/boot_id && exec "$@"'
    booted = ("unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh")
    with private_systemd_host() as host:
        yield replace(host, prefix=(*host.prefix, *booted))


def test_on_another_node_a_store_has_the_records_of_containers_that_are_not_there(
    service: Service, rootfs: Path, tmp_path: Path
) -> None:
    # Logs that are not the service's, since this other node has the same files.
    logs = [str(tmp_path / name) for name in ("lives", "waits", "ended")]
    lives = service.run(labels={"tier": "front"}, log_path=logs[0])
    waits = service.create(log_path=logs[1]).container_id
    ended = service.run("exit 3", log_path=logs[2])
    assert service.wait(ended).exit_code == 3
    backup = backed_up(service)
    with (
        another_node(service.directory) as node,
        serving(node, rootfs, cgroup_manager="systemd") as another,
    ):
        another.end()
        restore(another, backup)
        another.start()
        assert set(another.ids()) == {lives, waits, ended}
        assert {another.state(each) for each in another.ids()} == {"stopped"}
        assert another.status(ended).exit_status.exit_code == 3
        assert another.status(lives).labels == {"tier": "front"}
        for container_id in (lives, waits):
            expect_unknown_exit(another, container_id, "REBOOT")
        another.run(container_id="new")
        another.remove_all()
    assert (service.state(lives), service.state(waits)) == ("running", "created")
    expect_integrity(service)


def end_as_documented(service: Service, ids: list[str]) -> None:
    (script,) = (text for _, text in fences(OPERATING) if "runc delete" in text)
    ours = script.replace("/run/ocigrpc", str(service.directory / "run"))
    ours = ours.replace("containers/*", f"containers/{{{','.join(ids)}}}")
    runc = f'runc() {{ command runc --root {service.directory / "runc"} "$@"; }}'
    subprocess.run(["bash", "-euc", f"{runc}\n{ours}"], timeout=LIMIT_S, check=True)
    for container_id in ids:
        (service.directory / "log" / f"{container_id}.log").unlink()
