"""Disks that are full: typed errors that name the path, nothing lost, and well again by itself."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import pytest

from ocigrpc.v1 import runtime_pb2
from ocigrpc.v1.container_pb2 import ExitProvenance
from tests.bed.clients.conditions import works
from tests.bed.clients.events import Events, word
from tests.bed.clients.exec import exec_sync, process
from tests.bed.clients.limits import in_force, update
from tests.bed.clients.logs import contents, reopen, responses
from tests.bed.clients.refusal import refused
from tests.bed.hosts.disks import FILLING, PAGE_BYTES, Disk, disk
from tests.bed.hosts.host import native
from tests.bed.hosts.leaks import until
from tests.bed.services.service import Service
from tests.real.conftest import serving

ENDS_ON_USR1 = "trap 'exit 7' USR1; echo ready; while :; do sleep 0.05; done"
NO_SPACE = "No space left on device"


class Disks(NamedTuple):
    """A service, and the disks that its directories are."""

    service: Service
    root: Disk
    run: Disk
    log: Disk

    def left(self) -> list[str]:
        """What there is of containers."""
        shared = ("containers", "exits", "sockets")
        directories = [*(self.run.path / name for name in shared), self.log.path]
        files = [each for directory in directories for each in directory.iterdir()]
        return [*self.service.leaks(), *(str(each) for each in files if each.name != FILLING)]

    @property
    def store(self) -> str:
        return str(self.root.path / "ocigrpc.db")


@pytest.fixture(scope="module")
def _disks(rootfs: Path) -> Iterator[Disks]:
    # Not below the service's own directory, where a mount is what a container has left.
    prefix = "ocigrpc-disks-"
    with ExitStack() as stack:
        directory = Path(stack.enter_context(TemporaryDirectory(prefix=prefix, dir="/var/tmp")))
        root, run, log = (
            stack.enter_context(disk(directory / name)) for name in ("root", "run", "log")
        )
        settings = {"root_dir": root.path, "run_dir": run.path, "logs_dir": log.path}
        service = stack.enter_context(serving(stack.enter_context(native()), rootfs, **settings))
        yield Disks(service, root, run, log)


@pytest.fixture
def disks(_disks: Disks) -> Iterator[Disks]:
    yield _disks
    _disks.service.remove_all()
    assert _disks.service.ids() == []
    assert _disks.left() == []


def ready(service: Service) -> str:
    container_id = service.run(ENDS_ON_USR1)
    until(lambda: service.output(container_id) == ["ready"])
    return container_id


def store_condition(service: Service) -> runtime_pb2.Condition:
    conditions = service.client.status().conditions
    return next(each for each in conditions if each.type == "StoreReady")


def is_settled(service: Service) -> bool:
    """Whether what could not be written has been written, without any other change."""
    return "store.settled" in [each["event"] for each in service.events()][-2:]


# The store's disk.


def test_a_create_without_room_for_its_record_leaves_nothing(disks: Disks) -> None:
    service = disks.service
    with disks.root.full():
        with refused("INTERNAL", "STORE_FAILED") as refusal:
            service.create(container_id="one")
        assert refusal.metadata["path"] == disks.store
        assert service.ids() == []
        assert disks.left() == []
    service.create(container_id="one")


@pytest.mark.parametrize("free_pages", range(1, 14, 3))
def test_a_create_that_runs_out_of_room_on_its_way_is_whole_or_gone(
    disks: Disks, free_pages: int
) -> None:
    service = disks.service
    with disks.root.full(free_pages):
        for number in range(8):
            try:
                with refused("INTERNAL", "STORE_FAILED"):
                    service.create(container_id=f"create-{number}")
            except pytest.fail.Exception:
                assert service.state(f"create-{number}") == "created"
                continue
            assert f"create-{number}" not in service.ids()
            assert not [line for line in disks.left() if f"create-{number}" in line]
    service.create(container_id="another")


def test_with_a_full_store_containers_obey_and_tell_the_truth(disks: Disks) -> None:
    service = disks.service
    created, running, ending = service.create().container_id, service.run(), ready(service)
    with disks.root.full():
        assert service.ids() == [created, running, ending]
        service.pause(running)
        assert service.state(running) == "paused"
        service.resume(running)
        assert service.state(running) == "running"
        service.kill(ending, "USR1")
        assert service.wait(ending).exit_code == 7
        service.stop(running, 0)
        assert service.wait(running).exit_code == 137
        with refused("INTERNAL", "STORE_FAILED"):
            service.start_container(created)
        assert service.state(created) == "created"
        with refused("INTERNAL", "STORE_FAILED"):
            update(service, created, cpu_shares=512)
        assert in_force(service, created).cpu_shares != 512
        service.kill(created)
        assert service.wait(created).exit_code == 137
        condition = store_condition(service)
        assert (works(condition), condition.reason) == (False, "StoreFailed")
        assert disks.store in condition.message
    assert works(store_condition(service))


def test_a_removal_that_cannot_be_written_frees_all_else_and_can_be_repeated(
    disks: Disks,
) -> None:
    service = disks.service
    container_id = service.run()
    with disks.root.full():
        with refused("INTERNAL", "STORE_FAILED") as refusal:
            service.remove(container_id, force=True)
        assert refusal.metadata["path"] == disks.store
        assert service.state(container_id) == "stopped"
        assert service.wait(container_id).exit_code == 137
        assert disks.left() == []
    service.remove(container_id)
    assert service.ids() == []


def test_what_could_not_be_written_is_written_when_there_is_room(disks: Disks) -> None:
    service = disks.service
    running, ending = service.run(), ready(service)
    ended_ns: dict[str, int] = {}
    with disks.root.full():
        service.pause(running)
        service.kill(ending, "USR1")
        ended_ns[ending] = service.wait(ending).finished_at.ToNanoseconds()
        service.stop(running, 0)
        ended_ns[running] = service.wait(running).finished_at.ToNanoseconds()
    until(lambda: is_settled(service))
    # Neither the monitor nor its file is there to be asked again.
    for container_id in (running, ending):
        (disks.run.path / "containers" / container_id / "exit").unlink()
    service.die()
    service.start()
    assert service.wait(ending).exit_code == 7
    assert service.wait(running).exit_code == 137
    assert {each: service.wait(each).finished_at.ToNanoseconds() for each in ended_ns} == ended_ns


def test_events_of_a_full_disk_come_later_in_order_and_without_a_gap(disks: Disks) -> None:
    service = disks.service
    container_id = ready(service)
    events = Events(service, container_id=container_id)
    with disks.root.full():
        service.pause(container_id)
        service.resume(container_id)
        service.pause(container_id)
        service.resume(container_id)
        service.kill(container_id, "USR1")
        service.wait(container_id)
    found = events.until("exited")
    assert list(map(word, found)) == ["paused", "resumed", "paused", "resumed", "exited"]
    again = Events(service, after=found[0].sequence - 1, container_id=container_id)
    assert again.gap is None
    assert list(again.until("exited")) == list(found)


def test_a_service_that_starts_on_a_full_disk_knows_its_containers(disks: Disks) -> None:
    service = disks.service
    found, ended = ready(service), ready(service)
    pid = service.status(ended).pid
    with disks.root.full():
        service.die()
        os.kill(pid, signal.SIGUSR1)
        service.start()
        assert service.wait(ended).exit_code == 7
        assert service.state(found) == "running"
        with refused("INTERNAL", "STORE_FAILED"):
            service.create()
    until(lambda: is_settled(service))
    service.create()


def test_a_store_without_room_for_files_keeps_only_a_service_from_starting(disks: Disks) -> None:
    service = disks.service
    running, ending = service.run(), ready(service)
    with disks.root.without_inodes():
        # All files of the store are there.
        service.create(container_id="one")
        service.kill(ending, "USR1")
        assert service.wait(ending).exit_code == 7
        assert works(store_condition(service))
    service.end()
    # What it removed at its end has made room.
    with disks.root.without_inodes():
        line = service.refusal()
        assert (line["reason"], line["path"]) == ("STORE_FAILED", disks.store)
    service.start()
    assert sorted(service.ids()) == sorted([running, ending, "one"])
    assert service.wait(ending).exit_code == 7


# The disk of bundles and exit files.


@pytest.mark.parametrize("free_pages", range(7))
def test_a_create_without_room_for_its_files_names_one_and_leaves_nothing(
    disks: Disks, free_pages: int
) -> None:
    service = disks.service
    with disks.run.full(free_pages):
        try:
            with refused("INTERNAL") as refusal:
                service.create(container_id="one")
        except pytest.fail.Exception:
            # There was room for all of it.
            assert free_pages
            assert service.state("one") == "created"
            return
        # Some of them conmon and the runtime make, who tell of it in words of their own.
        assert refusal.reason in ("HOST_FAILED", "MONITOR_FAILED", "RUNTIME_FAILED")
        named = refusal.metadata["path" if refusal.reason == "HOST_FAILED" else "output"]
        assert f"{disks.run.path}/containers/one/" in named
        assert service.ids() == []
        assert disks.left() == []
    service.create(container_id="one")


def test_an_exit_that_could_not_be_written_is_unknown_and_no_number(disks: Disks) -> None:
    service = disks.service
    container_id = ready(service)
    with disks.run.full():
        service.kill(container_id, "USR1")
        exit_status = service.wait(container_id)
    assert not exit_status.HasField("exit_code")
    assert exit_status.provenance in (
        ExitProvenance.EXIT_PROVENANCE_FILE_MISSING,
        ExitProvenance.EXIT_PROVENANCE_FILE_EMPTY,
    )


def test_with_no_room_for_bundles_what_needs_no_file_works(disks: Disks) -> None:
    service = disks.service
    container_id = service.run()
    bundle = str(disks.run.path / "containers" / container_id)
    with disks.run.full():
        with refused("INTERNAL", "HOST_FAILED") as refusal:
            exec_sync(service, container_id, process("/bin/true"))
        assert refusal.metadata["path"].startswith(bundle)
        assert refusal.metadata["error"] == NO_SPACE
        with refused("INTERNAL", "HOST_FAILED") as refusal:
            update(service, container_id, pids_limit=50)
        assert refusal.metadata["path"] == bundle
        service.pause(container_id)
        service.resume(container_id)
        assert service.state(container_id) == "running"
        service.stop(container_id, 0)
        service.remove(container_id)
        assert disks.left() == []


# The disk of logs.


def test_a_full_log_disk_costs_lines_and_neither_the_container_nor_its_monitor(
    disks: Disks,
) -> None:
    service = disks.service
    script = "trap 'exit 7' USR1; while :; do echo $((n += 1)); sleep 0.01; done"
    container_id = service.run(script)
    monitor_pid = service.monitor_pid(container_id)
    until(lambda: len(service.output(container_id)) > 2)
    with disks.log.full():
        path = disks.log.path / f"{container_id}.log"
        # The last page of the file has room for a line or two.
        until(lambda: path.stat().st_size % PAGE_BYTES == 0)
        assert service.monitor_pid(container_id) == monitor_pid
        assert service.state(container_id) == "running"
    size_bytes = path.stat().st_size
    until(lambda: path.stat().st_size > size_bytes + 100)
    service.kill(container_id, "USR1")
    assert service.wait(container_id).exit_code == 7
    answers = list(responses(service, container_id))
    found = contents(line for answer in answers for line in answer.lines)
    assert found[:2] == [b"1", b"2"]
    assert found == sorted(set(found), key=int)
    # The one that was being written then.
    assert sum(answer.skipped_lines for answer in answers) <= 1


# No more files, though there is room.

FULL_OF_FILES: dict[str, Callable[[Disks], AbstractContextManager[None]]] = {
    "run": lambda disks: disks.run.without_inodes(),
    "log": lambda disks: disks.log.without_inodes(),
}


@pytest.mark.parametrize("name", FULL_OF_FILES)
def test_a_create_that_can_make_no_file_names_it_and_leaves_nothing(
    disks: Disks, name: str
) -> None:
    service = disks.service
    with FULL_OF_FILES[name](disks):
        with refused("INTERNAL", "HOST_FAILED") as refusal:
            service.create(container_id="one")
        assert refusal.metadata["path"].startswith(f"{disks.root.path.parent}/{name}/")
        assert refusal.metadata["error"] == NO_SPACE
        assert disks.left() == []
    service.create(container_id="one")


def test_a_log_that_cannot_be_made_anew_is_not_asked_for(disks: Disks) -> None:
    # conmon would end, and leave the container alone.
    service = disks.service
    container_id = ready(service)
    path = disks.log.path / f"{container_id}.log"
    rotated = path.with_name(f"{path.name}.1")
    with disks.log.without_inodes():
        path.rename(rotated)
        with refused("INTERNAL", "HOST_FAILED") as refusal:
            reopen(service, container_id)
        assert refusal.metadata["path"] == str(disks.log.path)
        assert not service.status(container_id).monitor_lost
    reopen(service, container_id)
    service.kill(container_id, "USR1")
    assert service.wait(container_id).exit_code == 7


def test_where_no_more_files_can_be_made_conmon_goes_on_with_logs_that_rotate(
    rootfs: Path,
) -> None:
    prefix = "ocigrpc-disks-"
    with TemporaryDirectory(prefix=prefix, dir="/var/tmp") as directory, ExitStack() as stack:
        log = stack.enter_context(disk(Path(directory) / "log"))
        settings = {"logs_dir": log.path, "logs_max_bytes": 65_536}
        service = stack.enter_context(serving(stack.enter_context(native()), rootfs, **settings))
        rounds = "i=0; while [ $i -lt 20 ]; do seq 1000; sleep 0.05; i=$((i+1)); done; echo over"
        container_id = service.run(
            f"trap '{rounds}' USR1; trap 'exit 7' USR2; echo ready; while :; do sleep 0.05; done"
        )
        path = log.path / f"{container_id}.log"
        until(path.with_name(f"{path.name}.next").exists)
        with log.without_inodes():
            service.kill(container_id, "USR1")
            until(lambda: path.read_bytes().endswith(b" over\n"))
            assert not service.status(container_id).monitor_lost
        service.kill(container_id, "USR2")
        assert service.wait(container_id).exit_code == 7
        service.remove_all()
