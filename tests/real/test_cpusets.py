"""CPUs that are taken and given while programs of Exec run, and groups of the container's own."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from ocigrpc.errors import OcigrpcError
from ocigrpc.host.cgroups import cpuset
from ocigrpc.host.cgroups.hierarchy import Hierarchies
from tests.bed.clients.exec import exec_sync, shell
from tests.bed.clients.limits import directories, files, in_force, is_v2, send_back, update
from tests.bed.clients.refusal import refused
from tests.bed.services.service import Service
from tests.real.conftest import StartService, with_controllers

ALLOWED = "sed -n 's/^Cpus_allowed_list:[[:space:]]*//p' /proc/self/status"
UPDATES = 12

pytestmark = pytest.mark.timeout(600)


def cpus_directory(service: Service, container_id: str) -> Path:
    """The group that has the container's CPUs."""
    found = directories(service, container_id)
    (directory,) = (each for each in found if (each / "cpuset.cpus").exists())
    return directory


def cpus_of(directory: Path) -> str:
    effective = directory / "cpuset.cpus.effective"
    file = effective if effective.exists() else directory / "cpuset.effective_cpus"
    return file.read_text().strip()


@contextmanager
def probed(service: Service, container_id: str) -> Iterator[list[str]]:
    """Probes by ExecSync, one behind the other for as long as the block; what went wrong."""
    over, wrong = threading.Event(), list[str]()

    def probe() -> None:
        while not over.is_set():
            try:
                answer = exec_sync(service, container_id, shell("echo well"))
            except OcigrpcError as error:
                wrong.append(str(error))
            else:
                if answer.stdout != b"well\n":
                    wrong.append(str(answer))

    with ThreadPoolExecutor(2) as pool:
        probing = [pool.submit(probe) for _ in range(2)]
        try:
            yield wrong
        finally:
            over.set()
            for each in probing:
                each.result()


@with_controllers
def test_cpus_are_taken_and_given_beside_probes_in_a_loop(any_service: Service) -> None:
    container_id = any_service.run()
    with probed(any_service, container_id) as wrong:
        for number in range(UPDATES):
            cpus = ("0", "1", "0-1")[number % 3]
            assert update(any_service, container_id, cpuset_cpus=cpus).cpuset_cpus == cpus
    assert wrong == []


@with_controllers
def test_a_program_of_exec_gets_the_cpus_that_its_container_gets(any_service: Service) -> None:
    container_id = any_service.run()
    update(any_service, container_id, cpuset_cpus="0-1")
    step = "touch /dev/shm/step; while [ -e /dev/shm/step ]; do sleep 0.1; done"
    script = f"{ALLOWED}; {step}; {ALLOWED}; {step}; {ALLOWED}"
    with ThreadPoolExecutor(1) as pool:
        program = pool.submit(exec_sync, any_service, container_id, shell(script))
        for cpus in ("0", "1"):
            arrived = shell("until [ -e /dev/shm/step ]; do sleep 0.1; done")
            exec_sync(any_service, container_id, arrived)
            update(any_service, container_id, cpuset_cpus=cpus)
            exec_sync(any_service, container_id, shell("rm /dev/shm/step"))
    assert program.result().stdout.decode().split() == ["0-1", "0", "1"]


@pytest.fixture
def nested(any_service: Service) -> Iterator[tuple[Service, str, Path]]:
    """A container with two CPUs, which has made groups below its own: two, and one below."""
    container_id = any_service.run()
    update(any_service, container_id, cpuset_cpus="0-1")
    outer = cpus_directory(any_service, container_id)
    if is_v2(any_service):
        pytest.skip("with cgroup v2, groups below bound nothing")
    for name, cpus in (("all", "0-1"), ("one", "1"), ("one/below", "1"), ("none", "")):
        (outer / name).mkdir()
        if cpus:
            (outer / name / "cpuset.cpus").write_text(cpus)
            (outer / name / "cpuset.mems").write_text("0")
    yield any_service, container_id, outer
    for name in ("one/below", "one", "all", "none"):
        (outer / name).rmdir()


def below(outer: Path) -> list[str]:
    return [
        (outer / name / "cpuset.cpus").read_text().strip()
        for name in ("all", "one", "one/below", "none")
    ]


@with_controllers
def test_groups_of_the_containers_own_lose_cpus_first_and_get_them_last(
    nested: tuple[Service, str, Path],
) -> None:
    service, container_id, outer = nested
    update(service, container_id, cpuset_cpus="0")
    assert below(outer) == ["0", "0", "0", ""]
    update(service, container_id, cpuset_cpus="1")
    assert below(outer) == ["1", "1", "1", ""]
    update(service, container_id, cpuset_cpus="0-1")
    assert below(outer) == ["0-1", "0-1", "0-1", ""]


@with_controllers
def test_a_group_keeps_what_is_left_of_its_cpus(nested: tuple[Service, str, Path]) -> None:
    service, container_id, outer = nested
    update(service, container_id, cpuset_cpus="1")
    assert below(outer) == ["1", "1", "1", ""]
    limits = update(service, container_id, cpuset_cpus="")
    assert limits.cpuset_cpus == "0-1"
    assert send_back(service, container_id, limits) == limits


FAILS_AFTER_UPDATE = """#!/bin/sh
case " $* " in *" update "*) runc "$@"; exit 1;; esac
exec runc "$@"
"""


def test_when_the_runtime_fails_groups_below_have_their_cpus_again(
    start_service: StartService, tmp_path: Path
) -> None:
    script = tmp_path / "fails-after-update.sh"
    script.write_text(FAILS_AFTER_UPDATE)
    script.chmod(0o755)
    service = start_service(runtimes={"runc": {"path": str(script)}})
    if is_v2(service):
        pytest.skip("with cgroup v2, groups below bound nothing")
    container_id = service.run()
    outer = cpus_directory(service, container_id)
    (outer / "one").mkdir()
    (outer / "one/cpuset.cpus").write_text("1")
    before = files(service, container_id)
    with refused("INTERNAL", "RUNTIME_FAILED") as refusal:
        update(service, container_id, cpuset_cpus="0", pids_limit=44)
    assert refusal.metadata["restored"] == "true"
    assert files(service, container_id) == before
    assert (outer / "one/cpuset.cpus").read_text().strip() == "1"
    assert in_force(service, container_id).cpuset_cpus == before["cpuset.cpus"]
    (outer / "one").rmdir()


def test_groups_that_are_made_meanwhile_hold_nothing_up(service: Service) -> None:
    if is_v2(service):
        pytest.skip("with cgroup v2, groups below bound nothing")
    container_id = service.run()
    outer = cpus_directory(service, container_id)
    cgroup = Hierarchies.detect().group(service.status(container_id).cgroup_path)
    group = cgroup.of_controller("cpuset")
    assert group is not None
    over = threading.Event()

    def make() -> None:
        while not over.is_set():
            (outer / "new").mkdir()
            for name in cpuset.FILES:
                text = (outer / name).read_text()
                # The one above may have lost them in between.
                with suppress(OSError):
                    (outer / "new" / name).write_text(text)
            (outer / "new").rmdir()

    with ThreadPoolExecutor(1) as pool:
        making = pool.submit(make)
        try:
            moved = [cpuset.move(group, "cpuset.cpus", cpus, {}) for cpus in ("0", "1", "0-1") * 50]
        finally:
            over.set()
        making.result()
    assert all(moved)
