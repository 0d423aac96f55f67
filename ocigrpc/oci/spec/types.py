"""The OCI runtime spec as types: https://github.com/opencontainers/runtime-spec config.md.

Each part of it is named ``Spec...``; the values without that prefix are those of the contract,
in ``ocigrpc.oci.spec.config``. Runtimes refuse a value of the wrong type with a message about
their own code; a check against these types finds it earlier, and names its path. Required here
is what at least one runtime requires: the others take a missing value for zero, see
``ocigrpc.oci.go_json``. Fields that are not here, newer ones or those of other systems, are
passed on unchanged, and so is what only a runtime can judge.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, field

from ocigrpc.oci.spec.linux_types import (
    SpecIdMapping,
    SpecLinux,
    SpecPart,
    Text,
    Texts,
    Uint32,
    Uint64,
)
from ocigrpc.violations import PATH_LIMIT_BYTES

# The version of the spec that the oldest supported runtimes take.
OCI_VERSION = "1.0.2"


class SpecUser(SpecPart):
    """``process.user``."""

    uid: Uint32 = 0
    gid: Uint32 = 0
    umask: Uint32 | None = None
    additional_gids: list[Uint32] | None = None
    username: Text | None = None


class SpecCapabilities(SpecPart):
    """``process.capabilities``."""

    bounding: Texts = None
    effective: Texts = None
    inheritable: Texts = None
    permitted: Texts = None
    ambient: Texts = None


class SpecRlimit(SpecPart):
    """One of ``process.rlimits``."""

    type: Text
    hard: Uint64
    soft: Uint64


class SpecConsoleSize(SpecPart):
    """``process.consoleSize``."""

    height: Uint64
    width: Uint64


class SpecScheduler(SpecPart):
    """``process.scheduler``."""

    policy: Text
    nice: int | None = None
    priority: int | None = None
    flags: Texts = None
    runtime: Uint64 | None = None
    deadline: Uint64 | None = None
    period: Uint64 | None = None


class SpecIoPriority(SpecPart):
    """``process.ioPriority``."""

    # ``class`` is a keyword of Python.
    class_: Text = field(name="class")
    priority: int


class SpecCpuAffinity(SpecPart):
    """``process.execCPUAffinity``."""

    initial: Text | None = None
    final: Text | None = None


class SpecProcess(SpecPart):
    """``process``."""

    args: Annotated[list[str], Meta(min_length=1)]
    cwd: Annotated[str, Meta(pattern="^/", max_length=PATH_LIMIT_BYTES)]
    terminal: bool | None = None
    console_size: SpecConsoleSize | None = None
    user: SpecUser | None = None
    env: list[str] | None = None
    capabilities: SpecCapabilities | None = None
    rlimits: list[SpecRlimit] | None = None
    no_new_privileges: bool | None = None
    apparmor_profile: Text | None = None
    oom_score_adj: Annotated[int, Meta(ge=-1000, le=1000)] | None = None
    selinux_label: Text | None = None
    scheduler: SpecScheduler | None = None
    io_priority: SpecIoPriority | None = None
    exec_cpu_affinity: SpecCpuAffinity | None = field(default=None, name="execCPUAffinity")
    command_line: Text | None = None


class SpecRoot(SpecPart):
    """``root``."""

    path: Text
    readonly: bool | None = None


class SpecMount(SpecPart):
    """One of ``mounts``."""

    destination: Annotated[str, Meta(min_length=1, max_length=PATH_LIMIT_BYTES)]
    type: Text | None = None
    source: Text | None = None
    options: Texts = None
    uid_mappings: list[SpecIdMapping] | None = None
    gid_mappings: list[SpecIdMapping] | None = None


class SpecHook(SpecPart):
    """One program of ``hooks``."""

    path: Annotated[str, Meta(min_length=1, max_length=PATH_LIMIT_BYTES)]
    args: list[str] | None = None
    env: list[str] | None = None
    timeout: int | None = None


class SpecHooks(SpecPart):
    """``hooks``."""

    prestart: list[SpecHook] | None = None
    create_runtime: list[SpecHook] | None = None
    create_container: list[SpecHook] | None = None
    start_container: list[SpecHook] | None = None
    poststart: list[SpecHook] | None = None
    poststop: list[SpecHook] | None = None


class RuntimeSpec(SpecPart):
    """A whole spec."""

    oci_version: Text
    process: SpecProcess
    root: SpecRoot
    hostname: Text | None = None
    domainname: Text | None = None
    mounts: list[SpecMount] | None = None
    linux: SpecLinux | None = None
    hooks: SpecHooks | None = None
    annotations: dict[str, str] | None = None
    # Of other operating systems; named here so that they match in any letter case.
    solaris: object = None
    windows: object = None
    vm: object = None
    zos: object = None
    freebsd: object = None


class ShownProcess(SpecPart):
    """What a client is shown of ``process``."""

    args: list[str]
    cwd: str
    terminal: bool | None = None
    user: SpecUser | None = None
    env: list[str] | None = None
    capabilities: SpecCapabilities | None = None
    no_new_privileges: bool | None = None


class ShownRule(SpecPart):
    """A rule of ``linux.seccomp``; rules are only counted."""


class ShownSeccomp(SpecPart):
    """What a client is shown of ``linux.seccomp``."""

    default_action: str
    syscalls: list[ShownRule] | None = None


class ShownLinux(SpecPart):
    """What a client is shown of ``linux``."""

    seccomp: ShownSeccomp | None = None
    uid_mappings: list[SpecIdMapping] | None = None
    gid_mappings: list[SpecIdMapping] | None = None


class ShownSpec(SpecPart):
    """What a client is shown of a spec: decoded for every status, it leaves out the rest."""

    process: ShownProcess
    root: SpecRoot
    mounts: list[SpecMount] | None = None
    linux: ShownLinux | None = None
