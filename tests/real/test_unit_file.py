"""The unit file of OPERATING.md, under a systemd of its own."""

from __future__ import annotations

import shlex
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.bed.documents import OPERATING, fences
from tests.bed.hosts.host import Host, private_systemd_host
from tests.bed.hosts.leaks import LIMIT_S
from tests.bed.services.service import Service

INSTALLED = "/opt/ocigrpc/bin/ocigrpc serve"
UNIT_PATH = "/run/systemd/system/ocigrpc.service"

(UNIT,) = (text for language, text in fences(OPERATING) if language == "ini")
ENABLE, LIST, RESTART = (
    text for language, text in fences(OPERATING) if language == "sh" and "systemctl" in text
)

# Until the next boot, as /etc is the real one; and this systemd has none of the usual targets.
_SYSTEMCTL = "systemctl() { command systemctl --runtime --job-mode=ignore-dependencies $@; }"


@pytest.fixture
def host() -> Iterator[Host]:
    with private_systemd_host() as host:
        yield host


@pytest.fixture
def service(host: Host, rootfs: Path) -> Iterator[Service]:
    """One that is not started here."""
    with tempfile.TemporaryDirectory(prefix="ocigrpc-test-", dir="/var/tmp") as directory:
        service = Service(host, Path(directory), rootfs, cgroup_manager="systemd")
        try:
            yield service
        finally:
            service.discard()


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


def main_pid(host: Host) -> str:
    return run(host, "systemctl show --property=MainPID --value ocigrpc")


def test_containers_outlive_a_restart_and_a_stop_of_the_unit(host: Host, service: Service) -> None:
    unit = UNIT.replace(INSTALLED, shlex.join(service.argv()))
    assert unit != UNIT
    run(host, f"cat >{UNIT_PATH} <<'END'\n{unit}END\n{ENABLE}")
    service.connect()
    container_id = service.run()
    first = main_pid(host)
    listed = run(host, LIST)
    assert f"ocigrpc-container-{container_id}.scope" in listed
    assert f"ocigrpc-conmon-{container_id}.scope" in listed

    run(host, RESTART)
    assert main_pid(host) != first
    assert service.state(container_id) == "running"

    run(host, "systemctl stop ocigrpc")
    assert run(host, "systemctl show --property=Result --value ocigrpc") == "success"
    run(host, "systemctl start ocigrpc")
    assert service.state(container_id) == "running"

    service.remove_all()
    run(host, "systemctl stop ocigrpc")
    assert service.leaks() == []
