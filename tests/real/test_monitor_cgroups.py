"""Monitors that are not beside their containers, but below a cgroup of their own."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ocigrpc.errors import CannotRun
from tests.bed.hosts.host import native, systemd_host
from tests.bed.hosts.leaks import below, pids_in, until
from tests.bed.services.service import Service
from tests.bed.services.serving import serving

NAME = f"ocigrpc_monitors_{os.getpid()}"
MANAGERS = {
    "cgroupfs": (native, f"/{NAME}"),
    "systemd": (systemd_host, f"{NAME}.slice"),
}


@pytest.fixture(params=MANAGERS)
def service(request: pytest.FixtureRequest, rootfs: Path) -> Iterator[Service]:
    make_host, parent = MANAGERS[request.param]
    settings = {"cgroup_manager": request.param, "conmon_cgroup_parent": parent}
    with make_host() as host, serving(host, rootfs, **settings) as service:
        yield service
        container_ids = service.ids()
        service.remove_all()
        assert [group for each in container_ids for group in monitors(service, each)] == []
    # A slice is systemd's to remove.
    assert parents(service) == [] or request.param == "systemd"


def parents(service: Service) -> list[Path]:
    """The cgroup of all monitors, in every hierarchy."""
    return [path for root in service.host.cgroup_roots for path in below(root, f"{NAME}*")]


def monitors(service: Service, container_id: str) -> list[Path]:
    """The cgroup of a container's monitor, in every hierarchy."""
    name = f"ocigrpc-conmon-{container_id}*"
    return [path for root in service.host.cgroup_roots for path in below(root, name)]


def test_a_monitor_is_below_their_own_group_until_it_ends(service: Service) -> None:
    container_id = service.run()
    groups = monitors(service, container_id)
    assert groups
    assert {path.parent.name.removesuffix(".slice") for path in groups} == {NAME}
    assert any(pids_in(group) for group in groups)
    outside = service.status(container_id).cgroup_path
    assert outside.startswith(f"/{service.cgroup_parent.strip('/')}/")
    service.stop(container_id, timeout_s=0.1)
    until(lambda: monitors(service, container_id) == [])
    assert service.state(container_id) == "stopped"


def test_a_create_that_fails_leaves_no_group_of_a_monitor(service: Service) -> None:
    with pytest.raises(CannotRun):
        service.create_command("/no/such/program")
    assert [path for parent in parents(service) for path in below(parent, "ocigrpc-*")] == []


def test_a_monitor_there_is_found_again_after_a_crash(service: Service) -> None:
    container_id = service.run()
    service.die()
    service.start()
    assert service.state(container_id) == "running"
    assert any(pids_in(group) for group in monitors(service, container_id))
    service.stop(container_id, timeout_s=0.1)
    until(lambda: monitors(service, container_id) == [])


def test_no_group_of_a_monitor_stays_when_the_service_dies_right_after_an_exit(
    service: Service,
) -> None:
    container_id = service.run()
    service.kill(container_id)
    service.wait(container_id)
    service.die()
    service.start()
    until(lambda: monitors(service, container_id) == [])
    assert service.state(container_id) == "stopped"


@pytest.mark.parametrize("die", [Service.end, Service.die])
def test_a_monitor_stays_where_it_is_when_the_setting_changes(
    rootfs: Path, die: Callable[[Service], None]
) -> None:
    with native() as host, serving(host, rootfs, conmon_cgroup_parent=f"/{NAME}") as before:
        there = before.run()
        die(before)
        after = Service(host, before.directory, rootfs)
        try:
            after.start()
            beside = after.run()
            assert all(path.parent.name == NAME for path in monitors(after, there))
            assert not any(path.parent.name == NAME for path in monitors(after, beside))
            after.remove(there, force=True)
            assert parents(after) == []
            after.remove(beside, force=True)
            after.end()
        finally:
            after.discard()
