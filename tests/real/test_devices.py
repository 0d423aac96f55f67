"""Devices of containers: the nodes that they have, and what the cgroup lets them use."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from ocigrpc.v1 import config_pb2, runtime_pb2
from tests.bed.clients.refusal import refused
from tests.bed.services.service import Service

FUSE = "10 229"
RULE = config_pb2.DeviceCgroupRule


@pytest.fixture(scope="module")
def devices() -> Iterator[Path]:
    """A directory of devices: zero (1:5), and deep/er/full (1:7)."""
    with TemporaryDirectory(prefix="ocigrpc-devices-", dir="/var/tmp") as name:
        directory = Path(name)
        (directory / "deep/er").mkdir(parents=True)
        os.mknod(directory / "zero", stat.S_IFCHR | 0o666, os.makedev(1, 5))
        os.mknod(directory / "deep/er/full", stat.S_IFCHR | 0o666, os.makedev(1, 7))
        (directory / "link").symlink_to("/dev/kmsg")
        yield directory


def printed(service: Service, config: config_pb2.ContainerConfig) -> list[str]:
    """What the container of a config writes, which ends well."""
    request = runtime_pb2.CreateContainerRequest(config=config)
    container_id = service.client.create_container(request).container_id
    service.start_container(container_id)
    service.wait(container_id)
    output = service.output(container_id)
    service.remove(container_id)
    return output


def devices_below(directory: str) -> set[str]:
    """Those of the host that a privileged container is to have."""
    found = set()
    for parent, directories, files in os.walk(directory):
        if parent == "/dev":
            for own in ("pts", "shm", "mqueue", "fd"):
                if own in directories:
                    directories.remove(own)
        for name in files:
            mode = os.lstat(f"{parent}/{name}").st_mode
            if stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
                found.add(f"{parent}/{name}")
    return found


def test_privileged_has_every_device_of_the_host_that_is_not_its_own(
    any_service: Service,
) -> None:
    find = "find /dev -path /dev/pts -prune -o '(' -type c -o -type b ')' -print"
    config = any_service.config(f"{find}; ls /dev/pts; (exec 3<>/dev/net/tun) && echo tun")
    config.privileged = True
    *paths, tun = printed(any_service, config)
    assert tun == "tun"
    # Those are links to its own.
    assert devices_below("/dev") - {"/dev/console", "/dev/ptmx"} <= set(paths)
    # A terminal of somebody else would be a number.
    assert not [each for each in paths if each.isdecimal()]
    assert not [each for each in paths if each.startswith(("/dev/shm/", "/dev/mqueue/"))]


def test_a_directory_is_every_device_in_it(any_service: Service, devices: Path) -> None:
    script = (
        "cd /dev/mine; find . -type c | sort; ls -l link zero | wc -l; "
        "head -c 1 zero | wc -c; (echo > zero) 2>&1; head -c 1 deep/er/full | wc -c"
    )
    config = any_service.config(script)
    config.devices.add(host_path=str(devices), container_path="/dev/mine")
    assert printed(any_service, config)[:3] == ["./deep/er/full", "./zero", "1"]
    tun = any_service.config("(exec 3<>/dev/net/tun) && echo tun")
    tun.devices.add(host_path="/dev/net")
    assert printed(any_service, tun) == ["tun"]


def test_a_directory_without_devices_is_refused(service: Service, tmp_path: Path) -> None:
    config = service.config("true")
    config.devices.add(host_path=str(tmp_path))
    with refused("INVALID_ARGUMENT", "NOT_A_DEVICE") as refusal:
        printed(service, config)
    assert refusal.fields == ["config.devices[0].host_path"]


@pytest.mark.parametrize(
    ("rules", "read", "write"),
    [
        ([], False, False),
        (
            [RULE(type=config_pb2.DEVICE_TYPE_CHARACTER, major=10, minor=229, permissions="r")],
            True,
            False,
        ),
        ([RULE(type=config_pb2.DEVICE_TYPE_CHARACTER, major=10, permissions="rw")], True, True),
        ([RULE(type=config_pb2.DEVICE_TYPE_CHARACTER)], True, True),
        ([RULE(type=config_pb2.DEVICE_TYPE_CHARACTER, minor=229, permissions="w")], False, True),
        ([RULE(type=config_pb2.DEVICE_TYPE_ALL, major=10)], True, True),
        ([RULE(type=config_pb2.DEVICE_TYPE_ALL, permissions="r")], True, False),
        (
            [
                RULE(type=config_pb2.DEVICE_TYPE_BLOCK),
                RULE(type=config_pb2.DEVICE_TYPE_CHARACTER, major=11),
            ],
            False,
            False,
        ),
    ],
)
def test_a_rule_lets_a_container_use_what_it_has_no_node_of(
    any_service: Service, rules: list[RULE], read: bool, write: bool
) -> None:
    config = any_service.config(
        f"mknod /dev/mine c {FUSE}; (exec 3</dev/mine) && echo r; (exec 3>/dev/mine) && echo w"
    )
    config.add_capabilities.append("MKNOD")
    config.device_cgroup_rules.extend(rules)
    assert printed(any_service, config) == ["r"] * read + ["w"] * write


def test_a_rule_for_blocks_is_none_for_characters(service: Service) -> None:
    config = service.config(
        "mknod /dev/mine b 7 0; (exec 3</dev/mine) && echo b; "
        f"mknod /dev/other c {FUSE}; (exec 3</dev/other) && echo c"
    )
    config.add_capabilities.append("MKNOD")
    config.device_cgroup_rules.add(type=config_pb2.DEVICE_TYPE_BLOCK, major=7, permissions="r")
    assert printed(service, config) == ["b"]
