"""What the service says of its programs, and when it refuses to start."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.bed.clients.conditions import works
from tests.bed.clients.exec import exec_sync, shell
from tests.bed.hosts.host import Host, native
from tests.bed.services.service import Service
from tests.real.conftest import StartService


def first_line(*argv: str) -> str:
    return subprocess.check_output(argv, text=True).splitlines()[0]


def test_version_tells_those_of_the_programs(service: Service) -> None:
    version = service.client.version()
    assert (version.runtime_name, version.runtime_api_version) == ("ocigrpc", "v1")
    assert version.conmon_version == first_line("conmon", "--version")
    assert {each.name: each.version for each in version.runtime_handlers} == {
        name: first_line(name, "--version") for name in ("crun", "runc")
    }


def test_status_says_that_all_is_well(service: Service) -> None:
    status = service.client.status()
    assert [(each.type, works(each), each.reason) for each in status.conditions] == [
        (name, True, "")
        for name in (
            "RuntimeReady",
            "MonitorReady",
            "CgroupsReady",
            "StoreReady",
            "SeccompReady",
            "ContainersReady",
        )
    ]
    assert status.settings["run_dir"] == str(service.directory / "run")


def test_status_and_version_name_a_missing_runtime(start_service: StartService) -> None:
    service = start_service(runtimes={"ghost": {"path": "/no/such/ghost"}})
    conditions = service.client.status().conditions
    assert conditions[0].type == "RuntimeReady"
    assert "/no/such/ghost" in conditions[0].message
    version = service.client.version()
    assert {each.name: bool(each.version) for each in version.runtime_handlers} == {
        "crun": True,
        "ghost": False,
        "runc": True,
    }


def test_status_names_a_monitor_that_has_gone(start_service: StartService, tmp_path: Path) -> None:
    conmon = tmp_path / "conmon"
    conmon.write_text('#!/bin/sh\nexec conmon "$@"\n')
    conmon.chmod(0o755)
    service = start_service(conmon_path=conmon)
    service.run()
    conmon.unlink()
    condition = service.client.status().conditions[1]
    assert (condition.type, works(condition)) == ("MonitorReady", False)
    assert condition.reason
    assert str(conmon) in condition.message


def test_a_service_loads_nothing_that_it_does_not_use(
    start_service: StartService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPROFILEIMPORTTIME", "1")
    service = start_service()
    service.stop(service.run(), 1)
    lines = (service.directory / "events").read_text().splitlines()
    loaded = {line.rpartition("|")[2].strip() for line in lines}
    assert "grpc" in loaded
    assert not {"asyncio.events", "google.protobuf.text_format", "grpc.aio._server", "ssl"} & loaded


def refusal_to_start(
    directory: Path, rootfs: Path, *launcher: str, **settings: object
) -> dict[str, object]:
    """The one line of a service that does not start; ``launcher`` is what it is started by."""
    with native() as found:
        host = Host(found.name, found.cgroup_roots, (*found.prefix, *launcher))
        service = Service(host, directory, rootfs, **settings)  # type: ignore[arg-type]
        event = service.refusal()
    assert service.leaks() == []
    return event


@pytest.mark.parametrize("program", ["conmon", "runc"])
def test_a_missing_program_is_refused_in_one_line_with_how_to_install_it(
    tmp_path: Path, rootfs: Path, program: str
) -> None:
    path = f"/no/such/{program}"
    if program == "conmon":
        event = refusal_to_start(tmp_path, rootfs, conmon_path=path)
    else:
        event = refusal_to_start(tmp_path, rootfs, runtimes={"runc": {"path": path}})
    assert event["reason"] == "PROGRAM_NOT_FOUND"
    assert event["path"] == path
    assert event["install"] == f"apt-get install {program}"


@pytest.mark.parametrize("program", ["conmon", "runc"])
def test_a_program_that_does_not_work_is_refused(
    tmp_path: Path, rootfs: Path, program: str
) -> None:
    path = tmp_path / program
    path.write_text("#!/bin/sh\nexit 1\n")
    path.chmod(0o755)
    if program == "conmon":
        event = refusal_to_start(tmp_path, rootfs, conmon_path=path)
    else:
        event = refusal_to_start(tmp_path, rootfs, runtimes={"runc": {"path": str(path)}})
    assert (event["reason"], event["path"]) == ("PROGRAM_BROKEN", str(path))


def test_the_systemd_manager_without_systemd_is_refused(tmp_path: Path, rootfs: Path) -> None:
    event = refusal_to_start(tmp_path, rootfs, *NO_BUS, cgroup_manager="systemd")
    assert event["reason"] == "BUS_UNREACHABLE"


# Where the files of cgroups can be read, and no more, as in a container.
READ_ONLY_CGROUPS = (
    *("unshare", "--mount", "--propagation", "private", "sh", "-euc"),
    'for each in $(findmnt -rn -t cgroup,cgroup2 -o TARGET); do mount -o remount,bind,ro "$each"; '
    'done; exec "$@"',
    "sh",
)
NO_BUS = (
    *("unshare", "--mount", "--propagation", "private", "sh", "-euc"),
    'mount -t tmpfs tmpfs /run; exec "$@"',
    "sh",
)


def test_a_host_whose_cgroups_can_not_be_written_is_refused(tmp_path: Path, rootfs: Path) -> None:
    event = refusal_to_start(tmp_path, rootfs, *READ_ONLY_CGROUPS)
    assert event["reason"] == "CGROUP_FAILED"
    assert "Read-only file system" in str(event["message"])


def test_a_service_that_is_not_root_is_refused(tmp_path: Path, rootfs: Path) -> None:
    event = refusal_to_start(tmp_path, rootfs, "unshare", "--user")
    assert event["reason"] == "NOT_ROOT"


def test_a_name_of_a_program_is_looked_up_on_path(
    start_service: StartService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, program in (("a-runtime", "runc"), ("a-monitor", "conmon")):
        (tmp_path / name).write_text(f'#!/bin/sh\nexec {program} "$@"\n')
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{os.environ['PATH']}:{tmp_path}")
    service = start_service(conmon_path="a-monitor", runtimes={"runc": {"path": "a-runtime"}})
    container_id = service.run()
    assert exec_sync(service, container_id, shell("echo here")).stdout == b"here\n"
    service.pause(container_id)
    assert service.state(container_id) == "paused"


def test_a_second_service_on_the_same_socket_is_refused(service: Service, tmp_path: Path) -> None:
    event = refusal_to_start(tmp_path, service.rootfs, socket_path=service.directory / "socket")
    assert event["level"] == "critical"
    assert service.ids() == []


def test_a_second_service_on_the_same_store_is_refused(service: Service, tmp_path: Path) -> None:
    event = refusal_to_start(tmp_path, service.rootfs, root_dir=service.directory / "root")
    assert event["level"] == "critical"
    assert event["reason"] == "DIRECTORY_IN_USE"
    assert (event["path"], event["pid"]) == (f"{service.directory}/root", str(service.pid))
    assert service.ids() == []


def test_a_second_service_on_the_same_run_directory_is_refused(
    service: Service, tmp_path: Path
) -> None:
    event = refusal_to_start(tmp_path, service.rootfs, run_dir=service.directory / "run")
    assert event["reason"] == "DIRECTORY_IN_USE"
    assert (event["path"], event["pid"]) == (f"{service.directory}/run", str(service.pid))
    assert list((tmp_path / "root").iterdir()) == []


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({"socket_group": "nosuchgroup"}, "socket.path"),
        ({"limits_containers": 1_000_000}, "limits.containers"),
    ],
)
def test_settings_that_are_found_wrong_late_have_the_status_of_wrong_settings(
    tmp_path: Path, rootfs: Path, settings: dict[str, object], key: str
) -> None:
    assert refusal_to_start(tmp_path, rootfs, **settings)["key"] == key
