"""Nothing of the service reaches what it starts: neither its environment nor its files."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from ocigrpc.v1.runtime_pb2 import CreateContainerRequest
from tests.bed import REPOSITORY
from tests.bed.clients.exec import Talk, exec_groups
from tests.bed.clients.refusal import refused
from tests.bed.hosts.leaks import pids_in, until
from tests.bed.services.process import SECRET
from tests.bed.services.service import Service
from tests.real.conftest import StartService
from tests.real.test_attach import Client

SHELL_VARIABLES = {"PATH", "HOME", "PWD", "SHLVL", "HOSTNAME", "TERM", "OLDPWD"}

# A runtime that notes what it was given, and then does its work.
NOTES = """#!/bin/sh
for word; do
    case $word in create|start|exec|state|delete|kill|update) verb=$word; break;; esac
done
tr '\\0' '\\n' < /proc/$$/environ > "{notes}/$verb.environ"
for fd in /proc/$$/fd/*; do readlink "$fd"; done > "{notes}/$verb.files"
exec runc "$@"
"""


def files_of(pid: int) -> set[str]:
    """The files, sockets and pipes that a process has open, by names that tell them apart."""
    links = set()
    for path in Path(f"/proc/{pid}/fd").iterdir():
        try:
            links.add(str(path.readlink()))
        except FileNotFoundError:
            continue
    return telling(links)


def telling(links: set[str]) -> set[str]:
    same = ("/dev/null", "/dev/ptmx", "anon_inode:")
    return {link for link in links if not link.startswith(same)}


def shared(service: Service, pid: int) -> set[str]:
    """What a process has of the service: files, or the secret in its environment."""
    assert files_of(service.pid)
    entries = Path(f"/proc/{pid}/environ").read_text().split("\0")
    return files_of(service.pid) & files_of(pid) | {each for each in entries if SECRET in each}


@pytest.mark.parametrize("terminal", [False, True])
def test_a_container_and_its_monitor_have_nothing_of_the_service(
    service: Service, terminal: bool
) -> None:
    script = "env; echo begun; exec sleep 1000"
    container_id = service.run(script, terminal=terminal, stdin=True)
    until(lambda: [line.strip() for line in service.output(container_id)][-1:] == ["begun"])
    variables = {line.partition("=")[0] for line in service.output(container_id)[:-1]}
    assert variables <= SHELL_VARIABLES
    pid, monitor_pid = service.status(container_id).pid, service.monitor_pid(container_id)
    # A terminal's shell keeps it open once more.
    assert {path.name for path in Path(f"/proc/{pid}/fd").iterdir()} <= {"0", "1", "2", "255"}
    assert SECRET in Path(f"/proc/{service.pid}/environ").read_text()
    assert shared(service, pid) == set()
    assert shared(service, monitor_pid) == set()


@pytest.mark.parametrize("terminal", [False, True])
def test_a_program_of_exec_has_nothing_of_the_service(service: Service, terminal: bool) -> None:
    container_id = service.run()
    script = "env; echo; ls /proc/$$/fd; echo begun; exec sleep 1000"
    talk = Talk(service, container_id, script, terminal=terminal, stdin=True)
    talk.read(lambda: b"begun" in talk.stdout)
    variables, _, descriptors = talk.stdout.decode().replace("\r", "").partition("\n\n")
    assert {line.partition("=")[0] for line in variables.splitlines()} <= SHELL_VARIABLES
    assert set(descriptors.split()) - {"begun"} <= {"0", "1", "2", "10", "255"}
    pid = pids_in(exec_groups(service)[0])[0]
    # Its pipes, or its terminal, are what it is to talk to the service by.
    own = {os.readlink(f"/proc/{pid}/fd/{number}") for number in (0, 1, 2)}
    assert not (files_of(service.pid) & files_of(pid)) - own
    assert SECRET not in Path(f"/proc/{pid}/environ").read_text()
    talk.leave()


@pytest.mark.parametrize("terminal", [False, True])
def test_a_client_of_attach_brings_nothing_of_the_service(service: Service, terminal: bool) -> None:
    container_id = service.run("read a; echo $a; exec sleep 1000", stdin=True, terminal=terminal)
    client = Client(service, container_id, stdin=True)
    client.type(b"here\n")
    client.read(lambda: b"here" in client.stdout)
    status = service.status(container_id)
    assert shared(service, status.pid) == set()
    # The service opens conmon's FIFO by its name while a client of a terminal is attached.
    control = {f"{status.bundle_path}/ctl"} if terminal else set()
    assert shared(service, service.monitor_pid(container_id)) == control
    client.leave()


def test_runtimes_have_nothing_of_the_service(start_service: StartService, tmp_path: Path) -> None:
    script = tmp_path / "runc"
    script.write_text(NOTES.format(notes=tmp_path))
    script.chmod(0o755)
    service = start_service(runtimes={"runc": {"path": str(script)}})
    container_id = service.run()
    Talk(service, container_id, "true").read_all()
    service.remove(container_id, force=True)
    # Also of a run without a verb, which only asks for its version.
    noted = {path.name.removesuffix(".environ") for path in tmp_path.glob("*.environ")}
    assert {"create", "start", "exec", "delete"} <= noted
    for verb in noted:
        assert SECRET not in (tmp_path / f"{verb}.environ").read_text()
        links = set((tmp_path / f"{verb}.files").read_text().splitlines())
        assert not telling(links) & files_of(service.pid), verb


def test_only_the_owner_may_read_what_is_made_for_a_container(service: Service) -> None:
    container_id = service.run("echo begun; exec sleep 1000")
    talk = Talk(service, container_id, "echo begun; exec sleep 1000")
    talk.read(lambda: talk.stdout == b"begun\n")
    bundle = Path(service.status(container_id).bundle_path)
    made = [bundle, *bundle.rglob("*")]
    assert any(path.name == "process.json" for path in made)
    # The runtime's pid files and log are as open as the directory, which is closed.
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o700 for path in made if path.is_dir())
    ours = [path for path in made if path.suffix == ".json"]
    ours.append(Path(service.status(container_id).log_path))
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in ours)
    talk.leave()


def test_a_log_that_the_client_chose_is_its_owners_alone(service: Service, tmp_path: Path) -> None:
    container_id = service.create(log_path=str(tmp_path / "log")).container_id
    assert stat.S_IMODE((tmp_path / "log").stat().st_mode) == 0o600
    service.remove(container_id)


def test_a_log_is_not_written_through_a_link(service: Service, tmp_path: Path) -> None:
    (tmp_path / "theirs").write_text("theirs")
    (tmp_path / "log").symlink_to("theirs")
    with refused("INVALID_ARGUMENT", "INVALID_LOG_PATH") as refusal:
        service.create(log_path=str(tmp_path / "log"))
    assert refusal.fields == ["log_path"]
    assert (tmp_path / "theirs").read_text() == "theirs"


def test_a_log_is_not_written_where_everybody_can_plant_one(
    service: Service, tmp_path: Path
) -> None:
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs").chmod(0o1777)
    with refused("INVALID_ARGUMENT", "INVALID_LOG_PATH") as refusal:
        service.create(log_path=str(tmp_path / "theirs/log"))
    assert refusal.fields == ["log_path"]
    assert list((tmp_path / "theirs").iterdir()) == []


def test_a_failed_create_leaves_no_log_at_the_path_of_the_client(
    service: Service, tmp_path: Path
) -> None:
    with refused("FAILED_PRECONDITION", "PROGRAM_NOT_FOUND"):
        service.create_command("/no/such/program", log_path=str(tmp_path / "log"))
    assert list(tmp_path.iterdir()) == []


def test_a_failed_create_leaves_a_log_that_was_there(service: Service, tmp_path: Path) -> None:
    (tmp_path / "log").write_text("of a life before\n")
    with refused("FAILED_PRECONDITION", "PROGRAM_NOT_FOUND"):
        service.create_command("/no/such/program", log_path=str(tmp_path / "log"))
    assert (tmp_path / "log").read_text().startswith("of a life before\n")


def test_a_root_filesystem_that_is_a_link_is_refused(service: Service, tmp_path: Path) -> None:
    (tmp_path / "rootfs").symlink_to(service.rootfs)
    config = {"ociVersion": "1.0.2", "process": {"args": ["true"], "cwd": "/"}}
    (tmp_path / "config.json").write_text(json.dumps({**config, "root": {"path": "rootfs"}}))
    with refused("INVALID_ARGUMENT", "INVALID_SPEC") as refusal:
        request = CreateContainerRequest(bundle_path=str(tmp_path))
        service.client.create_container(request)
    assert refusal.fields == ["bundle_path"]


_LIMITS = """
import resource
from ocigrpc.host.descriptors import raise_limit
from ocigrpc.host.processes.child import Child
raise_limit()
with Child(["sleep", "1000"]) as child:
    for pid in (0, child.pid):
        print(*resource.prlimit(pid, resource.RLIMIT_NOFILE))
"""


def test_the_service_may_open_more_files_than_what_it_starts() -> None:
    argv = ["prlimit", "--nofile=256:512", sys.executable, "-c", _LIMITS]
    assert subprocess.check_output(argv, cwd=REPOSITORY, text=True) == "512 512\n256 512\n"
