"""The units that the package installs, under a systemd of their own."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ocigrpc.cli.install_units import PROGRAM, write_units
from ocigrpc.v1.runtime_pb2 import ContainerStatusRequest, CreateContainerRequest
from tests.bed.clients.exec import Talk, exec_sync, process
from tests.bed.documents import OPERATING, fences
from tests.bed.hosts.host import Host, private_systemd_host
from tests.bed.hosts.leaks import LIMIT_S, until
from tests.bed.services.service import Service, state_word

UNITS = "/etc/systemd/system"

INSTALL, LIST, RELOAD, RESTART, RESTORE, DUMP = (
    text for language, text in fences(OPERATING) if language == "sh" and "systemctl" in text
)

# This systemd has none of the usual targets.
_SYSTEMCTL = "systemctl() { command systemctl --job-mode=ignore-dependencies $@; }"

# The real directory is another systemd's.
_EMPTY_UNITS = f"mkdir -p /run/units {UNITS}\nmount --bind /run/units {UNITS}"

_DROP_IN = """
[Unit]
DefaultDependencies=no
[Service]
ExecStart=
ExecStart={command}
WatchdogSec=3
# Those of the settings are others.
StateDirectory=
LogsDirectory=
"""

_SOCKET_DROP_IN = """
[Unit]
DefaultDependencies=no
[Socket]
ListenStream=
ListenStream={path}
"""


@pytest.fixture
def host() -> Iterator[Host]:
    with private_systemd_host() as host:
        run(host, _EMPTY_UNITS)
        yield host


@pytest.fixture
def service(host: Host, rootfs: Path) -> Iterator[Service]:
    """One that is installed as OPERATING.md says, and runs."""
    with tempfile.TemporaryDirectory(prefix="ocigrpc-test-", dir="/var/tmp") as directory:
        service = Service(host, Path(directory), rootfs, cgroup_manager="systemd")
        customize(host, "service", _DROP_IN.format(command=shlex.join(service.argv())))
        customize(host, "socket", _SOCKET_DROP_IN.format(path=f"{directory}/socket"))
        try:
            run(host, INSTALL.replace(PROGRAM, str(Path(sys.executable).with_name("ocigrpc"))))
            service.connect()
            yield service
            service.remove_all()
            run(host, "systemctl stop ocigrpc.socket ocigrpc.service")
            assert service.leaks() == []
            assert not Path(directory, "socket").exists()
        finally:
            service.discard()


def customize(host: Host, kind: str, drop_in: str) -> None:
    directory = f"{UNITS}/ocigrpc.{kind}.d"
    run(host, f"mkdir {directory}; cat >{directory}/test.conf <<'END'{drop_in}END")


def run(host: Host, script: str) -> str:
    done = subprocess.run(
        host.command(["bash", "-euc", f"{_SYSTEMCTL}\n{script}"]),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        timeout=LIMIT_S,
        check=True,
    )
    return done.stdout.strip()


def shown(host: Host, name: str) -> str:
    """A property of the service."""
    return run(host, f"systemctl show --property={name} --value ocigrpc")


def test_systemd_understands_every_line(tmp_path: Path) -> None:
    units = write_units(tmp_path, sys.executable)
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *units],
        env=os.environ | {"SYSTEMD_UNIT_PATH": f"{tmp_path}:"},
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert [line for line in done.stderr.splitlines() if "/ocigrpc." in line] == []


def test_containers_outlive_a_restart_and_a_stop_of_the_unit(host: Host, service: Service) -> None:
    container_id = service.run()
    first = shown(host, "MainPID")
    listed = run(host, LIST)
    assert f"ocigrpc-container-{container_id}.scope" in listed
    assert f"ocigrpc-conmon-{container_id}.scope" in listed

    run(host, RELOAD)
    run(host, DUMP)
    assert shown(host, "MainPID") == first
    run(host, RESTART)
    assert shown(host, "MainPID") != first
    assert service.state(container_id) == "running"

    run(host, "systemctl stop ocigrpc.socket ocigrpc.service")
    assert shown(host, "Result") == "success"
    run(host, "systemctl start ocigrpc.socket ocigrpc.service")
    assert service.state(container_id) == "running"


@pytest.mark.parametrize("terminal", [False, True])
def test_a_detached_program_outlives_a_restart_of_the_unit(
    host: Host, service: Service, terminal: bool
) -> None:
    container_id = service.run()
    script = "while :; do head -c 10000 /dev/zero && touch /tmp/alive; sleep 0.05; done"
    Talk(service, container_id, script, terminal=terminal, detach=True).read_all()
    run(host, RESTART)
    exec_sync(service, container_id, process("rm", "-f", "/tmp/alive"))
    look = process("ls", "/tmp/alive")
    until(lambda: exec_sync(service, container_id, look).exit.exit_code == 0)


def test_a_backup_is_restored_while_containers_live_on(host: Host, service: Service) -> None:
    container_id = service.run()
    backup = service.directory / "backup.db"
    backup.write_bytes(b"".join(service.client.backup_store()))
    service.pause(container_id)
    restore = RESTORE.replace("/var/backups/ocigrpc.db", str(backup))
    run(host, restore.replace("/var/lib/ocigrpc", str(service.directory / "root")))
    assert (service.directory / "root/ocigrpc.db").stat().st_mode & 0o777 == 0o600
    assert service.state(container_id) == "paused"


def wait_for(host: Host, name: str, wanted: str) -> None:
    """Wait until a property of the service is ``wanted``."""
    script = f"until [[ $(systemctl show --property={name} --value ocigrpc) == {wanted} ]]; do"
    run(host, f"{script} sleep 0.1; done")


def test_a_service_that_hangs_is_started_again(host: Host, service: Service) -> None:
    container_id = service.run()
    first = shown(host, "MainPID")
    run(host, f"kill -STOP {first}")
    wait_for(host, "NRestarts", "1")
    wait_for(host, "SubState", "running")
    assert service.state(container_id) == "running"


def test_a_service_whose_store_is_gone_is_started_again(host: Host, service: Service) -> None:
    root = service.directory / "root"
    root.rename(service.directory / "elsewhere")
    wait_for(host, "NRestarts", "1")
    wait_for(host, "SubState", "running")
    assert (root / "ocigrpc.db").exists()
    service.run()


def test_the_status_of_the_unit_counts_the_containers(host: Host, service: Service) -> None:
    service.run()
    wait_for(host, "StatusText", "'Ready; containers: 1 running'")


def test_a_container_has_the_usual_limits(service: Service) -> None:
    limits = "cat /proc/self/oom_score_adj; ulimit -n"
    assert service.output_of(limits) == ["0", "1024"]


def test_the_unit_takes_nothing_that_a_spec_grants(host: Host, service: Service) -> None:
    config = service.config("cat /proc/self/status; umask")
    config.privileged = True
    container_id = service.client.create_container(
        CreateContainerRequest(config=config)
    ).container_id
    service.start_container(container_id)
    assert service.wait(container_id).exit_code == 0
    *lines, umask = service.output(container_id)
    theirs, ours = (
        dict(line.split(":\t", 1) for line in status)
        for status in (lines, Path("/proc/self/status").read_text().splitlines())
    )
    assert theirs["CapBnd"] == ours["CapBnd"]
    assert (theirs["NoNewPrivs"], theirs["Seccomp"], umask) == ("0", "0", "0022")
    # Mounts of hooks are seen by the host.
    pid = shown(host, "MainPID")
    assert run(host, f"readlink /proc/{pid}/ns/mnt") == run(host, "readlink /proc/1/ns/mnt")


def test_a_restart_refuses_no_call(host: Host, service: Service) -> None:
    container_id = service.run()
    ended = threading.Event()

    def call_in_a_loop() -> int:
        # Neither repeats a refused call, nor waits for a service that is ready.
        client, count = service.another(), 0
        request = ContainerStatusRequest(container_id=container_id)
        while not ended.is_set():
            status = client.wire.ContainerStatus(request, timeout=LIMIT_S).status
            assert state_word(status) == "running"
            count += 1
        return count

    with ThreadPoolExecutor() as pool:
        calls = pool.submit(call_in_a_loop)
        try:
            for _ in range(2):
                run(host, RESTART)
                assert service.state(container_id) == "running"
        finally:
            ended.set()
        assert calls.result() > 2


def test_a_call_starts_the_service_that_a_socket_waits_for(host: Host, service: Service) -> None:
    container_id = service.run()
    run(host, "systemctl stop ocigrpc.service")
    assert service.state(container_id) == "running"
