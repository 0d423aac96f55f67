from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class MountPropagation(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    MOUNT_PROPAGATION_UNSPECIFIED: _ClassVar[MountPropagation]
    MOUNT_PROPAGATION_PRIVATE: _ClassVar[MountPropagation]
    MOUNT_PROPAGATION_HOST_TO_CONTAINER: _ClassVar[MountPropagation]
    MOUNT_PROPAGATION_BIDIRECTIONAL: _ClassVar[MountPropagation]

class SeccompType(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SECCOMP_TYPE_UNSPECIFIED: _ClassVar[SeccompType]
    SECCOMP_TYPE_RUNTIME_DEFAULT: _ClassVar[SeccompType]
    SECCOMP_TYPE_UNCONFINED: _ClassVar[SeccompType]
    SECCOMP_TYPE_LOCALHOST: _ClassVar[SeccompType]

class NamespaceType(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    NAMESPACE_TYPE_UNSPECIFIED: _ClassVar[NamespaceType]
    NAMESPACE_TYPE_PID: _ClassVar[NamespaceType]
    NAMESPACE_TYPE_NETWORK: _ClassVar[NamespaceType]
    NAMESPACE_TYPE_IPC: _ClassVar[NamespaceType]
    NAMESPACE_TYPE_UTS: _ClassVar[NamespaceType]
    NAMESPACE_TYPE_CGROUP: _ClassVar[NamespaceType]

class NamespaceMode(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    NAMESPACE_MODE_UNSPECIFIED: _ClassVar[NamespaceMode]
    NAMESPACE_MODE_PRIVATE: _ClassVar[NamespaceMode]
    NAMESPACE_MODE_HOST: _ClassVar[NamespaceMode]
    NAMESPACE_MODE_PATH: _ClassVar[NamespaceMode]

class DeviceType(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DEVICE_TYPE_UNSPECIFIED: _ClassVar[DeviceType]
    DEVICE_TYPE_ALL: _ClassVar[DeviceType]
    DEVICE_TYPE_CHARACTER: _ClassVar[DeviceType]
    DEVICE_TYPE_BLOCK: _ClassVar[DeviceType]
MOUNT_PROPAGATION_UNSPECIFIED: MountPropagation
MOUNT_PROPAGATION_PRIVATE: MountPropagation
MOUNT_PROPAGATION_HOST_TO_CONTAINER: MountPropagation
MOUNT_PROPAGATION_BIDIRECTIONAL: MountPropagation
SECCOMP_TYPE_UNSPECIFIED: SeccompType
SECCOMP_TYPE_RUNTIME_DEFAULT: SeccompType
SECCOMP_TYPE_UNCONFINED: SeccompType
SECCOMP_TYPE_LOCALHOST: SeccompType
NAMESPACE_TYPE_UNSPECIFIED: NamespaceType
NAMESPACE_TYPE_PID: NamespaceType
NAMESPACE_TYPE_NETWORK: NamespaceType
NAMESPACE_TYPE_IPC: NamespaceType
NAMESPACE_TYPE_UTS: NamespaceType
NAMESPACE_TYPE_CGROUP: NamespaceType
NAMESPACE_MODE_UNSPECIFIED: NamespaceMode
NAMESPACE_MODE_PRIVATE: NamespaceMode
NAMESPACE_MODE_HOST: NamespaceMode
NAMESPACE_MODE_PATH: NamespaceMode
DEVICE_TYPE_UNSPECIFIED: DeviceType
DEVICE_TYPE_ALL: DeviceType
DEVICE_TYPE_CHARACTER: DeviceType
DEVICE_TYPE_BLOCK: DeviceType

class ContainerConfig(_message.Message):
    __slots__ = ("rootfs_path", "command", "args", "env", "working_dir", "user", "supplemental_groups", "mounts", "resources", "add_capabilities", "drop_capabilities", "no_new_privileges", "seccomp", "masked_paths", "readonly_paths", "readonly_rootfs", "hostname", "sysctls", "namespaces", "devices", "rlimits", "privileged", "add_ambient_capabilities", "device_cgroup_rules", "image", "user_namespace", "rootfs_limit_bytes")
    class EnvEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    class SysctlsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    ROOTFS_PATH_FIELD_NUMBER: _ClassVar[int]
    COMMAND_FIELD_NUMBER: _ClassVar[int]
    ARGS_FIELD_NUMBER: _ClassVar[int]
    ENV_FIELD_NUMBER: _ClassVar[int]
    WORKING_DIR_FIELD_NUMBER: _ClassVar[int]
    USER_FIELD_NUMBER: _ClassVar[int]
    SUPPLEMENTAL_GROUPS_FIELD_NUMBER: _ClassVar[int]
    MOUNTS_FIELD_NUMBER: _ClassVar[int]
    RESOURCES_FIELD_NUMBER: _ClassVar[int]
    ADD_CAPABILITIES_FIELD_NUMBER: _ClassVar[int]
    DROP_CAPABILITIES_FIELD_NUMBER: _ClassVar[int]
    NO_NEW_PRIVILEGES_FIELD_NUMBER: _ClassVar[int]
    SECCOMP_FIELD_NUMBER: _ClassVar[int]
    MASKED_PATHS_FIELD_NUMBER: _ClassVar[int]
    READONLY_PATHS_FIELD_NUMBER: _ClassVar[int]
    READONLY_ROOTFS_FIELD_NUMBER: _ClassVar[int]
    HOSTNAME_FIELD_NUMBER: _ClassVar[int]
    SYSCTLS_FIELD_NUMBER: _ClassVar[int]
    NAMESPACES_FIELD_NUMBER: _ClassVar[int]
    DEVICES_FIELD_NUMBER: _ClassVar[int]
    RLIMITS_FIELD_NUMBER: _ClassVar[int]
    PRIVILEGED_FIELD_NUMBER: _ClassVar[int]
    ADD_AMBIENT_CAPABILITIES_FIELD_NUMBER: _ClassVar[int]
    DEVICE_CGROUP_RULES_FIELD_NUMBER: _ClassVar[int]
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    USER_NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    ROOTFS_LIMIT_BYTES_FIELD_NUMBER: _ClassVar[int]
    rootfs_path: str
    command: _containers.RepeatedScalarFieldContainer[str]
    args: _containers.RepeatedScalarFieldContainer[str]
    env: _containers.ScalarMap[str, str]
    working_dir: str
    user: str
    supplemental_groups: _containers.RepeatedScalarFieldContainer[int]
    mounts: _containers.RepeatedCompositeFieldContainer[Mount]
    resources: LinuxContainerResources
    add_capabilities: _containers.RepeatedScalarFieldContainer[str]
    drop_capabilities: _containers.RepeatedScalarFieldContainer[str]
    no_new_privileges: bool
    seccomp: SeccompProfile
    masked_paths: PathList
    readonly_paths: PathList
    readonly_rootfs: bool
    hostname: str
    sysctls: _containers.ScalarMap[str, str]
    namespaces: _containers.RepeatedCompositeFieldContainer[Namespace]
    devices: _containers.RepeatedCompositeFieldContainer[Device]
    rlimits: _containers.RepeatedCompositeFieldContainer[Rlimit]
    privileged: bool
    add_ambient_capabilities: _containers.RepeatedScalarFieldContainer[str]
    device_cgroup_rules: _containers.RepeatedCompositeFieldContainer[DeviceCgroupRule]
    image: str
    user_namespace: UserNamespace
    rootfs_limit_bytes: int
    def __init__(self, rootfs_path: _Optional[str] = ..., command: _Optional[_Iterable[str]] = ..., args: _Optional[_Iterable[str]] = ..., env: _Optional[_Mapping[str, str]] = ..., working_dir: _Optional[str] = ..., user: _Optional[str] = ..., supplemental_groups: _Optional[_Iterable[int]] = ..., mounts: _Optional[_Iterable[_Union[Mount, _Mapping]]] = ..., resources: _Optional[_Union[LinuxContainerResources, _Mapping]] = ..., add_capabilities: _Optional[_Iterable[str]] = ..., drop_capabilities: _Optional[_Iterable[str]] = ..., no_new_privileges: bool = ..., seccomp: _Optional[_Union[SeccompProfile, _Mapping]] = ..., masked_paths: _Optional[_Union[PathList, _Mapping]] = ..., readonly_paths: _Optional[_Union[PathList, _Mapping]] = ..., readonly_rootfs: bool = ..., hostname: _Optional[str] = ..., sysctls: _Optional[_Mapping[str, str]] = ..., namespaces: _Optional[_Iterable[_Union[Namespace, _Mapping]]] = ..., devices: _Optional[_Iterable[_Union[Device, _Mapping]]] = ..., rlimits: _Optional[_Iterable[_Union[Rlimit, _Mapping]]] = ..., privileged: bool = ..., add_ambient_capabilities: _Optional[_Iterable[str]] = ..., device_cgroup_rules: _Optional[_Iterable[_Union[DeviceCgroupRule, _Mapping]]] = ..., image: _Optional[str] = ..., user_namespace: _Optional[_Union[UserNamespace, _Mapping]] = ..., rootfs_limit_bytes: _Optional[int] = ...) -> None: ...

class UserNamespace(_message.Message):
    __slots__ = ("uid_mappings", "gid_mappings")
    UID_MAPPINGS_FIELD_NUMBER: _ClassVar[int]
    GID_MAPPINGS_FIELD_NUMBER: _ClassVar[int]
    uid_mappings: _containers.RepeatedCompositeFieldContainer[IdMapping]
    gid_mappings: _containers.RepeatedCompositeFieldContainer[IdMapping]
    def __init__(self, uid_mappings: _Optional[_Iterable[_Union[IdMapping, _Mapping]]] = ..., gid_mappings: _Optional[_Iterable[_Union[IdMapping, _Mapping]]] = ...) -> None: ...

class IdMapping(_message.Message):
    __slots__ = ("container_id", "host_id", "size")
    CONTAINER_ID_FIELD_NUMBER: _ClassVar[int]
    HOST_ID_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    container_id: int
    host_id: int
    size: int
    def __init__(self, container_id: _Optional[int] = ..., host_id: _Optional[int] = ..., size: _Optional[int] = ...) -> None: ...

class Mount(_message.Message):
    __slots__ = ("container_path", "host_path", "type", "readonly", "propagation", "options")
    CONTAINER_PATH_FIELD_NUMBER: _ClassVar[int]
    HOST_PATH_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    READONLY_FIELD_NUMBER: _ClassVar[int]
    PROPAGATION_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    container_path: str
    host_path: str
    type: str
    readonly: bool
    propagation: MountPropagation
    options: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, container_path: _Optional[str] = ..., host_path: _Optional[str] = ..., type: _Optional[str] = ..., readonly: bool = ..., propagation: _Optional[_Union[MountPropagation, str]] = ..., options: _Optional[_Iterable[str]] = ...) -> None: ...

class LinuxContainerResources(_message.Message):
    __slots__ = ("cpu_period", "cpu_quota", "cpu_shares", "memory_limit_in_bytes", "oom_score_adj", "cpuset_cpus", "cpuset_mems", "memory_swap_limit_in_bytes", "pids_limit", "unified", "cpu_weight", "hugepage_limits")
    class UnifiedEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    CPU_PERIOD_FIELD_NUMBER: _ClassVar[int]
    CPU_QUOTA_FIELD_NUMBER: _ClassVar[int]
    CPU_SHARES_FIELD_NUMBER: _ClassVar[int]
    MEMORY_LIMIT_IN_BYTES_FIELD_NUMBER: _ClassVar[int]
    OOM_SCORE_ADJ_FIELD_NUMBER: _ClassVar[int]
    CPUSET_CPUS_FIELD_NUMBER: _ClassVar[int]
    CPUSET_MEMS_FIELD_NUMBER: _ClassVar[int]
    MEMORY_SWAP_LIMIT_IN_BYTES_FIELD_NUMBER: _ClassVar[int]
    PIDS_LIMIT_FIELD_NUMBER: _ClassVar[int]
    UNIFIED_FIELD_NUMBER: _ClassVar[int]
    CPU_WEIGHT_FIELD_NUMBER: _ClassVar[int]
    HUGEPAGE_LIMITS_FIELD_NUMBER: _ClassVar[int]
    cpu_period: int
    cpu_quota: int
    cpu_shares: int
    memory_limit_in_bytes: int
    oom_score_adj: int
    cpuset_cpus: str
    cpuset_mems: str
    memory_swap_limit_in_bytes: int
    pids_limit: int
    unified: _containers.ScalarMap[str, str]
    cpu_weight: int
    hugepage_limits: _containers.RepeatedCompositeFieldContainer[HugepageLimit]
    def __init__(self, cpu_period: _Optional[int] = ..., cpu_quota: _Optional[int] = ..., cpu_shares: _Optional[int] = ..., memory_limit_in_bytes: _Optional[int] = ..., oom_score_adj: _Optional[int] = ..., cpuset_cpus: _Optional[str] = ..., cpuset_mems: _Optional[str] = ..., memory_swap_limit_in_bytes: _Optional[int] = ..., pids_limit: _Optional[int] = ..., unified: _Optional[_Mapping[str, str]] = ..., cpu_weight: _Optional[int] = ..., hugepage_limits: _Optional[_Iterable[_Union[HugepageLimit, _Mapping]]] = ...) -> None: ...

class HugepageLimit(_message.Message):
    __slots__ = ("page_size", "limit")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    page_size: str
    limit: int
    def __init__(self, page_size: _Optional[str] = ..., limit: _Optional[int] = ...) -> None: ...

class SeccompProfile(_message.Message):
    __slots__ = ("type", "localhost_ref")
    TYPE_FIELD_NUMBER: _ClassVar[int]
    LOCALHOST_REF_FIELD_NUMBER: _ClassVar[int]
    type: SeccompType
    localhost_ref: str
    def __init__(self, type: _Optional[_Union[SeccompType, str]] = ..., localhost_ref: _Optional[str] = ...) -> None: ...

class PathList(_message.Message):
    __slots__ = ("paths",)
    PATHS_FIELD_NUMBER: _ClassVar[int]
    paths: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, paths: _Optional[_Iterable[str]] = ...) -> None: ...

class Namespace(_message.Message):
    __slots__ = ("type", "mode", "path")
    TYPE_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    type: NamespaceType
    mode: NamespaceMode
    path: str
    def __init__(self, type: _Optional[_Union[NamespaceType, str]] = ..., mode: _Optional[_Union[NamespaceMode, str]] = ..., path: _Optional[str] = ...) -> None: ...

class Device(_message.Message):
    __slots__ = ("container_path", "host_path", "permissions")
    CONTAINER_PATH_FIELD_NUMBER: _ClassVar[int]
    HOST_PATH_FIELD_NUMBER: _ClassVar[int]
    PERMISSIONS_FIELD_NUMBER: _ClassVar[int]
    container_path: str
    host_path: str
    permissions: str
    def __init__(self, container_path: _Optional[str] = ..., host_path: _Optional[str] = ..., permissions: _Optional[str] = ...) -> None: ...

class DeviceCgroupRule(_message.Message):
    __slots__ = ("type", "major", "minor", "permissions")
    TYPE_FIELD_NUMBER: _ClassVar[int]
    MAJOR_FIELD_NUMBER: _ClassVar[int]
    MINOR_FIELD_NUMBER: _ClassVar[int]
    PERMISSIONS_FIELD_NUMBER: _ClassVar[int]
    type: DeviceType
    major: int
    minor: int
    permissions: str
    def __init__(self, type: _Optional[_Union[DeviceType, str]] = ..., major: _Optional[int] = ..., minor: _Optional[int] = ..., permissions: _Optional[str] = ...) -> None: ...

class Rlimit(_message.Message):
    __slots__ = ("type", "soft", "hard")
    TYPE_FIELD_NUMBER: _ClassVar[int]
    SOFT_FIELD_NUMBER: _ClassVar[int]
    HARD_FIELD_NUMBER: _ClassVar[int]
    type: str
    soft: int
    hard: int
    def __init__(self, type: _Optional[str] = ..., soft: _Optional[int] = ..., hard: _Optional[int] = ...) -> None: ...
