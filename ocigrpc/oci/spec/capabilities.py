"""Capabilities of a container; capabilities(7)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from msgspec import Struct, structs

from ocigrpc.oci.spec.config import ContainerConfig
from ocigrpc.violations import Violations

# Every capability; the index is the kernel's number.
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

# The capabilities of a container by default, the same as with podman.
DEFAULT_CAPABILITIES = frozenset(
    f"CAP_{name}"
    for name in (
        "CHOWN DAC_OVERRIDE FOWNER FSETID KILL NET_BIND_SERVICE SETFCAP SETGID SETPCAP SETUID "
        "SYS_CHROOT"
    ).split()
)

_ALL = "ALL"


@cache
def held_capabilities() -> frozenset[str]:
    """The capabilities that the service can give: its own bounding set, which it never changes."""
    found = re.search(r"^CapBnd:\s*([0-9a-f]+)$", Path("/proc/self/status").read_text(), re.M)
    bits = int(found[1], 16) if found else 0
    return frozenset(name for number, name in enumerate(CAPABILITIES) if bits >> number & 1)


class CapabilitySets(Struct, frozen=True):
    """The runtime spec's ``process.capabilities``, each sorted."""

    bounding: tuple[str, ...] = ()
    effective: tuple[str, ...] = ()
    permitted: tuple[str, ...] = ()
    inheritable: tuple[str, ...] = ()
    ambient: tuple[str, ...] = ()

    def to_spec(self) -> dict[str, list[str]]:
        """The sets as lists, for JSON."""
        return {name: list(names) for name, names in structs.asdict(self).items()}


def capabilities_of(
    config: ContainerConfig, uid: int, held: frozenset[str], violations: Violations
) -> CapabilitySets:
    """The capabilities of the container's first process, which runs as ``uid``.

    The bounding set starts with the defaults, or with all that are ``held`` when privileged;
    then drops apply, and then additions. Root can use the whole set. Another user can use the
    additions, which become ambient, since the kernel removes all others when it executes the
    program. Adds violations for unknown names (UNKNOWN_CAPABILITY), and for additions that the
    service does not hold (CAPABILITY_NOT_HELD).
    """
    added = _added("config.add_capabilities", config.add_capabilities, held, violations)
    ambient = _added(
        "config.add_ambient_capabilities", config.add_ambient_capabilities, held, violations
    )
    named = _named("config.drop_capabilities", config.drop_capabilities, violations).values()
    start = held if config.privileged else DEFAULT_CAPABILITIES & held
    bounding = start - (start if _ALL in named else frozenset(named)) | added | ambient
    if uid != 0:
        ambient |= added
    usable = _sorted(ambient if uid != 0 else bounding)
    return CapabilitySets(_sorted(bounding), usable, usable, _sorted(ambient), _sorted(ambient))


def capabilities_of_exec(own: dict[str, object], own_uid: int, uid: int) -> dict[str, object]:
    """The sets of a program that runs as ``uid``, beside a first process that has ``own``.

    The same user gets the sets of the first process; root can use the whole bounding set;
    other users can use nothing.
    """
    if uid == own_uid:
        return own
    bounding = own.get("bounding") or []
    usable = bounding if uid == 0 else []
    sets = {"bounding": bounding, "effective": usable, "permitted": usable}
    return {**sets, "inheritable": [], "ambient": []}


def _added(
    field: str, names: Iterable[str], held: frozenset[str], violations: Violations
) -> frozenset[str]:
    named = _named(field, names, violations)
    for index, name in named.items():
        violations.allow(
            name == _ALL or name in held,
            f"{field}[{index}]",
            f"the service does not hold {name} itself",
            "CAPABILITY_NOT_HELD",
        )
    return held if _ALL in named.values() else frozenset(named.values()) & held


def _sorted(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(names))


def _named(field: str, names: Iterable[str], violations: Violations) -> dict[int, str]:
    """Those of ``names`` that exist, by index, as "CAP_NET_ADMIN" or "ALL"."""
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
