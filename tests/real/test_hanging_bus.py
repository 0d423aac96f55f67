"""A system bus, or a systemd, that takes calls and answers none: all calls stay bounded."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.bed.clients.conditions import works
from tests.bed.clients.refusal import refused
from tests.bed.hosts.host import private_systemd_host
from tests.bed.hosts.leaks import below, pids_in, suspend, until
from tests.bed.services.service import Service
from tests.real.conftest import serving, used
from tests.rpc.running import NOT_SERVING, SERVING, check

TIMEOUT_S = 5.0


@pytest.fixture(scope="module")
def _systemd_service(rootfs: Path) -> Iterator[Service]:
    runtimes: dict[str, dict[str, object]] = {
        "runc": {"path": "runc", "create_timeout_s": TIMEOUT_S}
    }
    settings = {
        "cgroup_manager": "systemd",
        "runtimes": runtimes,
        "timeouts_verb_s": TIMEOUT_S,
        "timeouts_undo_s": TIMEOUT_S,
    }
    with private_systemd_host() as host, serving(host, rootfs, **settings) as service:
        yield service


@pytest.fixture
def service(_systemd_service: Service) -> Iterator[Service]:
    with used(_systemd_service):
        yield _systemd_service


@contextmanager
def hanging(service: Service, program: str) -> Iterator[None]:
    """A program of the host does nothing in the block."""
    (root,) = service.host.cgroup_roots
    listed = [pids_in(file.parent) for file in below(root, "cgroup.procs")]
    named = {pid: Path(f"/proc/{pid}/comm").read_text() for pids in listed for pid in pids}
    (pid,) = (pid for pid, name in named.items() if name == f"{program}\n")
    suspend(pid)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


PROGRAMS = pytest.mark.parametrize("program", ["dbus-daemon", "systemd"])


@PROGRAMS
def test_a_create_waits_no_longer_than_it_may_and_the_others_obey(
    service: Service, program: str
) -> None:
    other = service.run()
    with hanging(service, program):
        with refused("DEADLINE_EXCEEDED", "CREATE_TIMEOUT") as refusal:
            service.create(container_id="one")
        assert refusal.metadata["phase"] == "cgroup"
        assert service.ids() == [other]
        service.pause(other)
        service.resume(other)
        assert service.state(other) == "running"
        service.stop(other, 0)
        assert service.wait(other).exit_code == 137
    # The same one, so that nothing of it can be in the way.
    assert service.create(container_id="one").container_id == "one"


@PROGRAMS
def test_a_removal_is_refused_in_time_and_can_be_repeated(service: Service, program: str) -> None:
    container_id = service.run()
    with hanging(service, program):
        with refused("DEADLINE_EXCEEDED") as refusal:
            service.remove(container_id, force=True)
        assert refusal.reason in ("REMOVE_TIMEOUT", "RUNTIME_TIMEOUT")
        assert service.state(container_id) == "stopped"
    service.remove(container_id)
    assert service.leaks() == []


@PROGRAMS
def test_status_says_so(service: Service, program: str) -> None:
    with hanging(service, program):
        conditions = service.client.status().conditions
    ready = {each.type: works(each) for each in conditions}
    assert (ready["CgroupsReady"], ready["RuntimeReady"]) == (False, True)


@PROGRAMS
def test_meanwhile_the_service_does_not_serve(service: Service, program: str) -> None:
    with hanging(service, program):
        until(lambda: check(service.channel).status == NOT_SERVING)
    until(lambda: check(service.channel).status == SERVING)
