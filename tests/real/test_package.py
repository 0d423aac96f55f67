"""The Debian package: its life on a Debian, in which each test continues where the last one ended.

It is Debian 12, and then 13, each with a systemd of its own; or the machine that this runs on, when
it is given the packages. ``scripts/node package`` does so, and reboots it before the tests that
begin with "after a reboot".
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from ocigrpc import __version__
from tests.bed import REPOSITORY
from tests.bed.documents import OPERATING, README, fences
from tests.bed.hosts.debian import Debian, debian, this_machine
from tests.bed.hosts.newer import NEWER, newer

(_BUILD_AND_INSTALL,) = (text for _, text in fences(README) if "apt-get" in text)
BUILD, INSTALL = _BUILD_AND_INSTALL.splitlines()
UPGRADE, REMOVE, PURGE = (text for _, text in fences(OPERATING) if "apt-get" in text)

UNITS = "ocigrpc.service ocigrpc.socket"

GIVEN = os.environ.get("TEST_PACKAGES")
"""Where a machine, which may have no network, is given the package and a newer one."""

_LIMIT_S = 900

pytestmark = pytest.mark.timeout(_LIMIT_S)


@pytest.fixture(scope="module", params=["this machine"] if GIVEN else ["bookworm", "trixie"])
def machine(request: pytest.FixtureRequest) -> Iterator[Debian]:
    with this_machine() if GIVEN else debian(request.param) as machine:
        (machine.root / "root/dist").mkdir(exist_ok=True)
        yield machine


@pytest.fixture(scope="module")
def package() -> Path:
    """As it is made from the checkout."""
    directory = Path(GIVEN or REPOSITORY / "dist")
    if not GIVEN:
        subprocess.run(["timeout", str(_LIMIT_S), *BUILD.split()], cwd=REPOSITORY, check=True)
    (made,) = directory.glob(f"ocigrpc_{__version__}_*.deb")
    return made


@pytest.fixture
def newer_package(package: Path, tmp_path: Path) -> Path:
    return Path(GIVEN, f"ocigrpc_{NEWER}.deb") if GIVEN else newer(package, tmp_path)


def offer(machine: Debian, package: Path) -> None:
    """Have a package in the machine as the only one where the documents' commands expect it."""
    directory = machine.root / "root/dist"
    for other in directory.iterdir():
        other.unlink()
    shutil.copy(package, directory)


def state(machine: Debian) -> str:
    return machine.run("ocigrpc inspect --format '{{.State}}' living")


def main_pid(machine: Debian) -> str:
    return machine.run("systemctl show --property=MainPID --value ocigrpc")


def test_installing_it_starts_the_service_and_its_socket(machine: Debian, package: Path) -> None:
    offer(machine, package)
    machine.run(INSTALL)
    assert machine.run(f"systemctl is-enabled {UNITS}").split() == ["enabled"] * 2
    assert machine.run(f"systemctl is-active {UNITS}").split() == ["active"] * 2
    assert f"service:  {__version__}," in machine.run("ocigrpc version")
    settings = json.loads(machine.run("ocigrpc settings"))
    assert settings["cgroup"]["manager"] == "systemd"


def test_its_libraries_are_made_for_the_python_of_the_machine(machine: Debian) -> None:
    modules = """google._upb._message, grpc._cython.cygrpc, msgspec._core, prometheus_client,
        opentelemetry.exporter.otlp.proto.http.trace_exporter, yaml._yaml"""
    path = "import sys; sys.path.insert(0, '/usr/lib/ocigrpc')"
    machine.run(f'/usr/bin/python3 -ISc "{path}; import {" ".join(modules.split())}"')


def test_a_program_runs(machine: Debian) -> None:
    machine.run("mkdir -p rootfs/bin; cp /bin/busybox rootfs/bin; ln -s busybox rootfs/bin/sh")
    assert machine.run("ocigrpc run --rm --rootfs /root/rootfs sh -c 'echo hello'") == "hello"


def test_containers_live_through_an_upgrade(machine: Debian, newer_package: Path) -> None:
    # A shutdown waits 90 seconds for one that ignores SIGTERM.
    program = "trap exit TERM; sleep 10000 & wait"
    machine.run(f"ocigrpc run -d --name living --rootfs /root/rootfs sh -c '{program}'")
    first = main_pid(machine)
    offer(machine, newer_package)
    machine.run(UPGRADE)
    assert main_pid(machine) != first
    assert f"service:  {NEWER}," in machine.run("ocigrpc version")
    assert state(machine) == "running"


def test_a_removal_ends_the_service_alone(machine: Debian) -> None:
    machine.run(REMOVE)
    assert machine.run(f"! systemctl is-active {UNITS}").split() == ["inactive"] * 2
    assert not (machine.root / "usr/lib/ocigrpc").exists()
    machine.run(INSTALL)
    assert state(machine) == "running"


def test_it_is_not_purged_while_there_are_containers(machine: Debian) -> None:
    purge = PURGE.splitlines()[-1]
    assert "ocigrpc rm --all --force" in machine.run(purge, status=100)
    machine.run(INSTALL)
    assert state(machine) == "running"


def test_after_a_reboot_the_service_runs_and_has_its_records(machine: Debian) -> None:
    machine.reboot()
    assert machine.run(f"systemctl is-active {UNITS}").split() == ["active"] * 2
    assert state(machine) == "stopped"


def test_after_a_reboot_nothing_is_left_of_it_when_it_is_purged(machine: Debian) -> None:
    machine.run(PURGE)
    machine.run("apt-get autoremove --purge")
    assert machine.left() == set()
    assert not machine.run("find /run -name 'ocigrpc*'; systemctl -q --all list-units 'ocigrpc*'")
