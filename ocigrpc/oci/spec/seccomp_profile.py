"""Seccomp profiles in the format of containers-common and moby.

It is the runtime spec's ``linux.seccomp`` with more: rules under conditions, lists of
architectures by the native one, errors by name. Runtimes ignore these, so a profile is resolved
here for one container on this host, to the fields that they know. A field that is unknown here
is refused, because its meaning would be lost.

The format is defined by ``pkg/seccomp`` of containers-common and ``profiles/seccomp`` of moby.
"""

from __future__ import annotations

import errno
import os
import re
import sys
from collections.abc import Collection
from typing import Annotated, Literal, NamedTuple, TypeAlias

import msgspec
from msgspec import Meta, Struct

_Name: TypeAlias = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_]{1,64}$")]
_Text: TypeAlias = Annotated[str, Meta(max_length=4095)]
# The error that the kernel returns for a refused call has 16 bits.
_Errno: TypeAlias = Annotated[int, Meta(ge=0, le=(1 << 16) - 1)]
_Action = Literal[
    "SCMP_ACT_KILL",
    "SCMP_ACT_KILL_PROCESS",
    "SCMP_ACT_KILL_THREAD",
    "SCMP_ACT_TRAP",
    "SCMP_ACT_ERRNO",
    "SCMP_ACT_TRACE",
    "SCMP_ACT_ALLOW",
    "SCMP_ACT_LOG",
    "SCMP_ACT_NOTIFY",
]
_Operator = Literal[
    "SCMP_CMP_NE",
    "SCMP_CMP_LT",
    "SCMP_CMP_LE",
    "SCMP_CMP_EQ",
    "SCMP_CMP_GE",
    "SCMP_CMP_GT",
    "SCMP_CMP_MASKED_EQ",
]
_Flag: TypeAlias = Annotated[str, Meta(pattern="^SECCOMP_FILTER_FLAG_[A-Z_]+$", max_length=64)]
_ScmpArch: TypeAlias = Annotated[str, Meta(pattern="^SCMP_ARCH_[A-Z0-9_]+$", max_length=64)]
# Compared literally: a name in another form would never match.
_Capability: TypeAlias = Annotated[str, Meta(pattern="^CAP_[A-Z0-9_]+$", max_length=64)]
_Arch: TypeAlias = Annotated[str, Meta(pattern="^[a-z0-9]+$", max_length=64)]
_Kernel: TypeAlias = Annotated[str, Meta(pattern=r"^\d{1,4}\.\d{1,4}$")]

# By uname(2)'s machine: the architecture's name in conditions, and in the spec.
_ARCHES = {
    "x86_64": ("amd64", "SCMP_ARCH_X86_64"),
    "i686": ("x86", "SCMP_ARCH_X86"),
    "aarch64": ("arm64", "SCMP_ARCH_AARCH64"),
    "armv7l": ("arm", "SCMP_ARCH_ARM"),
    "riscv64": ("riscv64", "SCMP_ARCH_RISCV64"),
    "loongarch64": ("loongarch64", "SCMP_ARCH_LOONGARCH64"),
    "ppc64le": ("ppc64le", "SCMP_ARCH_PPC64LE"),
    "s390x": ("s390x", "SCMP_ARCH_S390X"),
    "mips64": ("mips64", "SCMP_ARCH_MIPS64")
    if sys.byteorder == "big"
    else ("mipsel64", "SCMP_ARCH_MIPSEL64"),
}


class _Part(Struct, rename="camel", forbid_unknown_fields=True):
    """A part of a profile."""


class Argument(_Part):
    """A condition on an argument of the call."""

    index: Annotated[int, Meta(ge=0, le=5)]
    value: Annotated[int, Meta(ge=0)]
    op: _Operator
    value_two: Annotated[int, Meta(ge=0)] | None = None

    def __post_init__(self) -> None:
        """Check what annotations can't express."""
        if max(self.value, self.value_two or 0) >= 1 << 64:
            raise ValueError("Expected `int` of 64 bits")


class Conditions(_Part):
    """When a rule applies, or does not. Empty fields are no condition."""

    caps: list[_Capability] | None = None
    arches: list[_Arch] | None = None
    min_kernel: _Kernel | None = None


class Rule(_Part):
    """One entry of ``syscalls``."""

    action: _Action
    name: _Name | None = None
    names: list[_Name] | None = None
    errno_ret: _Errno | None = None
    errno: _Text | None = None
    args: list[Argument] | None = None
    comment: str | None = None
    includes: Conditions | None = None
    excludes: Conditions | None = None

    def __post_init__(self) -> None:
        """Check fields that depend on each other."""
        if bool(self.name) == bool(self.names) and (self.name or self.names is None):
            raise ValueError("Expected either `name` or `names`")
        _number_of(self.errno, self.errno_ret)


class Architecture(_Part):
    """One entry of ``archMap``: the architectures that come with a native one."""

    architecture: _ScmpArch
    sub_architectures: list[_ScmpArch] | None = None


class Profile(_Part):
    """A whole profile."""

    default_action: _Action
    default_errno_ret: _Errno | None = None
    default_errno: _Text | None = None
    architectures: list[_ScmpArch] | None = None
    arch_map: list[Architecture] | None = None
    flags: list[_Flag] | None = None
    listener_path: _Text | None = None
    listener_metadata: _Text | None = None
    syscalls: list[Rule] | None = None

    def __post_init__(self) -> None:
        """Check fields that depend on each other."""
        if self.architectures and self.arch_map:
            raise ValueError("Expected either `architectures` or `archMap`")
        _number_of(self.default_errno, self.default_errno_ret)


class Machine(NamedTuple):
    """A host as conditions see it: two fields of uname(2)."""

    machine: str
    release: str


_THIS_MACHINE = Machine(os.uname().machine, os.uname().release)


# Made at import: msgspec crashes when two threads use a type for the first time.
_PROFILE = msgspec.json.Decoder(Profile)


def parse_profile(content: bytes) -> Profile:
    """The profile in a JSON text. Raises ``ValueError`` with the path of a wrong field."""
    try:
        return _PROFILE.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(str(error)) from error


def resolve(
    profile: Profile, capabilities: Collection[str], machine: Machine = _THIS_MACHINE
) -> dict[str, object]:
    """The runtime spec's ``linux.seccomp`` for a container with this bounding set."""
    arch, native = _ARCHES.get(machine.machine, ("", ""))
    kernel = _version(machine.release)

    def met(conditions: Conditions) -> list[bool]:
        """Whether each condition is met; each capability is a condition of its own."""
        found = [name in capabilities for name in conditions.caps or ()]
        if conditions.arches:
            found.append(arch in conditions.arches)
        if conditions.min_kernel:
            found.append(kernel >= _version(conditions.min_kernel))
        return found

    def holds(rule: Rule) -> bool:
        included = rule.includes is None or all(met(rule.includes))
        return included and not (rule.excludes is not None and any(met(rule.excludes)))

    parts: dict[str, object] = {
        "defaultErrnoRet": _number_of(profile.default_errno, profile.default_errno_ret),
        "architectures": _architectures(profile, native) or None,
        "flags": profile.flags,
        "listenerPath": profile.listener_path,
        "listenerMetadata": profile.listener_metadata,
        "syscalls": [
            _spec_rule(rule)
            for rule in profile.syscalls or ()
            if (rule.name or rule.names) and holds(rule)
        ],
    }
    given = {name: value for name, value in parts.items() if value is not None}
    return {"defaultAction": profile.default_action, **given}


def _architectures(profile: Profile, native: str) -> list[str]:
    for entry in profile.arch_map or ():
        if entry.architecture == native:
            return [native, *(entry.sub_architectures or ())]
    return profile.architectures or []


def _spec_rule(rule: Rule) -> dict[str, object]:
    spec: dict[str, object] = {
        "names": [rule.name] if rule.name else rule.names,
        "action": rule.action,
    }
    number = _number_of(rule.errno, rule.errno_ret)
    if number is not None:
        spec["errnoRet"] = number
    if rule.args:
        spec["args"] = [
            argument(each.index, each.value, each.op, each.value_two or 0) for each in rule.args
        ]
    return spec


def argument(index: int, value: int, operator: str, value_two: int = 0) -> dict[str, object]:
    """One of ``args`` of a rule in the runtime spec."""
    return {"index": index, "value": value, "valueTwo": value_two, "op": operator}


def _number_of(name: str | None, number: int | None) -> int | None:
    """The error number of a rule; the name takes precedence. Raises ``ValueError``."""
    if not name:
        return number
    if re.fullmatch(r"\d{1,5}", name, re.ASCII):
        return int(name)
    known = getattr(errno, name, None) if name.startswith("E") else None
    if not isinstance(known, int):
        raise ValueError(f"{name[:64]!r} is not an error of the kernel")
    return known


def _version(release: str) -> tuple[int, int]:
    """The first two numbers of a kernel's release; moby compares no more."""
    found = re.match(r"(\d+)\.(\d+)", release, re.ASCII)
    return (int(found[1]), int(found[2])) if found else (0, 0)
