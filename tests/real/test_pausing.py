"""Processes that can't be frozen: a pause that is told is one, and one that fails is none."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from google.protobuf.duration_pb2 import Duration

from ocigrpc.v1 import runtime_pb2
from tests.bed.clients.refusal import refused
from tests.bed.hosts.disks import FailingDisk
from tests.bed.hosts.host import cgroup2_host, native
from tests.bed.hosts.leaks import LIMIT_S, children, until
from tests.bed.services.service import Service
from tests.bed.services.serving import serving
from tests.real.conftest import StartService, crun_host

WRITE = "dd if=/dev/zero of={}/file bs=4k count=1 conv=fsync"
"""A command that writes to the disk at a path, and waits until it has it."""


class SlowDisk:
    """A disk whose blocks are in a file on another one, which can be made to take nothing."""

    def __init__(self, directory: Path) -> None:
        self._below = FailingDisk(directory / "image", directory / "below")
        self.path = directory / "disk"

    @contextmanager
    def mounted(self) -> Iterator[None]:
        with self._below.mounted():
            image = self._below.path / "image"
            with FailingDisk(image, self.path).mounted():
                yield

    @contextmanager
    def stuck(self) -> Iterator[None]:
        """Who waits in the block for something to be written can't be interrupted."""
        subprocess.run(["fsfreeze", "--freeze", str(self._below.path)], check=True)
        try:
            yield
        finally:
            subprocess.run(["fsfreeze", "--unfreeze", str(self._below.path)], check=True)

    def holds_up(self, pid: int) -> bool:
        """Whether a process that runs :data:`WRITE` can't be interrupted until it is unstuck.

        Before it has written, that can be for a moment, and for any disk; proc_pid_stat(5).
        """
        file = self.path / "file"
        if not file.exists() or not file.stat().st_size:
            return False
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "D"


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SlowDisk]:
    disk = SlowDisk(tmp_path)
    with disk.mounted():
        yield disk


FREEZERS = {
    "native-runc": (native, "runc"),
    "native-crun": (crun_host, "crun"),
    "cgroup2-runc": (cgroup2_host, "runc"),
}
BY_VERB = {"native-by-verb": (native, "by-verb"), "cgroup2-by-verb": (cgroup2_host, "by-verb")}
KINDS = FREEZERS | BY_VERB


@pytest.fixture(params=KINDS)
def service_at_disk(
    request: pytest.FixtureRequest, disk: SlowDisk, rootfs: Path
) -> Iterator[Service]:
    """A service on a host that was made when the disk was mounted, and so has it."""
    make_host, runtime = KINDS[request.param]
    handlers = {"by-verb": {"path": "runc", "pause": "runtime"}}
    with (
        make_host() as host,
        serving(host, rootfs, default_runtime=runtime, runtimes=handlers) as service,
    ):
        yield service


def create_writer(service: Service, disk: SlowDisk) -> runtime_pb2.CreateContainerResponse:
    """A container that writes to the disk."""
    config = service.config(f"{WRITE.format('/disk')}; sleep 1000")
    config.mounts.add(container_path="/disk", host_path=str(disk.path))
    create = runtime_pb2.CreateContainerRequest(config=config)
    return service.client.create_container(create)


def start_and_stick(
    service: Service, disk: SlowDisk, created: runtime_pb2.CreateContainerResponse
) -> None:
    """Start it, until it can't be interrupted."""
    service.start_container(created.container_id)
    until(lambda: any(disk.holds_up(int(child)) for child in children(created.pid)))


def test_a_container_that_cannot_be_frozen_in_time_runs_on_and_can_be_paused_later(
    service_at_disk: Service, disk: SlowDisk
) -> None:
    service = service_at_disk
    created = create_writer(service, disk)
    container_id = created.container_id
    pause = runtime_pb2.PauseContainerRequest(container_id=container_id)
    with disk.stuck():
        start_and_stick(service, disk, created)
        with refused("DEADLINE_EXCEEDED") as refusal:
            service.wire.PauseContainer(pause, timeout=3)
        assert refusal.reason in ("PAUSE_TIMEOUT", "RUNTIME_TIMEOUT")
        until(lambda: service.state(container_id) == "running")
    service.pause(container_id)
    assert service.state(container_id) == "paused"
    service.remove(container_id, force=True)


@pytest.mark.parametrize("service_at_disk", FREEZERS, indirect=True)
def test_a_pause_that_waits_for_a_process_gives_way_to_a_stop(
    service_at_disk: Service, disk: SlowDisk
) -> None:
    service = service_at_disk
    created = create_writer(service, disk)
    pause = runtime_pb2.PauseContainerRequest(container_id=created.container_id)
    stop = runtime_pb2.StopContainerRequest(container_id=created.container_id, timeout=Duration())
    with disk.stuck():
        start_and_stick(service, disk, created)
        paused = service.wire.PauseContainer.future(pause, timeout=LIMIT_S)
        until(lambda: service.state(created.container_id) == "paused")
        stopped = service.wire.StopContainer.future(stop, timeout=LIMIT_S)
        with refused("ABORTED", "CONTAINER_BUSY") as refusal:
            paused.result()
        assert refusal.metadata["verb"] == "stop"
    stopped.result()
    assert service.wait(created.container_id).exit_code == 137


@pytest.mark.parametrize("service_at_disk", FREEZERS, indirect=True)
def test_a_pause_that_the_service_died_over_and_that_cannot_be_done_is_undone(
    service_at_disk: Service, disk: SlowDisk
) -> None:
    service = service_at_disk
    created = create_writer(service, disk)
    pause = runtime_pb2.PauseContainerRequest(container_id=created.container_id)
    with disk.stuck():
        start_and_stick(service, disk, created)
        paused = service.wire.PauseContainer.future(pause, timeout=LIMIT_S)
        until(lambda: service.state(created.container_id) == "paused")
        service.die()
        assert paused.exception() is not None
        service.start()
        until(lambda: service.state(created.container_id) == "running")
    service.pause(created.container_id)
    assert service.state(created.container_id) == "paused"
    service.remove(created.container_id, force=True)


def test_a_resume_of_one_that_is_thawed_meanwhile_is_of_the_wrong_state(
    start_service: StartService, tmp_path: Path
) -> None:
    # As a stop does, or somebody by hand, between our look and the runtime's.
    twice = tmp_path / "twice"
    twice.write_text('#!/bin/sh\ncase "$*" in *" resume "*) runc "$@";; esac\nexec runc "$@"\n')
    twice.chmod(0o755)
    service = start_service(runtimes={"twice": {"path": str(twice)}}, default_runtime="twice")
    container_id = service.run()
    service.pause(container_id)
    with refused("FAILED_PRECONDITION", "WRONG_STATE"):
        service.resume(container_id)
    assert service.state(container_id) == "running"
