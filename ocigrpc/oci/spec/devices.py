"""Devices of a container: the nodes in its /dev, and the rules by which its cgroup allows them."""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Collection, Iterator
from contextlib import suppress
from itertools import islice
from typing import NamedTuple

from msgspec import to_builtins

from ocigrpc.oci.spec.config import ContainerConfig, Device, DeviceType
from ocigrpc.oci.spec.linux_types import SpecDevice
from ocigrpc.oci.spec.mounts import container_path
from ocigrpc.violations import Violations

# Most devices that a container gets from directories of the host, including all of /dev.
HOST_DEVICES_LIMIT = 16384

# Most entries that are read of one directory and those below it, devices or not.
_ENTRIES_LIMIT = 4 * HOST_DEVICES_LIMIT

# Largest numbers of a device in the kernel.
MAJOR_LIMIT = (1 << 12) - 1
MINOR_LIMIT = (1 << 20) - 1

_MADE_BY_RUNTIME = frozenset(
    f"/dev/{name}" for name in "null zero full random urandom tty console ptmx".split()
)
# Directories of /dev that are private to each container, or to an engine that runs this host.
_NOT_ENTERED = frozenset(
    f"/dev/{name}" for name in "pts shm fd mqueue .lxc .lxd-mounts .udev".split()
)

# Errors for devices, and directories of them, that disappear while they are read.
_GONE = (FileNotFoundError, NotADirectoryError, ProcessLookupError)

_PERMISSIONS = re.compile(r"(?!.*(.).*\1)[rwm]{1,3}")
_RULE_TYPES = {DeviceType.ALL: "cb", DeviceType.CHARACTER: "c", DeviceType.BLOCK: "b"}


class Devices(NamedTuple):
    """The spec's ``linux.devices`` and ``linux.resources.devices``."""

    nodes: list[dict[str, object]]
    rules: list[dict[str, object]]


class _Granted(NamedTuple):
    node: SpecDevice
    access: str


def devices_of(config: ContainerConfig, violations: Violations) -> Devices:
    """The config's devices, those in its directories, and all of /dev when privileged.

    Only these are allowed, besides those that the config's rules name and the runtime itself
    adds, such as /dev/null. Adds violations for paths that are not a device (DEVICE_NOT_FOUND,
    NOT_A_DEVICE), that are given twice or made by the runtime (DUPLICATE), for directories
    with too many entries (TOO_MANY), and for malformed permissions and numbers.
    """
    granted = _granted(config, violations)
    nodes = {path: each.node for path, each in granted.items()}
    if config.privileged:
        nodes = {**_host_devices(violations), **nodes}
    rules = [
        {"allow": config.privileged, "access": "rwm"},
        *(_rule(node.type, access, node.major, node.minor) for node, access in granted.values()),
        *_further_rules(config, violations),
    ]
    return Devices([to_builtins(node) for node in nodes.values()], rules)


def _granted(config: ContainerConfig, violations: Violations) -> dict[str, _Granted]:
    """The devices that the config names, and those in the directories that it names, by path."""
    single: dict[str, _Granted] = {}
    inside: dict[str, _Granted] = {}
    for index, device in enumerate(config.devices):
        field = f"config.devices[{index}]"
        access = _access(device.permissions, field, violations)
        for node in _nodes_at(device, field, violations):
            if os.path.isdir(device.host_path):
                inside.setdefault(node.path, _Granted(node, access))
                continue
            violations.allow(
                node.path not in single and node.path not in _MADE_BY_RUNTIME,
                f"{field}.container_path",
                f"{node.path!r} is taken",
                "DUPLICATE",
            )
            single[node.path] = _Granted(node, access)
    # A device that is named itself takes precedence over one that was found in a directory.
    return {**inside, **single}


def _access(permissions: str, field: str, violations: Violations) -> str:
    access = permissions or "rwm"
    known = _PERMISSIONS.fullmatch(access) is not None
    problem = f'{permissions!r} is not some of "rwm"'
    violations.allow(known, f"{field}.permissions", problem, "MALFORMED")
    return access


def devices_in(directory: str, shown: str) -> dict[str, SpecDevice]:
    """The devices below ``directory``, by their paths if the directory were ``shown``.

    Without those that the runtime makes itself, and the private directories of /dev; links
    are not followed. Raises ``OSError``, E2BIG when the directory has too many entries.
    """
    found: dict[str, SpecDevice] = {}
    unread = [(directory, shown)]
    remaining = _ENTRIES_LIMIT
    while unread:
        host_directory, directory_shown = unread.pop()
        entries = [] if host_directory in _NOT_ENTERED else _entries(host_directory, remaining + 1)
        remaining -= len(entries)
        for entry in entries:
            path = f"{directory_shown}/{entry.name}"
            if entry.is_dir(follow_symlinks=False):
                unread.append((entry.path, path))
                continue
            with suppress(*_GONE):
                node = _node(path, entry.stat(follow_symlinks=False))
                if node is not None and path not in _MADE_BY_RUNTIME and _is_text(path):
                    found[path] = node
        if len(found) > HOST_DEVICES_LIMIT or remaining < 0:
            raise OSError(errno.E2BIG, "there is too much in it", directory)
    return found


def _entries(directory: str, limit: int) -> list[os.DirEntry[str]]:
    """The entries of a directory, at most ``limit``; none when it has disappeared."""
    with suppress(*_GONE), os.scandir(directory) as entries:
        return sorted(islice(entries, limit), key=lambda each: each.name)
    return []


def _host_devices(violations: Violations) -> dict[str, SpecDevice]:
    try:
        return devices_in("/dev", "/dev")
    except OSError as error:
        if error.errno != errno.E2BIG:
            raise
        violations.add("config.privileged", "there are too many devices in /dev", "TOO_MANY")
        return {}


def _nodes_at(device: Device, field: str, violations: Violations) -> Collection[SpecDevice]:
    """The device at the host path, or those in the directory there."""
    if not violations.absolute_path(f"{field}.host_path", device.host_path):
        return ()
    path = container_path(
        f"{field}.container_path", device.container_path or device.host_path, violations
    )
    host_field = f"{field}.host_path"
    try:
        found = os.stat(device.host_path)
        if stat.S_ISDIR(found.st_mode):
            inside = devices_in(os.path.realpath(device.host_path), path)
            problem = f"{device.host_path!r} has no devices in it"
            violations.allow(bool(inside), host_field, problem, "NOT_A_DEVICE")
            return inside.values()
    except OSError as error:
        reason = "TOO_MANY" if error.errno == errno.E2BIG else "DEVICE_NOT_FOUND"
        violations.add(host_field, f"{device.host_path!r}: {error.strerror}", reason)
        return ()
    node = _node(path, found)
    violations.allow(
        node is not None, host_field, f"{device.host_path!r} is not a device", "NOT_A_DEVICE"
    )
    return () if node is None else (node,)


def _further_rules(config: ContainerConfig, violations: Violations) -> Iterator[dict[str, object]]:
    for index, rule in enumerate(config.device_cgroup_rules):
        field = f"config.device_cgroup_rules[{index}]"
        access = _access(rule.permissions, field, violations)
        if rule.major is not None:
            violations.in_range(f"{field}.major", rule.major, 0, MAJOR_LIMIT)
        if rule.minor is not None:
            violations.in_range(f"{field}.minor", rule.minor, 0, MINOR_LIMIT)
        # One rule per type, since the kernel takes a rule for all types as all or nothing.
        for kind in _RULE_TYPES[rule.type]:
            yield _rule(kind, access, rule.major, rule.minor)


def _is_text(path: str) -> bool:
    """Whether JSON can hold the path."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True


def _node(path: str, found: os.stat_result) -> SpecDevice | None:
    is_character = stat.S_ISCHR(found.st_mode)
    if not is_character and not stat.S_ISBLK(found.st_mode):
        return None
    return SpecDevice(
        path=path,
        type="c" if is_character else "b",
        major=os.major(found.st_rdev),
        minor=os.minor(found.st_rdev),
        file_mode=stat.S_IMODE(found.st_mode) & 0o777,
        uid=found.st_uid,
        gid=found.st_gid,
    )


def _rule(kind: str, access: str, major: int | None, minor: int | None) -> dict[str, object]:
    numbers = {"major": major, "minor": minor}
    known = {name: number for name, number in numbers.items() if number is not None}
    return {"allow": True, "type": kind, **known, "access": access}
