"""Capabilities of a container; capabilities(7)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from ocigrpc.oci.config import ContainerConfig
from ocigrpc.oci.violations import Violations

CAPABILITIES = tuple(
    f"CAP_{name}"
    for name in (
        "CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP "
        "LINUX_IMMUTABLE NET_BIND_SERVICE NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER "
        "SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE "
        "SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP "
        "MAC_OVERRIDE MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF "
        "CHECKPOINT_RESTORE"
    ).split()
)
"""Every capability, in the kernel's order: the index is the number."""

DEFAULT_CAPABILITIES = frozenset(
    f"CAP_{name}"
    for name in (
        "CHOWN DAC_OVERRIDE FOWNER FSETID KILL NET_BIND_SERVICE SETFCAP SETGID SETPCAP SETUID "
        "SYS_CHROOT"
    ).split()
)
"""What a container gets unless told otherwise: the same as with podman."""

_ALL = "ALL"


def held_capabilities() -> frozenset[str]:
    """What the service itself may pass on: its bounding set."""
    found = re.search(r"^CapBnd:\s*([0-9a-f]+)$", Path("/proc/self/status").read_text(), re.M)
    bits = int(found[1], 16) if found else 0
    return frozenset(name for number, name in enumerate(CAPABILITIES) if bits >> number & 1)


def capabilities_of(
    config: ContainerConfig, held: frozenset[str], violations: Violations
) -> list[str]:
    """The container's capabilities, sorted.

    It starts with the default set, or with all that are ``held`` when privileged; then
    come the drops, and then the additions. Wrong are unknown names (UNKNOWN_CAPABILITY)
    and additions that the service does not hold (CAPABILITY_NOT_HELD).
    """
    add = _named("config.add_capabilities", config.add_capabilities, violations)
    drop = _named("config.drop_capabilities", config.drop_capabilities, violations)
    for index, name in add.items():
        violations.allow(
            name == _ALL or name in held,
            f"config.add_capabilities[{index}]",
            f"the service does not hold {name} itself",
            "CAPABILITY_NOT_HELD",
        )
    return sorted(_merged(held, config.privileged, add.values(), drop.values()))


def _merged(
    held: frozenset[str], privileged: bool, add: Iterable[str], drop: Iterable[str]
) -> frozenset[str]:
    kept = held if privileged else DEFAULT_CAPABILITIES & held
    kept -= kept if _ALL in drop else frozenset(drop)
    return (kept | (held if _ALL in add else frozenset(add))) & held


def _named(field: str, names: Iterable[str], violations: Violations) -> dict[int, str]:
    """The known ones of ``names`` by index, as "CAP_NET_ADMIN" or "ALL"."""
    known: dict[int, str] = {}
    for index, given in enumerate(names):
        upper = given.upper()
        name = upper if upper == _ALL else f"CAP_{upper.removeprefix('CAP_')}"
        if violations.allow(
            name == _ALL or name in CAPABILITIES,
            f"{field}[{index}]",
            f"no capability {given!r}",
            "UNKNOWN_CAPABILITY",
        ):
            known[index] = name
    return known
