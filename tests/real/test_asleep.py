"""Pause is true or an error, whatever has become of the container's cgroups."""

from __future__ import annotations

import os
import secrets
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.bed.clients.exec import Talk, exec_groups, exec_sync, shell
from tests.bed.clients.refusal import refused
from tests.bed.hosts.host import cgroup2_host, native
from tests.bed.hosts.leaks import pids_in, until
from tests.bed.services.service import Service
from tests.bed.services.serving import serving
from tests.real.conftest import crun_host

_TICKS = "while :; do echo tick; sleep 0.02; done"


@pytest.fixture(
    scope="module",
    params=[(native, "runc"), (crun_host, "crun"), (cgroup2_host, "runc")],
    ids=["native-runc", "native-crun", "cgroup2-runc"],
)
def _service(request: pytest.FixtureRequest, rootfs: Path) -> Iterator[Service]:
    make_host, runtime = request.param
    with make_host() as host, serving(host, rootfs, default_runtime=runtime) as service:
        yield service


@pytest.fixture
def frozen_service(_service: Service) -> Iterator[Service]:
    yield _service
    _service.remove_all()


def roots(service: Service) -> list[Path]:
    """The hierarchies that can freeze, as seen from here."""
    return [
        root
        for root in service.host.cgroup_roots
        if root.name == "freezer" or service.host.name == "cgroup2" or root.name == "unified"
    ]


@contextmanager
def elsewhere(service: Service) -> Iterator[list[Path]]:
    """Groups beside those of the service, in each hierarchy that can freeze."""
    name = f"ocigrpc-elsewhere-{secrets.token_hex(4)}"
    groups = [root / name for root in roots(service)]
    for group in groups:
        group.mkdir()
    try:
        yield groups
    finally:
        for group in groups:
            until(lambda group=group: not pids_in(group))  # type: ignore[misc]
            group.rmdir()


def children(pid: int) -> list[int]:
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def descendants(pid: int) -> list[int]:
    return [each for child in children(pid) for each in (child, *descendants(child))]


def move(pid: int, groups: list[Path], file: str = "cgroup.procs") -> None:
    for group in groups:
        (group / file).write_text(str(pid))


SHELL = f"({_TICKS}) >/dev/null & exec sleep 1000"


def child_of(service: Service, container_id: str) -> int:
    pid = service.status(container_id).pid
    until(lambda: len(descendants(pid)) > 0)
    return descendants(pid)[0]


def require_not_paused(service: Service, container_id: str) -> None:
    with refused("FAILED_PRECONDITION", "PROCESS_OUTSIDE_CGROUP"):
        service.pause(container_id)
    assert service.state(container_id) == "running"
    pid = service.status(container_id).pid
    # Half frozen it is not left: its shell can be talked to.
    talk = Talk(service, container_id, "echo hi")
    talk.read_all()
    assert talk.stdout == b"hi\n"
    assert pid == service.status(container_id).pid


def test_a_process_that_was_moved_elsewhere_keeps_the_container_from_being_paused(
    frozen_service: Service,
) -> None:
    with elsewhere(frozen_service) as groups:
        container_id = frozen_service.run(SHELL)
        move(child_of(frozen_service, container_id), groups)
        require_not_paused(frozen_service, container_id)
        frozen_service.remove(container_id, force=True)


@pytest.mark.parametrize("file", ["cgroup.procs", "tasks"])
def test_one_of_many_may_be_the_one(frozen_service: Service, file: str) -> None:
    if frozen_service.host.name == "cgroup2" and file == "tasks":
        return  # As below.
    with elsewhere(frozen_service) as groups:
        container_id = frozen_service.run("for each in $(seq 40); do sleep 1000 & done; wait")
        pid = frozen_service.status(container_id).pid
        until(lambda: len(children(pid)) == 40)
        frozen_service.pause(container_id)
        frozen_service.resume(container_id)
        move(children(pid)[-1], [group for group in groups if (group / file).exists()], file)
        require_not_paused(frozen_service, container_id)
        frozen_service.remove(container_id, force=True)


def test_the_first_process_may_be_the_one(frozen_service: Service) -> None:
    with elsewhere(frozen_service) as groups:
        container_id = frozen_service.run(SHELL)
        child_of(frozen_service, container_id)
        move(frozen_service.status(container_id).pid, groups)
        with refused("FAILED_PRECONDITION", "PROCESS_OUTSIDE_CGROUP"):
            frozen_service.pause(container_id)
        assert frozen_service.state(container_id) == "running"
        frozen_service.remove(container_id, force=True)


def test_one_that_went_to_the_root_may_be_the_one(frozen_service: Service) -> None:
    container_id = frozen_service.run(SHELL)
    child = child_of(frozen_service, container_id)
    move(child, roots(frozen_service))
    require_not_paused(frozen_service, container_id)
    os.kill(child, 9)


def test_an_orphan_among_the_hosts_pids_may_be_the_one(frozen_service: Service) -> None:
    with elsewhere(frozen_service) as groups:
        container_id = frozen_service.run_among_the_hosts_pids(
            f"( (echo $(exec sh -c 'echo $PPID') >/tmp/orphan; {_TICKS}) >/dev/null & ); "
            "exec sleep 1000"
        )
        monitor = frozen_service.monitor_pid(container_id)
        pid = frozen_service.status(container_id).pid
        # It has to be an orphan first: what forked it ends a moment later.
        until(lambda: len(set(children(monitor)) - {pid}) > 0)
        (orphan,) = set(children(monitor)) - {pid}
        move(orphan, groups)
        require_not_paused(frozen_service, container_id)
        os.kill(orphan, 9)
        frozen_service.remove(container_id, force=True)


def test_a_program_of_exec_may_be_the_one(frozen_service: Service) -> None:
    with elsewhere(frozen_service) as groups:
        container_id = frozen_service.run()
        talk = Talk(frozen_service, container_id, f"echo up; {_TICKS}")
        talk.read(lambda: b"up" in talk.stdout)
        until(lambda: len(exec_groups(frozen_service)) > 0)
        (pid, *_) = (each for group in exec_groups(frozen_service) for each in pids_in(group))
        move(pid, groups)
        with refused("FAILED_PRECONDITION", "PROCESS_OUTSIDE_CGROUP"):
            frozen_service.pause(container_id)
        assert frozen_service.state(container_id) == "running"
        os.kill(pid, 9)
        talk.leave()


def test_processes_in_groups_below_are_paused_and_thawed(frozen_service: Service) -> None:
    container_id = frozen_service.run(SHELL)
    child = child_of(frozen_service, container_id)
    path = frozen_service.status(container_id).cgroup_path.lstrip("/")
    below = [root / path / "below" for root in roots(frozen_service) if (root / path).is_dir()]
    for group in below:
        group.mkdir()
    move(child, below)
    frozen_service.pause(container_id)
    assert frozen_service.state(container_id) == "paused"
    frozen_service.resume(container_id)
    assert frozen_service.state(container_id) == "running"


def test_programs_of_exec_that_begin_meanwhile_do_not_keep_it_from_being_paused(
    frozen_service: Service,
) -> None:
    container_id = frozen_service.run()
    for _ in range(10):
        talks = [Talk(frozen_service, container_id, "sleep 1000") for _ in range(3)]
        frozen_service.pause(container_id)
        assert frozen_service.state(container_id) == "paused"
        frozen_service.resume(container_id)
        for talk in talks:
            talk.leave()


def test_what_is_moved_out_of_a_paused_container_is_said_and_mended_by_a_resume(
    frozen_service: Service,
) -> None:
    with elsewhere(frozen_service) as groups:
        container_id = frozen_service.run(SHELL)
        child = child_of(frozen_service, container_id)
        frozen_service.pause(container_id)
        move(child, groups)
        status = frozen_service.status(container_id)
        assert frozen_service.state(container_id) == "running"
        assert "frozen" in status.message
        frozen_service.resume(container_id)
        assert frozen_service.state(container_id) == "running"
        assert frozen_service.status(container_id).message == ""
        frozen_service.remove(container_id, force=True)


def test_a_pause_of_one_that_is_half_frozen_thaws_it(frozen_service: Service) -> None:
    with elsewhere(frozen_service) as groups:
        container_id = frozen_service.run(SHELL)
        child = child_of(frozen_service, container_id)
        frozen_service.pause(container_id)
        move(child, groups)
        require_not_paused(frozen_service, container_id)
        frozen_service.remove(container_id, force=True)


def test_a_resume_below_a_frozen_cgroup_is_no_success(frozen_service: Service) -> None:
    container_id = frozen_service.run()
    frozen_service.pause(container_id)
    parents = [
        parent
        for parent in frozen_service.parents()
        if (parent / "freezer.state").exists() or (parent / "cgroup.freeze").exists()
    ]
    try:
        for parent in parents:
            freeze(parent, True)
        with refused("FAILED_PRECONDITION", "STILL_FROZEN"):
            frozen_service.resume(container_id)
        assert frozen_service.state(container_id) == "paused"
    finally:
        for parent in parents:
            freeze(parent, False)
    until(lambda: frozen_service.state(container_id) == "running")


def freeze(group: Path, frozen: bool) -> None:
    file = group / "freezer.state"
    if file.exists():
        file.write_text("FROZEN" if frozen else "THAWED")
    else:
        (group / "cgroup.freeze").write_text("1" if frozen else "0")


def test_a_thread_that_was_moved_elsewhere_is_found(frozen_service: Service) -> None:
    if frozen_service.host.name == "cgroup2":
        return  # A thread can't leave its process there, but into a group below.
    with elsewhere(frozen_service) as groups:
        container_id = frozen_service.run(SHELL)
        child = child_of(frozen_service, container_id)
        move(child, [group for group in groups if (group / "tasks").exists()], "tasks")
        require_not_paused(frozen_service, container_id)
        frozen_service.remove(container_id, force=True)


def test_one_that_cannot_end_yet_is_busy_with_its_end(service: Service) -> None:
    # A frozen process of cgroup v1 ignores SIGKILL, and the first one of a pid namespace waits
    # for all others; pid_namespaces(7).
    with elsewhere(service) as groups:
        container_id = service.run(SHELL)
        pid = service.status(container_id).pid
        move(child_of(service, container_id), groups)
        try:
            for group in groups:
                freeze(group, True)
            os.kill(pid, signal.SIGKILL)
            until(lambda: not Path(f"/proc/{pid}/cmdline").read_bytes())
            with refused("ABORTED", "CONTAINER_BUSY") as refusal:
                exec_sync(service, container_id, shell("true"))
            assert refusal.metadata["verb"] == "its end"
            assert service.state(container_id) == "running"
        finally:
            for group in groups:
                freeze(group, False)
        assert service.wait(container_id).signal == signal.SIGKILL


def test_a_pause_that_is_told_is_one_of_all(frozen_service: Service) -> None:
    container_id = frozen_service.run(SHELL)
    child = child_of(frozen_service, container_id)
    frozen_service.pause(container_id)
    assert frozen_service.state(container_id) == "paused"
    states = {Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[0]}
    assert states <= {"D", "S"}
    frozen_service.resume(container_id)
