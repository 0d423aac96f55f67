"""``linux`` of the OCI runtime spec as types: config-linux.md; see ``ocigrpc.oci.spec.types``."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from msgspec import Meta, Struct, field

from ocigrpc.violations import PATH_LIMIT_BYTES

Uint16: TypeAlias = Annotated[int, Meta(ge=0, le=(1 << 16) - 1)]
Uint32: TypeAlias = Annotated[int, Meta(ge=0, le=(1 << 32) - 1)]
# Numbers beyond 64 bits are refused wherever they stand.
Uint64: TypeAlias = Annotated[int, Meta(ge=0)]
# A runtime names in its errors what it can't use, and conmon hangs on long errors.
Text: TypeAlias = Annotated[str, Meta(max_length=PATH_LIMIT_BYTES)]
Texts: TypeAlias = list[Text] | None
_Nothing: TypeAlias = Annotated[dict[str, object], Meta(max_length=0)] | None
_Propagation = Literal[
    "", "shared", "rshared", "slave", "rslave", "private", "rprivate", "unbindable", "runbindable"
]
_NamespaceType = Literal["pid", "network", "mount", "ipc", "uts", "user", "cgroup", "time"]


class SpecPart(Struct, rename="camel", omit_defaults=True):
    """A part of the spec."""


class SpecIdMapping(SpecPart):
    """One of ``uidMappings`` or ``gidMappings``, of ``linux`` or of a mount."""

    container_id: Uint32 = field(name="containerID")
    host_id: Uint32 = field(name="hostID")
    size: Uint32


class SpecNamespace(SpecPart):
    """One of ``linux.namespaces``."""

    type: _NamespaceType
    path: Text | None = None


class SpecDevice(SpecPart):
    """One of ``linux.devices``."""

    path: Annotated[str, Meta(min_length=1, max_length=PATH_LIMIT_BYTES)]
    type: Literal["c", "b", "u", "p"]
    major: int | None = None
    minor: int | None = None
    file_mode: Uint32 | None = None
    uid: Uint32 | None = None
    gid: Uint32 | None = None


class SpecDeviceRule(SpecPart):
    """One of ``linux.resources.devices``."""

    allow: bool
    type: Literal["", "a", "c", "b"] | None = None
    major: int | None = None
    minor: int | None = None
    access: Text | None = None


class SpecMemory(SpecPart):
    """``linux.resources.memory``; -1 is no limit."""

    limit: int | None = None
    reservation: int | None = None
    swap: int | None = None
    kernel: int | None = None
    kernel_tcp: int | None = field(default=None, name="kernelTCP")
    swappiness: Uint64 | None = None
    disable_oom_killer: bool | None = field(default=None, name="disableOOMKiller")
    use_hierarchy: bool | None = None
    check_before_update: bool | None = None


class SpecCpu(SpecPart):
    """``linux.resources.cpu``."""

    shares: Uint64 | None = None
    quota: int | None = None
    burst: Uint64 | None = None
    period: Uint64 | None = None
    realtime_runtime: int | None = None
    realtime_period: Uint64 | None = None
    cpus: Text | None = None
    mems: Text | None = None
    idle: int | None = None


class SpecPids(SpecPart):
    """``linux.resources.pids``."""

    limit: int | None = None


class SpecHugepageLimit(SpecPart):
    """One of ``linux.resources.hugepageLimits``."""

    page_size: Text
    limit: Uint64


class SpecWeightDevice(SpecPart):
    """One of ``linux.resources.blockIO.weightDevice``."""

    major: int
    minor: int
    weight: Uint16 | None = None
    leaf_weight: Uint16 | None = None


class SpecThrottleDevice(SpecPart):
    """One of the devices in ``linux.resources.blockIO`` that have a limit."""

    major: int
    minor: int
    rate: Uint64


class SpecBlockIo(SpecPart):
    """``linux.resources.blockIO``."""

    weight: Uint16 | None = None
    leaf_weight: Uint16 | None = None
    weight_device: list[SpecWeightDevice] | None = None
    throttle_read_bps_device: list[SpecThrottleDevice] | None = None
    throttle_write_bps_device: list[SpecThrottleDevice] | None = None
    throttle_read_iops_device: list[SpecThrottleDevice] | None = field(
        default=None, name="throttleReadIOPSDevice"
    )
    throttle_write_iops_device: list[SpecThrottleDevice] | None = field(
        default=None, name="throttleWriteIOPSDevice"
    )


class SpecInterfacePriority(SpecPart):
    """One of ``linux.resources.network.priorities``."""

    name: Text
    priority: Uint32


class SpecNetwork(SpecPart):
    """``linux.resources.network``."""

    class_id: Uint32 | None = field(default=None, name="classID")
    priorities: list[SpecInterfacePriority] | None = None


class SpecRdma(SpecPart):
    """One of ``linux.resources.rdma``."""

    hca_handles: Uint32 | None = None
    hca_objects: Uint32 | None = None


class SpecResources(SpecPart):
    """``linux.resources``."""

    devices: list[SpecDeviceRule] | None = None
    memory: SpecMemory | None = None
    cpu: SpecCpu | None = None
    pids: SpecPids | None = None
    block_io: SpecBlockIo | None = field(default=None, name="blockIO")
    hugepage_limits: list[SpecHugepageLimit] | None = None
    network: SpecNetwork | None = None
    rdma: dict[str, SpecRdma] | None = None
    unified: dict[Text, Text] | None = None


class SpecSyscallArgument(SpecPart, forbid_unknown_fields=True):
    """One of ``linux.seccomp.syscalls[].args``."""

    index: Uint32
    value: Uint64
    op: Text
    value_two: Uint64 | None = None


class SpecSyscallRule(SpecPart, forbid_unknown_fields=True):
    """One of ``linux.seccomp.syscalls``."""

    names: list[Text]
    action: Text
    errno_ret: Uint16 | None = None
    args: list[SpecSyscallArgument] | None = None
    comment: str | None = None
    # Conditions of other engines, which may only be empty here.
    includes: _Nothing = None
    excludes: _Nothing = None


class SpecSeccomp(SpecPart, forbid_unknown_fields=True):
    """``linux.seccomp``.

    Fields that are not in the runtime spec are refused, here and in the parts: runtimes ignore
    them, but profiles of other engines, which look alike, have the conditions of rules there.
    """

    default_action: Text
    default_errno_ret: Uint16 | None = None
    architectures: Texts = None
    flags: Texts = None
    listener_path: Text | None = None
    listener_metadata: Text | None = None
    syscalls: list[SpecSyscallRule] | None = None


class SpecNetDevice(SpecPart):
    """One of ``linux.netDevices``."""

    name: Text | None = None


class SpecIntelRdt(SpecPart):
    """``linux.intelRdt``."""

    clos_id: Text | None = field(default=None, name="closID")
    schemata: Texts = None
    l3_cache_schema: Text | None = None
    mem_bw_schema: Text | None = None
    enable_cmt: bool | None = field(default=None, name="enableCMT")
    enable_mbm: bool | None = field(default=None, name="enableMBM")
    enable_monitoring: bool | None = None


class SpecMemoryPolicy(SpecPart):
    """``linux.memoryPolicy``."""

    mode: Text
    nodes: Text | None = None
    flags: Texts = None


class SpecPersonality(SpecPart):
    """``linux.personality``."""

    domain: Text
    flags: Texts = None


class SpecTimeOffset(SpecPart):
    """One of ``linux.timeOffsets``."""

    secs: int | None = None
    nanosecs: Uint32 | None = None


class SpecLinux(SpecPart):
    """``linux``."""

    namespaces: list[SpecNamespace] | None = None
    uid_mappings: list[SpecIdMapping] | None = None
    gid_mappings: list[SpecIdMapping] | None = None
    devices: list[SpecDevice] | None = None
    cgroups_path: Text | None = None
    resources: SpecResources | None = None
    rootfs_propagation: _Propagation | None = None
    seccomp: SpecSeccomp | None = None
    sysctl: dict[Text, Text] | None = None
    masked_paths: Texts = None
    readonly_paths: Texts = None
    mount_label: Text | None = None
    net_devices: dict[str, SpecNetDevice] | None = None
    intel_rdt: SpecIntelRdt | None = None
    memory_policy: SpecMemoryPolicy | None = None
    personality: SpecPersonality | None = None
    time_offsets: dict[str, SpecTimeOffset] | None = None
