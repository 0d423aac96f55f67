"""The OCI runtime spec as types: https://github.com/opencontainers/runtime-spec config.md.

Runtimes refuse a value of the wrong type with a word about their own code; here it is known
beforehand, and by its path. What is required here is what some runtime requires: where it is
missing, others take it for zero, see ``ocigrpc.oci.go_json``. What is not here, newer than
this or for other systems, is passed on as it is, and so is what only a runtime can judge.
"""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from msgspec import Meta, Struct, field

from ocigrpc.violations import PATH_LIMIT_BYTES

OCI_VERSION = "1.0.2"
"""The spec's version: what the oldest supported runtimes take."""

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
    username: _Text | None = None


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


class Scheduler(_Part):
    """``process.scheduler``."""

    policy: _Text
    nice: int | None = None
    priority: int | None = None
    flags: _Texts = None
    runtime: _Uint64 | None = None
    deadline: _Uint64 | None = None
    period: _Uint64 | None = None


class IoPriority(_Part):
    """``process.ioPriority``."""

    # Python's "class" is no name of a field.
    class_: _Text = field(name="class")
    priority: int


class CpuAffinity(_Part):
    """``process.execCPUAffinity``."""

    initial: _Text | None = None
    final: _Text | None = None


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
    scheduler: Scheduler | None = None
    io_priority: IoPriority | None = None
    exec_cpu_affinity: CpuAffinity | None = field(default=None, name="execCPUAffinity")
    command_line: _Text | None = None


class Root(_Part):
    """``root``."""

    path: _Text
    readonly: bool | None = None


class IdMapping(_Part):
    """One of ``uidMappings`` or ``gidMappings``, of ``linux`` or of a mount."""

    container_id: _Uint32 = field(name="containerID")
    host_id: _Uint32 = field(name="hostID")
    size: _Uint32


class Mount(_Part):
    """One of ``mounts``."""

    destination: Annotated[str, Meta(min_length=1, max_length=PATH_LIMIT_BYTES)]
    source: _Text | None = None
    type: _Text | None = None
    options: _Texts = None
    uid_mappings: list[IdMapping] | None = None
    gid_mappings: list[IdMapping] | None = None


class Namespace(_Part):
    """One of ``linux.namespaces``."""

    type: _NamespaceType
    path: _Text | None = None


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
    check_before_update: bool | None = None


class Cpu(_Part):
    """``linux.resources.cpu``."""

    shares: _Uint64 | None = None
    quota: int | None = None
    burst: _Uint64 | None = None
    period: _Uint64 | None = None
    realtime_runtime: int | None = None
    realtime_period: _Uint64 | None = None
    cpus: _Text | None = None
    mems: _Text | None = None
    idle: int | None = None


class Pids(_Part):
    """``linux.resources.pids``."""

    limit: int | None = None


class HugepageLimit(_Part):
    """One of ``linux.resources.hugepageLimits``."""

    page_size: _Text
    limit: _Uint64


class WeightDevice(_Part):
    """One of ``linux.resources.blockIO.weightDevice``."""

    major: int
    minor: int
    weight: _Uint16 | None = None
    leaf_weight: _Uint16 | None = None


class ThrottleDevice(_Part):
    """One of the devices in ``linux.resources.blockIO`` that have a limit."""

    major: int
    minor: int
    rate: _Uint64


class BlockIo(_Part):
    """``linux.resources.blockIO``."""

    weight: _Uint16 | None = None
    leaf_weight: _Uint16 | None = None
    weight_device: list[WeightDevice] | None = None
    throttle_read_bps_device: list[ThrottleDevice] | None = None
    throttle_write_bps_device: list[ThrottleDevice] | None = None
    throttle_read_iops_device: list[ThrottleDevice] | None = field(
        default=None, name="throttleReadIOPSDevice"
    )
    throttle_write_iops_device: list[ThrottleDevice] | None = field(
        default=None, name="throttleWriteIOPSDevice"
    )


class InterfacePriority(_Part):
    """One of ``linux.resources.network.priorities``."""

    name: _Text
    priority: _Uint32


class Network(_Part):
    """``linux.resources.network``."""

    class_id: _Uint32 | None = field(default=None, name="classID")
    priorities: list[InterfacePriority] | None = None


class Rdma(_Part):
    """One of ``linux.resources.rdma``."""

    hca_handles: _Uint32 | None = None
    hca_objects: _Uint32 | None = None


class Resources(_Part):
    """``linux.resources``."""

    devices: list[DeviceRule] | None = None
    memory: Memory | None = None
    cpu: Cpu | None = None
    pids: Pids | None = None
    block_io: BlockIo | None = field(default=None, name="blockIO")
    hugepage_limits: list[HugepageLimit] | None = None
    network: Network | None = None
    rdma: dict[str, Rdma] | None = None
    unified: dict[_Text, _Text] | None = None


class SyscallArgument(_Part, forbid_unknown_fields=True):
    """One of ``linux.seccomp.syscalls[].args``."""

    index: _Uint32
    value: _Uint64
    op: _Text
    value_two: _Uint64 | None = None


class SyscallRule(_Part, forbid_unknown_fields=True):
    """One of ``linux.seccomp.syscalls``."""

    names: list[_Text]
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


class NetDevice(_Part):
    """One of ``linux.netDevices``."""

    name: _Text | None = None


class IntelRdt(_Part):
    """``linux.intelRdt``."""

    clos_id: _Text | None = field(default=None, name="closID")
    schemata: _Texts = None
    l3_cache_schema: _Text | None = None
    mem_bw_schema: _Text | None = None
    enable_cmt: bool | None = field(default=None, name="enableCMT")
    enable_mbm: bool | None = field(default=None, name="enableMBM")
    enable_monitoring: bool | None = None


class MemoryPolicy(_Part):
    """``linux.memoryPolicy``."""

    mode: _Text
    nodes: _Text | None = None
    flags: _Texts = None


class Personality(_Part):
    """``linux.personality``."""

    domain: _Text
    flags: _Texts = None


class TimeOffset(_Part):
    """One of ``linux.timeOffsets``."""

    secs: int | None = None
    nanosecs: _Uint32 | None = None


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
    net_devices: dict[str, NetDevice] | None = None
    intel_rdt: IntelRdt | None = None
    memory_policy: MemoryPolicy | None = None
    personality: Personality | None = None
    time_offsets: dict[str, TimeOffset] | None = None


class Hook(_Part):
    """One program of ``hooks``."""

    path: Annotated[str, Meta(min_length=1, max_length=PATH_LIMIT_BYTES)]
    args: list[str] | None = None
    env: list[str] | None = None
    timeout: int | None = None


class Hooks(_Part):
    """``hooks``."""

    prestart: list[Hook] | None = None
    create_runtime: list[Hook] | None = None
    create_container: list[Hook] | None = None
    start_container: list[Hook] | None = None
    poststart: list[Hook] | None = None
    poststop: list[Hook] | None = None


class RuntimeSpec(_Part):
    """The whole."""

    oci_version: _Text
    process: Process
    root: Root
    hostname: _Text | None = None
    domainname: _Text | None = None
    mounts: list[Mount] | None = None
    linux: Linux | None = None
    hooks: Hooks | None = None
    annotations: dict[str, str] | None = None
    # Of other systems; by name, so that they are found in any case.
    solaris: object = None
    windows: object = None
    vm: object = None
    zos: object = None
    freebsd: object = None
