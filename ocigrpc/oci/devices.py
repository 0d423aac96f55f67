"""Devices of a container: the nodes in its /dev, and which of them the cgroup lets it use."""

from __future__ import annotations

import os
import re
import stat
from typing import NamedTuple

from msgspec import Struct, to_builtins

from ocigrpc.oci.config import ContainerConfig, Device
from ocigrpc.oci.mounts import container_path
from ocigrpc.oci.violations import Violations

HOST_DEVICES_LIMIT = 4096
"""Most devices of the host that a privileged container gets."""

_MADE_BY_RUNTIME = frozenset(
    f"/dev/{name}" for name in "null zero full random urandom tty console ptmx".split()
)
_PERMISSIONS = re.compile(r"(?!.*(.).*\1)[rwm]{1,3}")


class DeviceNode(Struct, frozen=True, rename="camel"):
    """A device node, in the runtime spec's words."""

    path: str
    type: str
    major: int
    minor: int
    file_mode: int
    uid: int
    gid: int


class Devices(NamedTuple):
    """The spec's ``linux.devices`` and ``linux.resources.devices``."""

    nodes: list[dict[str, object]]
    rules: list[dict[str, object]]


def devices_of(config: ContainerConfig, violations: Violations) -> Devices:
    """The config's devices, and all of the host's when privileged.

    Nothing else is allowed but what the runtime itself adds (/dev/null and its kin). Wrong
    are paths of no device (DEVICE_NOT_FOUND, NOT_A_DEVICE), paths that come twice or that
    are the runtime's own (DUPLICATE), and permissions that are none.
    """
    nodes: dict[str, DeviceNode] = {}
    rules: list[dict[str, object]] = [{"allow": config.privileged, "access": "rwm"}]
    for index, device in enumerate(config.devices):
        field = f"config.devices[{index}]"
        node = _checked_node(device, field, violations)
        if node is None:
            continue
        violations.allow(
            node.path not in nodes and node.path not in _MADE_BY_RUNTIME,
            f"{field}.container_path",
            f"{node.path!r} is taken",
            "DUPLICATE",
        )
        nodes[node.path] = node
        rules.append(_rule(node, device.permissions or "rwm"))
    if config.privileged:
        nodes = {**host_devices(), **nodes}
    return Devices([to_builtins(node) for node in nodes.values()], rules)


def host_devices(directory: str = "/dev") -> dict[str, DeviceNode]:
    """The devices that lie directly in ``directory``, by path, without the runtime's own."""
    found: dict[str, DeviceNode] = {}
    with os.scandir(directory) as entries:
        for entry in entries:
            path = f"/dev/{entry.name}"
            try:
                node = _node(path, entry.stat(follow_symlinks=False))
            except FileNotFoundError:
                # Devices come and go; this one went.
                continue
            if node is not None and path not in _MADE_BY_RUNTIME:
                found[path] = node
            if len(found) == HOST_DEVICES_LIMIT:
                break
    return found


def _checked_node(device: Device, field: str, violations: Violations) -> DeviceNode | None:
    violations.allow(
        not device.permissions or _PERMISSIONS.fullmatch(device.permissions) is not None,
        f"{field}.permissions",
        f'{device.permissions!r} is not some of "rwm"',
        "MALFORMED",
    )
    if not violations.absolute_path(f"{field}.host_path", device.host_path):
        return None
    path = container_path(
        f"{field}.container_path", device.container_path or device.host_path, violations
    )
    try:
        node = _node(path, os.stat(device.host_path))
    except OSError as error:
        violations.add(
            f"{field}.host_path", f"{device.host_path!r}: {error.strerror}", "DEVICE_NOT_FOUND"
        )
        return None
    violations.allow(
        node is not None,
        f"{field}.host_path",
        f"{device.host_path!r} is not a device",
        "NOT_A_DEVICE",
    )
    return node


def _node(path: str, found: os.stat_result) -> DeviceNode | None:
    if stat.S_ISCHR(found.st_mode):
        kind = "c"
    elif stat.S_ISBLK(found.st_mode):
        kind = "b"
    else:
        return None
    return DeviceNode(
        path=path,
        type=kind,
        major=os.major(found.st_rdev),
        minor=os.minor(found.st_rdev),
        file_mode=stat.S_IMODE(found.st_mode) & 0o777,
        uid=found.st_uid,
        gid=found.st_gid,
    )


def _rule(node: DeviceNode, access: str) -> dict[str, object]:
    return {
        "allow": True,
        "type": node.type,
        "major": node.major,
        "minor": node.minor,
        "access": access,
    }
