"""Health checks follow what the service can do, and clients that watch them learn each change."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from ocigrpc.host.cgroups.hierarchy import Hierarchies
from ocigrpc.service.methods import SERVICE_NAME
from ocigrpc.v1 import runtime_pb2
from tests.bed.clients.refusal import refused
from tests.bed.hosts.disks import FailingDisk, disk
from tests.bed.hosts.host import native
from tests.bed.hosts.leaks import LIMIT_S, until
from tests.bed.services.service import Service
from tests.real.conftest import StartService, serving
from tests.rpc.running import NOT_SERVING, SERVING, check, watch


def answers(service: Service, wanted: int) -> Callable[[], bool]:
    """Whether both names get an answer."""
    return lambda: all(check(service.channel, name).status == wanted for name in ("", SERVICE_NAME))


def logged(service: Service, event: str) -> list[dict[str, object]]:
    return [each for each in service.events() if each["event"] == event]


def test_while_the_store_can_not_be_written_the_service_does_not_serve(
    rootfs: Path, tmp_path: Path
) -> None:
    with (
        disk(tmp_path / "disk") as small,
        native() as host,
        serving(host, rootfs, root_dir=tmp_path / "disk/root") as service,
    ):
        changes = watch(service.channel)
        assert next(changes).status == SERVING
        with small.full():
            with refused("INTERNAL", "STORE_FAILED"):
                service.create()
            assert next(changes).status == NOT_SERVING
            until(answers(service, NOT_SERVING))
        # By itself, without another change.
        assert next(changes).status == SERVING
        until(answers(service, SERVING))
        changes.cancel()
        (line,) = logged(service, "health.not_serving")
        assert line["reason"] == "STORE_FAILED"
        assert len(logged(service, "health.serving")) == 1


def test_while_the_disk_of_the_store_hangs_the_service_does_not_serve(
    rootfs: Path, tmp_path: Path
) -> None:
    hanging = FailingDisk(tmp_path / "image", tmp_path / "disk")
    with (
        hanging.mounted(),
        native() as host,
        serving(host, rootfs, root_dir=hanging.path / "root") as service,
    ):
        container_id = service.run()
        with hanging.hanging():
            request = runtime_pb2.PauseContainerRequest(container_id=container_id)
            pause = service.wire.PauseContainer.future(request, timeout=LIMIT_S)
            until(answers(service, NOT_SERVING))
        pause.exception(timeout=LIMIT_S)
        until(answers(service, SERVING))
        service.remove(container_id, force=True)


def test_without_conmon_the_service_does_not_serve(
    start_service: StartService, tmp_path: Path
) -> None:
    conmon, away = tmp_path / "conmon", tmp_path / "away"
    shutil.copy(shutil.which("conmon") or "", conmon)
    service = start_service(conmon_path=conmon)
    conmon.rename(away)
    until(answers(service, NOT_SERVING))
    away.rename(conmon)
    until(answers(service, SERVING))


def test_while_no_cgroup_can_be_made_the_service_does_not_serve(rootfs: Path) -> None:
    with native() as host:
        alone = replace(host, prefix=("unshare", "--mount", "--propagation", "private"))
        mounted = Hierarchies.detect().all[0].mount_point
        with serving(alone, rootfs) as service:

            def mount(option: str) -> None:
                inside = ["nsenter", f"--mount=/proc/{service.pid}/ns/mnt"]
                argv = [*inside, "mount", "-o", f"remount,bind,{option}", mounted]
                subprocess.run(argv, check=True)

            until(answers(service, SERVING))
            mount("ro")
            until(answers(service, NOT_SERVING))
            mount("rw")
            until(answers(service, SERVING))
            (line,) = logged(service, "health.not_serving")
            assert line["reason"] == "CGROUP_FAILED"


def test_the_service_serves_when_it_has_found_its_containers_again(
    start_service: StartService,
) -> None:
    service = start_service()
    service.run()
    service.die()
    place, fuse = "ocigrpc.engine.recovery.recovery:Recovery._find", service.directory / "fuse"
    fuse.write_text(f"hold {place}")
    os.mkfifo(fuse.with_suffix(".gate"))
    service.launch("tests.bed.faults.crashing", str(fuse), place)
    service.wait_for_word("STATUS=Finding containers again")
    service.connect()
    changes = watch(service.channel)
    assert next(changes).status == NOT_SERVING
    assert answers(service, NOT_SERVING)()
    with fuse.with_suffix(".gate").open("w"):
        assert next(changes).status == SERVING
        service.wait_for_word("READY=1")
    changes.cancel()


def test_a_service_that_ends_does_not_serve(start_service: StartService) -> None:
    service = start_service()
    changes = watch(service.channel)
    assert next(changes).status == SERVING
    service.terminate()
    assert next(changes).status == NOT_SERVING
    service.expect_end()
    assert logged(service, "health.not_serving") == []
