"""A container's config in CRI's terms, as frozen values; ``ocigrpc.oci.spec.build`` reads it.

These are the messages of ``protos/ocigrpc/v1/config.proto``, field for field; the meaning of
each field is documented there.
"""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct


class Propagation(StrEnum):
    """How mounts propagate between host and container; mount_namespaces(7)."""

    PRIVATE = "private"
    HOST_TO_CONTAINER = "host_to_container"
    BIDIRECTIONAL = "bidirectional"


class NamespaceType(StrEnum):
    """The namespaces that a container may share, by the OCI runtime spec's names."""

    PID = "pid"
    NETWORK = "network"
    IPC = "ipc"
    UTS = "uts"
    CGROUP = "cgroup"


class NamespaceMode(StrEnum):
    """Where a namespace comes from."""

    PRIVATE = "private"
    HOST = "host"
    PATH = "path"


class DeviceType(StrEnum):
    """The devices that a rule covers."""

    ALL = "all"
    CHARACTER = "character"
    BLOCK = "block"


class SeccompType(StrEnum):
    """Where the seccomp profile comes from."""

    RUNTIME_DEFAULT = "runtime_default"
    UNCONFINED = "unconfined"
    LOCALHOST = "localhost"


class Mount(Struct, frozen=True, omit_defaults=True):
    """One mount."""

    container_path: str
    host_path: str = ""
    type: str = ""
    readonly: bool = False
    propagation: Propagation = Propagation.PRIVATE
    options: tuple[str, ...] = ()


class HugepageLimit(Struct, frozen=True, omit_defaults=True):
    """Most bytes in huge pages of one size."""

    page_size: str
    limit: int = 0


class Resources(Struct, frozen=True, omit_defaults=True):
    """Limits of a cgroup: 0 and None are not given, -1 and an empty cpuset lift a limit."""

    cpu_period: int = 0
    cpu_quota: int = 0
    cpu_shares: int = 0
    memory_limit_in_bytes: int = 0
    oom_score_adj: int = 0
    cpuset_cpus: str | None = None
    cpuset_mems: str | None = None
    memory_swap_limit_in_bytes: int = 0
    pids_limit: int = 0
    unified: dict[str, str] = {}
    cpu_weight: int = 0
    hugepage_limits: tuple[HugepageLimit, ...] = ()


class Seccomp(Struct, frozen=True, omit_defaults=True):
    """A seccomp profile; ``localhost_ref`` goes with ``LOCALHOST`` only."""

    type: SeccompType = SeccompType.RUNTIME_DEFAULT
    localhost_ref: str = ""


class Namespace(Struct, frozen=True, omit_defaults=True):
    """A namespace that the config names."""

    type: NamespaceType
    mode: NamespaceMode = NamespaceMode.PRIVATE
    path: str = ""


class Device(Struct, frozen=True, omit_defaults=True):
    """A device of the host."""

    host_path: str
    container_path: str = ""
    permissions: str = ""


class DeviceCgroupRule(Struct, frozen=True, omit_defaults=True):
    """Devices that may be used; a number that is None stands for all."""

    type: DeviceType
    major: int | None = None
    minor: int | None = None
    permissions: str = ""


class Rlimit(Struct, frozen=True, omit_defaults=True):
    """A limit of setrlimit(2)."""

    type: str
    soft: int
    hard: int


class IdMapping(Struct, frozen=True):
    """A range of users or groups: which the container has, and which the host has for them."""

    container_id: int
    host_id: int
    size: int


class UserNamespace(Struct, frozen=True):
    """The users and groups of a container with a user namespace of its own."""

    uid_mappings: tuple[IdMapping, ...]
    gid_mappings: tuple[IdMapping, ...]


class ContainerConfig(Struct, frozen=True, omit_defaults=True):
    """What to run. ``None`` is an absent field of the message."""

    rootfs_path: str
    command: tuple[str, ...] = ()
    args: tuple[str, ...] = ()
    env: dict[str, str] = {}
    working_dir: str = ""
    user: str = ""
    supplemental_groups: tuple[int, ...] = ()
    mounts: tuple[Mount, ...] = ()
    resources: Resources = Resources()
    add_capabilities: tuple[str, ...] = ()
    drop_capabilities: tuple[str, ...] = ()
    no_new_privileges: bool | None = None
    seccomp: Seccomp | None = None
    masked_paths: tuple[str, ...] | None = None
    readonly_paths: tuple[str, ...] | None = None
    readonly_rootfs: bool = False
    hostname: str = ""
    sysctls: dict[str, str] = {}
    namespaces: tuple[Namespace, ...] = ()
    devices: tuple[Device, ...] = ()
    rlimits: tuple[Rlimit, ...] = ()
    privileged: bool = False
    add_ambient_capabilities: tuple[str, ...] = ()
    device_cgroup_rules: tuple[DeviceCgroupRule, ...] = ()
    image: str = ""
    rootfs_limit_bytes: int = 0
    user_namespace: UserNamespace | None = None
