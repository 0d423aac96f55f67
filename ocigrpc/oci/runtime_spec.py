"""The OCI runtime spec as types: https://github.com/opencontainers/runtime-spec config.md.

Runtimes refuse a value of the wrong type with a word about their own code; here it is known
beforehand, and by its path. What is missing here, newer than this or for other systems, is
passed on as it is, and so is what only a runtime can judge.
"""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from msgspec import Meta, Struct, field

from ocigrpc.oci.violations import PATH_LIMIT_BYTES

_Uint16: TypeAlias = Annotated[int, Meta(ge=0, le=(1 << 16) - 1)]
_Uint32: TypeAlias = Annotated[int, Meta(ge=0, le=(1 << 32) - 1)]
# What is beyond 64 bits is refused wherever it stands.
_Uint64: TypeAlias = Annotated[int, Meta(ge=0)]
# A runtime names what it can't use, and conmon hangs when it says too much.
_Text: TypeAlias = Annotated[str, Meta(max_length=PATH_LIMIT_BYTES)]
_Texts: TypeAlias = list[_Text] | None
_Nothing: TypeAlias = Annotated[dict[str, object], Meta(max_length=0)] | None
_NamespaceType = Literal["pid", "network", "mount", "ipc", "uts", "user", "cgroup", "time"]


class _Part(Struct, rename="camel"):
    """A part of the spec."""


class User(_Part):
    """``process.user``."""

    uid: _Uint32 = 0
    gid: _Uint32 = 0
    umask: _Uint32 | None = None
    additional_gids: list[_Uint32] | None = None


class Capabilities(_Part):
    """``process.capabilities``."""

    bounding: _Texts = None
    effective: _Texts = None
    inheritable: _Texts = None
    permitted: _Texts = None
    ambient: _Texts = None


class Rlimit(_Part):
    """One of ``process.rlimits``."""

    type: _Text
    hard: _Uint64
    soft: _Uint64


class ConsoleSize(_Part):
    """``process.consoleSize``."""

    height: _Uint64
    width: _Uint64


class Process(_Part):
    """``process``."""

    args: Annotated[list[str], Meta(min_length=1)]
    cwd: Annotated[str, Meta(pattern="^/", max_length=PATH_LIMIT_BYTES)]
    terminal: bool | None = None
    console_size: ConsoleSize | None = None
    user: User | None = None
    env: list[str] | None = None
    capabilities: Capabilities | None = None
    rlimits: list[Rlimit] | None = None
    no_new_privileges: bool | None = None
    apparmor_profile: _Text | None = None
    oom_score_adj: Annotated[int, Meta(ge=-1000, le=1000)] | None = None
    selinux_label: _Text | None = None


class Root(_Part):
    """``root``."""

    path: Annotated[str, Meta(min_length=1, max_length=PATH_LIMIT_BYTES)]
    readonly: bool | None = None


class Mount(_Part):
    """One of ``mounts``."""

    destination: Annotated[str, Meta(min_length=1, max_length=PATH_LIMIT_BYTES)]
    source: _Text | None = None
    type: _Text | None = None
    options: _Texts = None


class Namespace(_Part):
    """One of ``linux.namespaces``."""

    type: _NamespaceType
    path: _Text | None = None


class IdMapping(_Part):
    """One of ``linux.uidMappings`` or ``linux.gidMappings``."""

    container_id: _Uint32 = field(name="containerID")
    host_id: _Uint32 = field(name="hostID")
    size: _Uint32


class Device(_Part):
    """One of ``linux.devices``."""

    path: Annotated[str, Meta(min_length=1, max_length=PATH_LIMIT_BYTES)]
    type: Literal["c", "b", "u", "p"]
    major: int | None = None
    minor: int | None = None
    file_mode: _Uint32 | None = None
    uid: _Uint32 | None = None
    gid: _Uint32 | None = None


class DeviceRule(_Part):
    """One of ``linux.resources.devices``."""

    allow: bool
    type: Literal["", "a", "c", "b"] | None = None
    major: int | None = None
    minor: int | None = None
    access: _Text | None = None


class Memory(_Part):
    """``linux.resources.memory``; -1 is no limit."""

    limit: int | None = None
    reservation: int | None = None
    swap: int | None = None
    kernel: int | None = None
    kernel_tcp: int | None = field(default=None, name="kernelTCP")
    swappiness: _Uint64 | None = None
    disable_oom_killer: bool | None = field(default=None, name="disableOOMKiller")
    use_hierarchy: bool | None = None


class Cpu(_Part):
    """``linux.resources.cpu``."""

    shares: _Uint64 | None = None
    quota: int | None = None
    period: _Uint64 | None = None
    realtime_runtime: int | None = None
    realtime_period: _Uint64 | None = None
    cpus: _Text | None = None
    mems: _Text | None = None
    idle: int | None = None


class Pids(_Part):
    """``linux.resources.pids``."""

    limit: int


class HugepageLimit(_Part):
    """One of ``linux.resources.hugepageLimits``."""

    page_size: _Text
    limit: _Uint64


class Resources(_Part):
    """``linux.resources``."""

    devices: list[DeviceRule] | None = None
    memory: Memory | None = None
    cpu: Cpu | None = None
    pids: Pids | None = None
    block_io: dict[str, object] | None = field(default=None, name="blockIO")
    hugepage_limits: list[HugepageLimit] | None = None
    network: dict[str, object] | None = None
    rdma: dict[str, dict[str, _Uint32]] | None = None
    unified: dict[_Text, _Text] | None = None


class SyscallArgument(_Part, forbid_unknown_fields=True):
    """One of ``linux.seccomp.syscalls[].args``."""

    index: _Uint32
    value: _Uint64
    op: _Text
    value_two: _Uint64 | None = None


class SyscallRule(_Part, forbid_unknown_fields=True):
    """One of ``linux.seccomp.syscalls``."""

    names: Annotated[list[_Text], Meta(min_length=1)]
    action: _Text
    errno_ret: _Uint16 | None = None
    args: list[SyscallArgument] | None = None
    comment: str | None = None
    # What is left of these where nothing was asked for.
    includes: _Nothing = None
    excludes: _Nothing = None


class Seccomp(_Part, forbid_unknown_fields=True):
    """``linux.seccomp``.

    A field that is not in the runtime spec is refused here, in its parts as well: runtimes
    read past it, and profiles of other engines, which look alike, say there when a rule holds.
    """

    default_action: _Text
    default_errno_ret: _Uint16 | None = None
    architectures: _Texts = None
    flags: _Texts = None
    listener_path: _Text | None = None
    listener_metadata: _Text | None = None
    syscalls: list[SyscallRule] | None = None


class Linux(_Part):
    """``linux``."""

    namespaces: list[Namespace] | None = None
    uid_mappings: list[IdMapping] | None = None
    gid_mappings: list[IdMapping] | None = None
    devices: list[Device] | None = None
    cgroups_path: _Text | None = None
    resources: Resources | None = None
    rootfs_propagation: (
        Literal[
            "",
            "shared",
            "rshared",
            "slave",
            "rslave",
            "private",
            "rprivate",
            "unbindable",
            "runbindable",
        ]
        | None
    ) = None
    seccomp: Seccomp | None = None
    sysctl: dict[_Text, _Text] | None = None
    masked_paths: _Texts = None
    readonly_paths: _Texts = None
    mount_label: _Text | None = None


class Hook(_Part):
    """One program of ``hooks``."""

    path: Annotated[str, Meta(pattern="^/", max_length=PATH_LIMIT_BYTES)]
    args: _Texts = None
    env: list[str] | None = None
    timeout: int | None = None


class RuntimeSpec(_Part):
    """The whole."""

    oci_version: _Text
    process: Process
    root: Root
    hostname: _Text | None = None
    domainname: _Text | None = None
    mounts: list[Mount] | None = None
    linux: Linux | None = None
    hooks: dict[str, list[Hook]] | None = None
    annotations: dict[str, str] | None = None
