"""Directories and the store taken away from under the service, and a want of descriptors."""

from __future__ import annotations

import os
import shutil
import signal

import grpc
import pytest

from ocigrpc.v1 import attach_pb2, runtime_pb2
from ocigrpc.v1.container_pb2 import ExitProvenance
from ocigrpc.v1.runtime_pb2_grpc import RuntimeServiceStub
from tests.bed.clients.conditions import works
from tests.bed.clients.exec import exec_sync, process
from tests.bed.clients.limits import update
from tests.bed.clients.logs import reopen
from tests.bed.clients.refusal import refused
from tests.bed.faults.scarcity import LASTING, descriptors_below, descriptors_left
from tests.bed.hosts.disks import read_only
from tests.bed.hosts.leaks import LIMIT_S, until
from tests.bed.services.service import Service
from tests.real.conftest import StartService
from tests.real.test_disk import ready, store_condition

PENDING = ExitProvenance.EXIT_PROVENANCE_PENDING
READ_ONLY = "Read-only file system"


def ends_with_7(service: Service, container_id: str) -> bool:
    """Have a container end, whose exit file can be written; whether its code is known."""
    service.kill(container_id, "USR1")
    return service.wait(container_id).exit_code == 7


# Read-only.


def test_a_read_only_store_keeps_the_service_from_starting(start_service: StartService) -> None:
    service = start_service()
    container_id = ready(service)
    service.end()
    with read_only(service.directory / "root"):
        line = service.refusal()
    assert line["reason"] == "STORE_FAILED"
    assert line["path"] == f"{service.directory}/root/ocigrpc.db"
    service.start()
    assert ends_with_7(service, container_id)


@pytest.mark.parametrize("name", ["run", "log"])
def test_a_read_only_directory_keeps_containers_from_being_made_but_not_the_service(
    start_service: StartService, name: str
) -> None:
    service = start_service()
    container_id = ready(service)
    service.end()
    with read_only(service.directory / name):
        service.start()
        with refused("INTERNAL", "HOST_FAILED") as refusal:
            service.create(container_id="one")
        assert refusal.metadata["path"].startswith(f"{service.directory}/{name}/")
        assert refusal.metadata["error"] == READ_ONLY
        assert service.ids() == [container_id]
        assert service.state(container_id) == "running"
    service.create(container_id="one")
    assert ends_with_7(service, container_id)


def test_a_removal_that_leaves_files_says_so_and_can_be_repeated(service: Service) -> None:
    containers = service.run(), ready(service)
    directories = {
        "run": service.directory / "run/containers" / containers[0],
        "log": service.directory / "log" / f"{containers[1]}.log",
    }
    for container_id, (name, path) in zip(containers, directories.items(), strict=True):
        with read_only(service.directory / name):
            with refused("INTERNAL", "HOST_FAILED") as refusal:
                service.remove(container_id, force=True)
            assert refusal.metadata["path"].startswith(str(path))
            assert refusal.metadata["error"] == READ_ONLY
            assert service.state(container_id) == "stopped"
            assert path.exists()
        service.remove(container_id)
        assert not path.exists()
    assert "Traceback" not in (service.directory / "events").read_text()


# Removed.


def test_without_its_run_directory_the_service_goes_on(service: Service) -> None:
    running, ending = service.run(terminal=True), ready(service)
    bundle = service.directory / "run/containers" / running
    attaching = attach_pb2.AttachRequest(start=attach_pb2.AttachStart(container_id=running))
    shutil.rmtree(service.directory / "run")
    assert service.state(running) == "running"
    with refused("INTERNAL", "HOST_FAILED") as refusal:
        exec_sync(service, running, process("/bin/true"))
    assert refusal.metadata["path"] == f"{bundle}/config.json"
    with refused("INTERNAL", "HOST_FAILED") as refusal:
        update(service, running, pids_limit=50)
    assert refusal.metadata["path"] == str(bundle)
    with refused("INTERNAL", "HOST_FAILED") as refusal:
        next(service.client.attach([attaching], timeout_s=LIMIT_S))
    assert refusal.metadata["path"] == str(bundle)
    service.pause(running)
    service.resume(running)
    # conmon has nowhere to write it.
    service.kill(ending, "USR1")
    assert not service.wait(ending).HasField("exit_code")
    service.stop(running, 0)
    service.remove(running)
    assert ends_with_7(service, ready(service))


def test_without_its_bundle_a_container_can_be_ended_and_removed(service: Service) -> None:
    container_id, other = service.run(), ready(service)
    shutil.rmtree(service.directory / "run/containers" / container_id)
    assert service.state(container_id) == "running"
    with refused("INTERNAL", "HOST_FAILED"):
        exec_sync(service, container_id, process("/bin/true"))
    attaching = attach_pb2.AttachRequest(start=attach_pb2.AttachStart(container_id=container_id))
    with refused("INTERNAL", "HOST_FAILED"):
        next(service.client.attach([attaching], timeout_s=LIMIT_S))
    service.remove(container_id, force=True)
    assert ends_with_7(service, other)


def test_without_the_directory_of_exit_files_every_exit_is_known(service: Service) -> None:
    before = ready(service)
    shutil.rmtree(service.directory / "run/exits")
    assert ends_with_7(service, before)
    assert ends_with_7(service, ready(service))


def test_without_its_log_directory_the_service_goes_on(service: Service) -> None:
    container_id = ready(service)
    shutil.rmtree(service.directory / "log")
    with refused("FAILED_PRECONDITION", "LOG_DIRECTORY_MISSING") as refusal:
        reopen(service, container_id)
    assert refusal.metadata["path"] == f"{service.directory}/log"
    assert ends_with_7(service, container_id)
    service.remove(container_id)
    # Made again with its first log.
    assert ends_with_7(service, ready(service))


def test_without_its_socket_file_only_those_who_are_connected_reach_the_service(
    start_service: StartService,
) -> None:
    service = start_service()
    container_id = ready(service)
    (service.directory / "socket").unlink()
    assert service.state(container_id) == "running"
    address = f"unix:{service.directory}/socket"
    with (
        grpc.insecure_channel(address, [("grpc.use_local_subchannel_pool", 1)]) as channel,
        pytest.raises(grpc.RpcError) as caught,
    ):
        RuntimeServiceStub(channel).Version(runtime_pb2.VersionRequest(), timeout=LIMIT_S)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    service.end()
    service.start()
    assert ends_with_7(service, container_id)


# The store.


@pytest.mark.parametrize("name", ["ocigrpc.db", "ocigrpc.db-wal"])
def test_a_store_that_is_taken_away_is_noticed_and_goes_on_when_it_is_back(
    start_service: StartService, name: str
) -> None:
    service = start_service()
    ending, path = ready(service), service.directory / "root" / name
    elsewhere = service.directory / "elsewhere"
    path.rename(elsewhere)
    with refused("INTERNAL", "STORE_REPLACED") as refusal:
        service.create(container_id="one")
    assert refusal.metadata["path"] == f"{service.directory}/root/ocigrpc.db"
    assert not works(store_condition(service))
    assert ends_with_7(service, ending)
    path.write_bytes(elsewhere.read_bytes())
    assert not works(store_condition(service))
    elsewhere.rename(path)
    assert works(store_condition(service))
    service.create(container_id="one")
    service.die()
    service.start()
    assert service.ids() == [ending, "one"]


@pytest.mark.parametrize("damage", [b"", b"x" * 8192])
def test_a_damaged_store_keeps_the_service_from_starting_and_stays_as_it_is(
    start_service: StartService, damage: bytes
) -> None:
    service = start_service()
    container_id = ready(service)
    service.end()
    path = service.directory / "root/ocigrpc.db"
    sound = path.read_bytes()
    path.write_bytes(damage)
    line = service.refusal()
    assert (line["reason"], line["path"]) == ("STORE_CORRUPT", str(path))
    assert path.read_bytes() == damage
    path.write_bytes(sound)
    service.start()
    assert ends_with_7(service, container_id)


# Descriptors.


@pytest.mark.parametrize("count", range(0, 40, 6))
def test_a_create_without_descriptors_leaves_nothing(service: Service, count: int) -> None:
    service.ids()
    with descriptors_left(service, count):
        try:
            with refused("RESOURCE_EXHAUSTED", "TOO_MANY_OPEN_FILES"):
                service.create(container_id="one")
        except pytest.fail.Exception:
            assert service.state("one") == "created"
            return
        assert service.ids() == []
    assert service.leaks() == []
    service.create(container_id="one")


def test_without_descriptors_an_exit_is_told_later_and_not_as_unknown(service: Service) -> None:
    container_id = ready(service)
    pid = service.status(container_id).pid
    # None, even in the place of what the end itself sets free.
    with descriptors_below(service, LASTING):
        os.kill(pid, signal.SIGUSR1)
        until(lambda: "exit.unread" in [each["event"] for each in service.events()])
        assert service.status(container_id).exit_status.provenance == PENDING
    assert service.wait(container_id).exit_code == 7
