"""Pause and resume by the freezer: true when they return, and the same to the runtime."""

from __future__ import annotations

import json
import random
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ocigrpc.host.cgroups.count import holds_all_of
from ocigrpc.host.cgroups.hierarchy import Hierarchies
from tests.bed.clients.exec import Talk
from tests.bed.clients.refusal import refused
from tests.bed.hosts.leaks import LIMIT_S, until
from tests.bed.services.service import Service
from tests.real.conftest import StartService, each_kind

MANY = 500
_SLEEPERS = "i=1; while [ $i -lt {} ]; do sleep 1000 & i=$((i+1)); done; echo ready; wait"
_FORKERS = "for each in 1 2 3 4; do (while :; do (:); done) & done; echo ready; wait"
_NOTING = """#!/bin/sh
echo "$@" >> {notes}
exec runc "$@"
"""


_LOOKING = """#!/bin/sh
case "$*" in *" delete "*) cat {files} </dev/null >{notes} ;; esac
exec runc "$@"
"""


def run_until_ready(service: Service, script: str) -> str:
    container_id = service.run(script)
    until(lambda: service.output(container_id) == ["ready"])
    return container_id


def is_frozen(service: Service, container_id: str) -> bool:
    """Whether nothing of its cgroup runs, as the kernel shows it."""
    path = service.status(container_id).cgroup_path.lstrip("/")
    groups = [root / path for root in service.host.cgroup_roots]
    for group in groups:
        if (group / "freezer.state").exists():
            return (group / "freezer.state").read_text() == "FROZEN\n"
    return any("frozen 1" in (group / "cgroup.events").read_text() for group in groups)


def freezer_files(service: Service, container_id: str) -> list[Path]:
    """Those by which its cgroup is frozen, in every hierarchy."""
    path = service.status(container_id).cgroup_path.lstrip("/")
    names = ("freezer.state", "cgroup.freeze")
    files = [root / path / name for root in service.host.cgroup_roots for name in names]
    return [file for file in files if file.exists()]


def runtime_state(service: Service, container_id: str) -> str:
    """What the runtime itself says."""
    return str(json.loads(service.info(container_id)["state"])["status"])


def by_hand(service: Service, verb: str, container_id: str) -> bool:
    """Whether the runtime does it."""
    runtime = service.status(container_id).runtime_handler
    root = str(service.directory / runtime)
    argv = service.host.command([runtime, "--root", root, verb, container_id])
    ended = subprocess.run(argv, check=False, stdin=subprocess.DEVNULL, timeout=LIMIT_S)
    return ended.returncode == 0


@each_kind
def test_the_runtime_says_what_the_service_has_done(any_service: Service) -> None:
    container_id = any_service.run()
    for _ in range(3):
        any_service.pause(container_id)
        assert is_frozen(any_service, container_id)
        assert runtime_state(any_service, container_id) == "paused"
        any_service.resume(container_id)
        assert not is_frozen(any_service, container_id)
        assert runtime_state(any_service, container_id) == "running"


@each_kind
def test_pauses_by_hand_and_by_the_service_take_turns(any_service: Service) -> None:
    service, container_id = any_service, any_service.run()
    assert by_hand(service, "pause", container_id)
    with refused("FAILED_PRECONDITION", "WRONG_STATE"):
        service.pause(container_id)
    service.resume(container_id)
    assert runtime_state(service, container_id) == "running"
    service.pause(container_id)
    assert by_hand(service, "resume", container_id)
    with refused("FAILED_PRECONDITION", "WRONG_STATE"):
        service.resume(container_id)
    service.pause(container_id)
    service.resume(container_id)
    assert by_hand(service, "pause", container_id)
    assert by_hand(service, "resume", container_id)
    assert service.state(container_id) == "running"


@each_kind
def test_a_pause_that_has_returned_is_one_of_all_processes(any_service: Service) -> None:
    container_id = run_until_ready(any_service, _SLEEPERS.format(MANY))
    for _ in range(3):
        any_service.pause(container_id)
        assert is_frozen(any_service, container_id)
        any_service.resume(container_id)
        assert not is_frozen(any_service, container_id)


def test_many_processes_are_counted_where_they_have_a_pid_namespace(service: Service) -> None:
    own = run_until_ready(service, _SLEEPERS.format(MANY))
    hosts = service.run_among_the_hosts_pids(_SLEEPERS.format(20))
    until(lambda: service.output(hosts) == ["ready"])
    for container_id, is_counted in ((own, True), (hosts, False)):
        service.pause(container_id)
        assert service.state(container_id) == "paused"
        status = service.status(container_id)
        group = Hierarchies.detect().group(status.cgroup_path)
        assert holds_all_of(group, status.pid) == is_counted


def test_processes_beside_a_program_of_exec_are_not_counted(service: Service) -> None:
    container_id = run_until_ready(service, _SLEEPERS.format(20))
    talk = Talk(service, container_id, "echo ready; exec sleep 1000")
    talk.read(lambda: talk.stdout == b"ready\n")
    service.pause(container_id)
    assert service.state(container_id) == "paused"
    status = service.status(container_id)
    assert not holds_all_of(Hierarchies.detect().group(status.cgroup_path), status.pid)
    service.resume(container_id)
    talk.leave()


def test_a_program_that_forks_without_end_is_paused_whole(any_service: Service) -> None:
    container_id = run_until_ready(any_service, _FORKERS)
    for _ in range(10):
        any_service.pause(container_id)
        assert is_frozen(any_service, container_id)
        assert any_service.state(container_id) == "paused"
        any_service.resume(container_id)


@pytest.mark.parametrize(
    ("program", "pause", "is_run"),
    [
        ("runc", "auto", False),
        ("another", "auto", True),
        ("runc", "runtime", True),
        ("another", "freezer", False),
    ],
)
def test_the_runtime_is_run_if_the_settings_or_its_name_say_so(
    start_service: StartService, tmp_path: Path, program: str, pause: str, is_run: bool
) -> None:
    script, notes = tmp_path / program, tmp_path / "notes"
    script.write_text(_NOTING.format(notes=notes))
    script.chmod(0o755)
    service = start_service(runtimes={"runc": {"path": str(script), "pause": pause}})
    container_id = service.run()
    notes.unlink()
    service.pause(container_id)
    assert service.state(container_id) == "paused"
    service.resume(container_id)
    assert service.state(container_id) == "running"
    verbs = notes.read_text().split() if notes.exists() else []
    assert [verb for verb in verbs if verb in ("pause", "resume")] == ["pause", "resume"] * is_run


def test_a_runtime_never_has_to_delete_what_is_frozen(
    start_service: StartService, tmp_path: Path
) -> None:
    # It would take it for alive, and kill whatever has the number of its first process now.
    script, notes = tmp_path / "runc", tmp_path / "notes"
    script.write_text(_LOOKING.format(files="", notes="/dev/null"))
    script.chmod(0o755)
    service = start_service(runtimes={"runc": {"path": str(script)}})
    container_id = service.run()
    service.kill(container_id)
    service.wait(container_id)
    files = freezer_files(service, container_id)
    for file in files:
        file.write_text("FROZEN" if file.name == "freezer.state" else "1")
    script.write_text(_LOOKING.format(files=" ".join(map(str, files)), notes=notes))
    service.remove(container_id)
    assert set(notes.read_text().split()) <= {"THAWED", "0"}


def test_what_was_answered_last_holds_for_each_of_many_that_are_paused_at_once(
    start_service: StartService,
) -> None:
    service = start_service(limits_unary_threads=128)
    with ThreadPoolExecutor(8) as pool:
        ids = list(pool.map(lambda _: service.run(), range(100)))

    def pause_and_resume(container_id: str) -> str:
        for _ in range(10):
            service.pause(container_id)
            service.resume(container_id)
        if random.random() < 0.5:
            return "running"
        service.pause(container_id)
        return "paused"

    with ThreadPoolExecutor(len(ids)) as pool:
        answered = dict(zip(ids, pool.map(pause_and_resume, ids), strict=True))
    assert {each: service.state(each) for each in ids} == answered
    assert {each: is_frozen(service, each) for each in ids} == {
        each: state == "paused" for each, state in answered.items()
    }
