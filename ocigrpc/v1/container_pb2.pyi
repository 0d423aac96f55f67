import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from ocigrpc.v1 import config_pb2 as _config_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ContainerState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CONTAINER_STATE_UNSPECIFIED: _ClassVar[ContainerState]
    CONTAINER_STATE_CREATING: _ClassVar[ContainerState]
    CONTAINER_STATE_CREATED: _ClassVar[ContainerState]
    CONTAINER_STATE_RUNNING: _ClassVar[ContainerState]
    CONTAINER_STATE_PAUSED: _ClassVar[ContainerState]
    CONTAINER_STATE_STOPPED: _ClassVar[ContainerState]
    CONTAINER_STATE_UNKNOWN: _ClassVar[ContainerState]

class ExitProvenance(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    EXIT_PROVENANCE_UNSPECIFIED: _ClassVar[ExitProvenance]
    EXIT_PROVENANCE_EXIT_FILE: _ClassVar[ExitProvenance]
    EXIT_PROVENANCE_PENDING: _ClassVar[ExitProvenance]
    EXIT_PROVENANCE_FILE_MISSING: _ClassVar[ExitProvenance]
    EXIT_PROVENANCE_FILE_EMPTY: _ClassVar[ExitProvenance]
    EXIT_PROVENANCE_FILE_INVALID: _ClassVar[ExitProvenance]
    EXIT_PROVENANCE_MONITOR_LOST: _ClassVar[ExitProvenance]
    EXIT_PROVENANCE_REBOOT: _ClassVar[ExitProvenance]
    EXIT_PROVENANCE_MONITOR_HUNG: _ClassVar[ExitProvenance]

class MonitorLostPolicy(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    MONITOR_LOST_POLICY_UNSPECIFIED: _ClassVar[MonitorLostPolicy]
    MONITOR_LOST_POLICY_LEAVE: _ClassVar[MonitorLostPolicy]
    MONITOR_LOST_POLICY_KILL: _ClassVar[MonitorLostPolicy]
CONTAINER_STATE_UNSPECIFIED: ContainerState
CONTAINER_STATE_CREATING: ContainerState
CONTAINER_STATE_CREATED: ContainerState
CONTAINER_STATE_RUNNING: ContainerState
CONTAINER_STATE_PAUSED: ContainerState
CONTAINER_STATE_STOPPED: ContainerState
CONTAINER_STATE_UNKNOWN: ContainerState
EXIT_PROVENANCE_UNSPECIFIED: ExitProvenance
EXIT_PROVENANCE_EXIT_FILE: ExitProvenance
EXIT_PROVENANCE_PENDING: ExitProvenance
EXIT_PROVENANCE_FILE_MISSING: ExitProvenance
EXIT_PROVENANCE_FILE_EMPTY: ExitProvenance
EXIT_PROVENANCE_FILE_INVALID: ExitProvenance
EXIT_PROVENANCE_MONITOR_LOST: ExitProvenance
EXIT_PROVENANCE_REBOOT: ExitProvenance
EXIT_PROVENANCE_MONITOR_HUNG: ExitProvenance
MONITOR_LOST_POLICY_UNSPECIFIED: MonitorLostPolicy
MONITOR_LOST_POLICY_LEAVE: MonitorLostPolicy
MONITOR_LOST_POLICY_KILL: MonitorLostPolicy

class ExitStatus(_message.Message):
    __slots__ = ("exit_code", "signal", "finished_at", "oom_killed", "provenance", "message")
    EXIT_CODE_FIELD_NUMBER: _ClassVar[int]
    SIGNAL_FIELD_NUMBER: _ClassVar[int]
    FINISHED_AT_FIELD_NUMBER: _ClassVar[int]
    OOM_KILLED_FIELD_NUMBER: _ClassVar[int]
    PROVENANCE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    exit_code: int
    signal: int
    finished_at: _timestamp_pb2.Timestamp
    oom_killed: bool
    provenance: ExitProvenance
    message: str
    def __init__(self, exit_code: _Optional[int] = ..., signal: _Optional[int] = ..., finished_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., oom_killed: bool = ..., provenance: _Optional[_Union[ExitProvenance, str]] = ..., message: _Optional[str] = ...) -> None: ...

class ContainerStatus(_message.Message):
    __slots__ = ("container_id", "name", "state", "pid", "created_at", "started_at", "exit_status", "log_path", "labels", "annotations", "runtime_handler", "bundle_path", "cgroup_path", "terminal", "stdin", "monitor_lost", "runtime_state", "message", "monitor_lost_policy", "auto_remove", "image_id", "image_name", "rootfs_limit_bytes")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    class AnnotationsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    CONTAINER_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    PID_FIELD_NUMBER: _ClassVar[int]
    CREATED_AT_FIELD_NUMBER: _ClassVar[int]
    STARTED_AT_FIELD_NUMBER: _ClassVar[int]
    EXIT_STATUS_FIELD_NUMBER: _ClassVar[int]
    LOG_PATH_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    ANNOTATIONS_FIELD_NUMBER: _ClassVar[int]
    RUNTIME_HANDLER_FIELD_NUMBER: _ClassVar[int]
    BUNDLE_PATH_FIELD_NUMBER: _ClassVar[int]
    CGROUP_PATH_FIELD_NUMBER: _ClassVar[int]
    TERMINAL_FIELD_NUMBER: _ClassVar[int]
    STDIN_FIELD_NUMBER: _ClassVar[int]
    MONITOR_LOST_FIELD_NUMBER: _ClassVar[int]
    RUNTIME_STATE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    MONITOR_LOST_POLICY_FIELD_NUMBER: _ClassVar[int]
    AUTO_REMOVE_FIELD_NUMBER: _ClassVar[int]
    IMAGE_ID_FIELD_NUMBER: _ClassVar[int]
    IMAGE_NAME_FIELD_NUMBER: _ClassVar[int]
    ROOTFS_LIMIT_BYTES_FIELD_NUMBER: _ClassVar[int]
    container_id: str
    name: str
    state: ContainerState
    pid: int
    created_at: _timestamp_pb2.Timestamp
    started_at: _timestamp_pb2.Timestamp
    exit_status: ExitStatus
    log_path: str
    labels: _containers.ScalarMap[str, str]
    annotations: _containers.ScalarMap[str, str]
    runtime_handler: str
    bundle_path: str
    cgroup_path: str
    terminal: bool
    stdin: bool
    monitor_lost: bool
    runtime_state: str
    message: str
    monitor_lost_policy: MonitorLostPolicy
    auto_remove: bool
    image_id: str
    image_name: str
    rootfs_limit_bytes: int
    def __init__(self, container_id: _Optional[str] = ..., name: _Optional[str] = ..., state: _Optional[_Union[ContainerState, str]] = ..., pid: _Optional[int] = ..., created_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., started_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., exit_status: _Optional[_Union[ExitStatus, _Mapping]] = ..., log_path: _Optional[str] = ..., labels: _Optional[_Mapping[str, str]] = ..., annotations: _Optional[_Mapping[str, str]] = ..., runtime_handler: _Optional[str] = ..., bundle_path: _Optional[str] = ..., cgroup_path: _Optional[str] = ..., terminal: bool = ..., stdin: bool = ..., monitor_lost: bool = ..., runtime_state: _Optional[str] = ..., message: _Optional[str] = ..., monitor_lost_policy: _Optional[_Union[MonitorLostPolicy, str]] = ..., auto_remove: bool = ..., image_id: _Optional[str] = ..., image_name: _Optional[str] = ..., rootfs_limit_bytes: _Optional[int] = ...) -> None: ...

class ContainerSummary(_message.Message):
    __slots__ = ("container_id", "name", "state", "pid", "created_at", "started_at", "exit_status", "labels", "runtime_handler", "command_line", "monitor_lost", "image_id", "image_name")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    CONTAINER_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    PID_FIELD_NUMBER: _ClassVar[int]
    CREATED_AT_FIELD_NUMBER: _ClassVar[int]
    STARTED_AT_FIELD_NUMBER: _ClassVar[int]
    EXIT_STATUS_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    RUNTIME_HANDLER_FIELD_NUMBER: _ClassVar[int]
    COMMAND_LINE_FIELD_NUMBER: _ClassVar[int]
    MONITOR_LOST_FIELD_NUMBER: _ClassVar[int]
    IMAGE_ID_FIELD_NUMBER: _ClassVar[int]
    IMAGE_NAME_FIELD_NUMBER: _ClassVar[int]
    container_id: str
    name: str
    state: ContainerState
    pid: int
    created_at: _timestamp_pb2.Timestamp
    started_at: _timestamp_pb2.Timestamp
    exit_status: ExitStatus
    labels: _containers.ScalarMap[str, str]
    runtime_handler: str
    command_line: str
    monitor_lost: bool
    image_id: str
    image_name: str
    def __init__(self, container_id: _Optional[str] = ..., name: _Optional[str] = ..., state: _Optional[_Union[ContainerState, str]] = ..., pid: _Optional[int] = ..., created_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., started_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., exit_status: _Optional[_Union[ExitStatus, _Mapping]] = ..., labels: _Optional[_Mapping[str, str]] = ..., runtime_handler: _Optional[str] = ..., command_line: _Optional[str] = ..., monitor_lost: bool = ..., image_id: _Optional[str] = ..., image_name: _Optional[str] = ...) -> None: ...

class ContainerSpec(_message.Message):
    __slots__ = ("command", "env", "working_dir", "user", "rootfs_path", "readonly_rootfs", "mounts", "terminal", "capabilities", "no_new_privileges", "seccomp", "truncated", "user_namespace")
    class EnvEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    COMMAND_FIELD_NUMBER: _ClassVar[int]
    ENV_FIELD_NUMBER: _ClassVar[int]
    WORKING_DIR_FIELD_NUMBER: _ClassVar[int]
    USER_FIELD_NUMBER: _ClassVar[int]
    ROOTFS_PATH_FIELD_NUMBER: _ClassVar[int]
    READONLY_ROOTFS_FIELD_NUMBER: _ClassVar[int]
    MOUNTS_FIELD_NUMBER: _ClassVar[int]
    TERMINAL_FIELD_NUMBER: _ClassVar[int]
    CAPABILITIES_FIELD_NUMBER: _ClassVar[int]
    NO_NEW_PRIVILEGES_FIELD_NUMBER: _ClassVar[int]
    SECCOMP_FIELD_NUMBER: _ClassVar[int]
    TRUNCATED_FIELD_NUMBER: _ClassVar[int]
    USER_NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    command: _containers.RepeatedScalarFieldContainer[str]
    env: _containers.ScalarMap[str, str]
    working_dir: str
    user: ContainerUser
    rootfs_path: str
    readonly_rootfs: bool
    mounts: _containers.RepeatedCompositeFieldContainer[_config_pb2.Mount]
    terminal: bool
    capabilities: Capabilities
    no_new_privileges: bool
    seccomp: SeccompFilter
    truncated: bool
    user_namespace: _config_pb2.UserNamespace
    def __init__(self, command: _Optional[_Iterable[str]] = ..., env: _Optional[_Mapping[str, str]] = ..., working_dir: _Optional[str] = ..., user: _Optional[_Union[ContainerUser, _Mapping]] = ..., rootfs_path: _Optional[str] = ..., readonly_rootfs: bool = ..., mounts: _Optional[_Iterable[_Union[_config_pb2.Mount, _Mapping]]] = ..., terminal: bool = ..., capabilities: _Optional[_Union[Capabilities, _Mapping]] = ..., no_new_privileges: bool = ..., seccomp: _Optional[_Union[SeccompFilter, _Mapping]] = ..., truncated: bool = ..., user_namespace: _Optional[_Union[_config_pb2.UserNamespace, _Mapping]] = ...) -> None: ...

class ContainerUser(_message.Message):
    __slots__ = ("uid", "gid", "supplemental_groups")
    UID_FIELD_NUMBER: _ClassVar[int]
    GID_FIELD_NUMBER: _ClassVar[int]
    SUPPLEMENTAL_GROUPS_FIELD_NUMBER: _ClassVar[int]
    uid: int
    gid: int
    supplemental_groups: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, uid: _Optional[int] = ..., gid: _Optional[int] = ..., supplemental_groups: _Optional[_Iterable[int]] = ...) -> None: ...

class Capabilities(_message.Message):
    __slots__ = ("bounding", "effective", "permitted", "inheritable", "ambient")
    BOUNDING_FIELD_NUMBER: _ClassVar[int]
    EFFECTIVE_FIELD_NUMBER: _ClassVar[int]
    PERMITTED_FIELD_NUMBER: _ClassVar[int]
    INHERITABLE_FIELD_NUMBER: _ClassVar[int]
    AMBIENT_FIELD_NUMBER: _ClassVar[int]
    bounding: _containers.RepeatedScalarFieldContainer[str]
    effective: _containers.RepeatedScalarFieldContainer[str]
    permitted: _containers.RepeatedScalarFieldContainer[str]
    inheritable: _containers.RepeatedScalarFieldContainer[str]
    ambient: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, bounding: _Optional[_Iterable[str]] = ..., effective: _Optional[_Iterable[str]] = ..., permitted: _Optional[_Iterable[str]] = ..., inheritable: _Optional[_Iterable[str]] = ..., ambient: _Optional[_Iterable[str]] = ...) -> None: ...

class SeccompFilter(_message.Message):
    __slots__ = ("default_action", "rules", "profile_path")
    DEFAULT_ACTION_FIELD_NUMBER: _ClassVar[int]
    RULES_FIELD_NUMBER: _ClassVar[int]
    PROFILE_PATH_FIELD_NUMBER: _ClassVar[int]
    default_action: str
    rules: int
    profile_path: str
    def __init__(self, default_action: _Optional[str] = ..., rules: _Optional[int] = ..., profile_path: _Optional[str] = ...) -> None: ...
