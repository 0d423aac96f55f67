"""What runs can be asked: specs, processes, counts; and create and start in one call."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from ocigrpc.oci.spec.build import spec_of
from ocigrpc.oci.spec.config import ContainerConfig
from ocigrpc.v1 import config_pb2, container_pb2, process_pb2, runtime_pb2
from tests.bed.clients.refusal import refused
from tests.bed.hosts.leaks import LIMIT_S, until
from tests.bed.services.service import Service


def inspected(service: Service, container_id: str) -> runtime_pb2.ContainerStatusResponse:
    return service.client.container_status(container_id)


def processes(service: Service, container_id: str, page_size: int = 0) -> list[process_pb2.Process]:
    request = process_pb2.ListProcessesRequest(container_id=container_id, page_size=page_size)
    found: list[process_pb2.Process] = []
    while True:
        page = service.wire.ListProcesses(request, timeout=LIMIT_S)
        assert len(page.processes) <= (page_size or 1000)
        found += page.processes
        if not page.next_page_token:
            return found
        request.page_token = page.next_page_token


def create_and_start(
    service: Service, script: str, container_id: str
) -> runtime_pb2.CreateContainerResponse:
    request = runtime_pb2.CreateContainerRequest(
        config=service.config(script), container_id=container_id, start=True
    )
    return service.client.create_container(request)


def run(service: Service, request: runtime_pb2.CreateContainerRequest) -> str:
    request.start = True
    return service.client.create_container(request).container_id


def test_the_config_of_a_container_can_be_asked_of_it(any_service: Service) -> None:
    config = any_service.config("exec sleep 1000")
    config.env["A"] = "b=c"
    config.working_dir = "/tmp"
    config.user = "1000:1001"
    config.supplemental_groups.append(1002)
    config.readonly_rootfs = True
    config.add_ambient_capabilities.append("NET_ADMIN")
    config.mounts.add(container_path="/data", host_path="/usr", readonly=True, options=["nosuid"])
    request = runtime_pb2.CreateContainerRequest(config=config)
    container_id = any_service.client.create_container(request).container_id
    for _ in ("created", "running"):
        answer = inspected(any_service, container_id)
        spec = answer.spec
        assert answer.restart_safe
        assert list(spec.command) == list(config.command)
        assert spec.env["A"] == "b=c"
        assert "PATH" in spec.env
        assert (spec.working_dir, spec.rootfs_path) == (
            "/tmp",
            os.path.realpath(config.rootfs_path),
        )
        assert (spec.user.uid, spec.user.gid) == (1000, 1001)
        assert {1001, 1002} <= set(spec.user.supplemental_groups)
        assert spec.readonly_rootfs
        assert spec.no_new_privileges
        assert not spec.terminal
        assert "CAP_NET_ADMIN" in spec.capabilities.ambient
        assert "CAP_NET_ADMIN" in spec.capabilities.effective
        assert spec.HasField("seccomp")
        (mount,) = [each for each in spec.mounts if each.container_path == "/data"]
        assert (mount.host_path, mount.readonly, mount.type) == ("/usr", True, "bind")
        assert "nosuid" in mount.options
        if any_service.state(container_id) == "created":
            any_service.start_container(container_id)


def test_the_seccomp_profile_in_force_is_named(service: Service, tmp_path: Path) -> None:
    profile = tmp_path / "profile.json"
    profile.write_text(json.dumps({"defaultAction": "SCMP_ACT_ALLOW"}))
    for seccomp, has_filter, path in (
        (config_pb2.SeccompProfile(type="SECCOMP_TYPE_UNCONFINED"), False, ""),
        (
            config_pb2.SeccompProfile(type="SECCOMP_TYPE_LOCALHOST", localhost_ref=str(profile)),
            True,
            str(profile),
        ),
        (
            config_pb2.SeccompProfile(),
            True,
            service.client.status().default_seccomp_profile,
        ),
    ):
        config = service.config("exec sleep 1000")
        config.seccomp.CopyFrom(seccomp)
        request = runtime_pb2.CreateContainerRequest(config=config)
        container_id = service.client.create_container(request).container_id
        found = inspected(service, container_id).spec
        assert found.HasField("seccomp") == has_filter
        assert found.seccomp.profile_path == path


def test_a_stopped_container_says_what_it_ran_and_one_without_its_file_does_not(
    service: Service,
) -> None:
    container_id = service.run("exit 3", terminal=True)
    assert service.wait(container_id).exit_code == 3
    answer = inspected(service, container_id)
    assert list(answer.spec.command) == ["/bin/sh", "-c", "exit 3"]
    assert answer.spec.terminal
    (Path(answer.status.bundle_path) / "config.json").unlink()
    answer = inspected(service, container_id)
    assert answer.status.state == container_pb2.CONTAINER_STATE_STOPPED
    assert not answer.HasField("spec")


def test_a_list_has_the_command_lines(service: Service) -> None:
    service.run("exec sleep '1000'", container_id="short")
    service.run(f": {'x' * 1000}; exec sleep 1000", container_id="long")
    lines = {each.container_id: each.command_line for each in service.containers()}
    assert lines["short"] == """/bin/sh -c 'exec sleep '"'"'1000'"'"''"""
    assert lines["long"].startswith("/bin/sh -c ': xxx")
    assert len(lines["long"]) < 300


def test_the_processes_of_a_container_are_listed_with_what_they_use(any_service: Service) -> None:
    container_id = any_service.run("sleep 1000 & sleep 2000 & while :; do :; done")
    until(lambda: len(processes(any_service, container_id)) == 3)
    until(lambda: processes(any_service, container_id)[0].cpu_time.ToMilliseconds() > 50)
    first, *others = found = processes(any_service, container_id)
    assert first.pid == any_service.status(container_id).pid
    assert (first.container_pid, first.uid) == (1, 0)
    assert first.command[0] == "/bin/sh"
    assert all(each.rss_bytes > 0 for each in found)
    assert all(each.parent_pid == first.pid for each in others)
    assert {tuple(each.command) for each in others} == {("sleep", "1000"), ("sleep", "2000")}
    for page_size in (1, 2):
        pages = processes(any_service, container_id, page_size)
        assert [each.pid for each in pages] == [each.pid for each in found]


@pytest.fixture
def accounts(rootfs: Path, tmp_path: Path) -> Path:
    """A busybox with users of its own, in a file that a link leads to."""
    root = tmp_path / "root"
    shutil.copytree(rootfs, root, symlinks=True)
    (root / "etc/passwd").unlink()
    (root / "etc/passwd").symlink_to("/accounts")
    (root / "accounts").write_text("root:x:0:0::/:/bin/sh\napp:x:1234:1234::/:/bin/sh\n")
    return root


def test_processes_have_the_names_of_their_users_in_the_container(
    any_service: Service, accounts: Path
) -> None:
    for user, found in (("", (0, "root")), ("app", (1234, "app")), ("4321", (4321, ""))):
        config = any_service.config("exec sleep 1000")
        config.rootfs_path, config.user = str(accounts), user
        container_id = run(any_service, runtime_pb2.CreateContainerRequest(config=config))
        (process,) = processes(any_service, container_id)
        assert (process.uid, process.user) == found
    (accounts / "accounts").unlink()
    (process,) = processes(any_service, container_id)
    assert process.user == ""


def test_in_a_user_namespace_a_name_is_that_of_the_containers_own_number(
    service: Service, accounts: Path
) -> None:
    config = ContainerConfig(str(accounts), ("sleep", "1000"), user="app")
    spec: dict[str, Any] = spec_of(config, container_id="mapped", terminal=False)
    linux = spec["linux"]
    linux["namespaces"].append({"type": "user"})
    linux["uidMappings"] = linux["gidMappings"] = [
        {"containerID": 0, "hostID": 0, "size": 1000},
        {"containerID": 1000, "hostID": 70000, "size": 1000},
    ]
    container_id = run(service, runtime_pb2.CreateContainerRequest(spec_json=json.dumps(spec)))
    (process,) = processes(service, container_id)
    assert (process.uid, process.user) == (70234, "app")


def test_processes_of_a_container_that_ended_are_none_and_of_no_container_not_found(
    service: Service,
) -> None:
    container_id = service.run("exit 0")
    service.wait(container_id)
    assert processes(service, container_id) == []
    with refused("NOT_FOUND", "CONTAINER_NOT_FOUND"):
        processes(service, "nobody")


def test_status_counts_what_there_is(service: Service) -> None:
    def counts() -> runtime_pb2.StatusResponse:
        return service.client.status()

    before = counts()
    ended = service.run("exit 0")
    service.wait(ended)
    service.pause(service.run())
    service.run()
    service.create()
    after = counts()
    assert after.containers == runtime_pb2.ContainerCounts(
        total=4, created=1, running=1, paused=1, stopped=1, limit=before.containers.limit
    )
    assert after.containers.limit > 0
    assert after.uptime.ToMilliseconds() > before.uptime.ToMilliseconds() > 0
    assert after.events.last > before.events.last
    assert 0 < after.events.first <= after.events.last
    assert after.store_bytes > 0


def test_create_and_start_is_one_call_and_can_be_repeated(any_service: Service) -> None:
    created = create_and_start(any_service, "exec sleep 1000", "once")
    assert any_service.state("once") == "running"
    any_service.pause("once")
    assert create_and_start(any_service, "exec sleep 1000", "once") == created
    assert any_service.state("once") == "paused"
    any_service.stop("once", 0)
    assert create_and_start(any_service, "exec sleep 1000", "once") == created
    assert any_service.state("once") == "stopped"


def test_a_start_that_fails_says_what_is_left(service: Service, tmp_path: Path) -> None:
    program = service.rootfs / "no-format"
    program.write_text("not a program")
    program.chmod(0o755)
    config = config_pb2.ContainerConfig(rootfs_path=str(service.rootfs), command=["/no-format"])
    request = runtime_pb2.CreateContainerRequest(config=config, container_id="bad", start=True)
    try:
        with refused("FAILED_PRECONDITION", "PROGRAM_NOT_EXECUTABLE") as refusal:
            service.client.create_container(request)
    finally:
        program.unlink()
    assert refusal.metadata["container_id"] == "bad"
    assert refusal.metadata["left"] == service.state("bad")


def test_one_that_was_killed_before_its_start_has_not_been_started(service: Service) -> None:
    config = service.config("exec sleep 1000")
    request = runtime_pb2.CreateContainerRequest(config=config, container_id="killed")
    service.client.create_container(request)
    service.kill("killed", "KILL")
    service.wait("killed")
    request.start = True
    with refused("FAILED_PRECONDITION", "WRONG_STATE") as refusal:
        service.client.create_container(request)
    assert refusal.metadata["left"] == "stopped"


def test_a_create_that_fails_leaves_nothing_to_start(service: Service) -> None:
    request = runtime_pb2.CreateContainerRequest(
        config=config_pb2.ContainerConfig(rootfs_path=str(service.rootfs), command=["/none"]),
        container_id="bad",
        start=True,
    )
    with refused("FAILED_PRECONDITION", "PROGRAM_NOT_FOUND") as refusal:
        service.client.create_container(request)
    assert "left" not in refusal.metadata
    assert service.ids() == []
