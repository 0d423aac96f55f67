"""From the message ``ContainerConfig`` to the value ``ContainerConfig``.

Only unknown enum numbers, which the value can't hold, are refused here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal, TypeVar

from ocigrpc.oci.spec.config import (
    ContainerConfig,
    Device,
    DeviceCgroupRule,
    DeviceType,
    HugepageLimit,
    IdMapping,
    Mount,
    Namespace,
    NamespaceMode,
    NamespaceType,
    Propagation,
    Resources,
    Rlimit,
    Seccomp,
    SeccompType,
    UserNamespace,
)
from ocigrpc.v1 import config_pb2
from ocigrpc.violations import Violations

_PROPAGATIONS = {
    config_pb2.MOUNT_PROPAGATION_UNSPECIFIED: Propagation.PRIVATE,
    **{config_pb2.MountPropagation.Value(f"MOUNT_PROPAGATION_{e.name}"): e for e in Propagation},
}
_SECCOMP_TYPES = {
    config_pb2.SECCOMP_TYPE_UNSPECIFIED: SeccompType.RUNTIME_DEFAULT,
    **{config_pb2.SeccompType.Value(f"SECCOMP_TYPE_{e.name}"): e for e in SeccompType},
}
_NAMESPACE_TYPES = {
    config_pb2.NamespaceType.Value(f"NAMESPACE_TYPE_{e.name}"): e for e in NamespaceType
}
_NAMESPACE_MODES = {
    config_pb2.NAMESPACE_MODE_UNSPECIFIED: NamespaceMode.PRIVATE,
    **{config_pb2.NamespaceMode.Value(f"NAMESPACE_MODE_{e.name}"): e for e in NamespaceMode},
}
_DEVICE_TYPES = {config_pb2.DeviceType.Value(f"DEVICE_TYPE_{e.name}"): e for e in DeviceType}

_Named = TypeVar("_Named")


def container_config(
    violations: Violations, message: config_pb2.ContainerConfig
) -> ContainerConfig:
    """The value; it may only be used if there are no ``violations``."""
    return ContainerConfig(
        rootfs_path=message.rootfs_path,
        command=tuple(message.command),
        args=tuple(message.args),
        env=dict(message.env),
        working_dir=message.working_dir,
        user=message.user,
        supplemental_groups=tuple(message.supplemental_groups),
        mounts=tuple(_mount(violations, *numbered) for numbered in enumerate(message.mounts)),
        resources=resources(message.resources),
        add_capabilities=tuple(message.add_capabilities),
        drop_capabilities=tuple(message.drop_capabilities),
        no_new_privileges=(
            message.no_new_privileges if message.HasField("no_new_privileges") else None
        ),
        seccomp=_seccomp(violations, message.seccomp) if message.HasField("seccomp") else None,
        masked_paths=_paths(message, "masked_paths"),
        readonly_paths=_paths(message, "readonly_paths"),
        readonly_rootfs=message.readonly_rootfs,
        image=message.image,
        rootfs_limit_bytes=message.rootfs_limit_bytes,
        user_namespace=_user_namespace(message),
        hostname=message.hostname,
        sysctls=dict(message.sysctls),
        namespaces=tuple(_namespace(violations, *each) for each in enumerate(message.namespaces)),
        devices=tuple(map(_device, message.devices)),
        rlimits=tuple(Rlimit(each.type, each.soft, each.hard) for each in message.rlimits),
        privileged=message.privileged,
        device_cgroup_rules=tuple(
            _device_rule(violations, *each) for each in enumerate(message.device_cgroup_rules)
        ),
        add_ambient_capabilities=tuple(message.add_ambient_capabilities),
    )


def _paths(
    message: config_pb2.ContainerConfig, field: Literal["masked_paths", "readonly_paths"]
) -> tuple[str, ...] | None:
    paths: config_pb2.PathList = getattr(message, field)
    return tuple(paths.paths) if message.HasField(field) else None


def _mount(violations: Violations, index: int, message: config_pb2.Mount) -> Mount:
    field = f"config.mounts[{index}].propagation"
    return Mount(
        container_path=message.container_path,
        host_path=message.host_path,
        type=message.type,
        readonly=message.readonly,
        propagation=_named(violations, field, message.propagation, _PROPAGATIONS),
        options=tuple(message.options),
    )


def resources(message: config_pb2.LinuxContainerResources) -> Resources:
    """The limits in a message."""
    return Resources(
        cpu_period=message.cpu_period,
        cpu_quota=message.cpu_quota,
        cpu_shares=message.cpu_shares,
        memory_limit_in_bytes=message.memory_limit_in_bytes,
        oom_score_adj=message.oom_score_adj,
        cpuset_cpus=message.cpuset_cpus if message.HasField("cpuset_cpus") else None,
        cpuset_mems=message.cpuset_mems if message.HasField("cpuset_mems") else None,
        memory_swap_limit_in_bytes=message.memory_swap_limit_in_bytes,
        pids_limit=message.pids_limit,
        unified=dict(message.unified),
        cpu_weight=message.cpu_weight,
        hugepage_limits=tuple(
            HugepageLimit(each.page_size, each.limit) for each in message.hugepage_limits
        ),
    )


def _seccomp(violations: Violations, message: config_pb2.SeccompProfile) -> Seccomp:
    return Seccomp(
        type=_named(violations, "config.seccomp.type", message.type, _SECCOMP_TYPES),
        localhost_ref=message.localhost_ref,
    )


def _namespace(violations: Violations, index: int, message: config_pb2.Namespace) -> Namespace:
    field = f"config.namespaces[{index}]"
    return Namespace(
        type=_named(violations, f"{field}.type", message.type, _NAMESPACE_TYPES),
        mode=_named(violations, f"{field}.mode", message.mode, _NAMESPACE_MODES),
        path=message.path,
    )


def _user_namespace(message: config_pb2.ContainerConfig) -> UserNamespace | None:
    if not message.HasField("user_namespace"):
        return None
    given = message.user_namespace
    return UserNamespace(_mappings(given.uid_mappings), _mappings(given.gid_mappings))


def _mappings(messages: Iterable[config_pb2.IdMapping]) -> tuple[IdMapping, ...]:
    return tuple(IdMapping(each.container_id, each.host_id, each.size) for each in messages)


def _device(message: config_pb2.Device) -> Device:
    return Device(
        host_path=message.host_path,
        container_path=message.container_path,
        permissions=message.permissions,
    )


def _device_rule(
    violations: Violations, index: int, message: config_pb2.DeviceCgroupRule
) -> DeviceCgroupRule:
    field = f"config.device_cgroup_rules[{index}].type"
    return DeviceCgroupRule(
        type=_named(violations, field, message.type, _DEVICE_TYPES),
        major=message.major if message.HasField("major") else None,
        minor=message.minor if message.HasField("minor") else None,
        permissions=message.permissions,
    )


def _named(violations: Violations, field: str, number: int, names: Mapping[int, _Named]) -> _Named:
    """The value of ``number``; if there is none, a violation is added, and any value returned."""
    known = violations.allow(
        number in names, field, f"{number} has no meaning here", "UNKNOWN_ENUM"
    )
    return names[number] if known else next(iter(names.values()))
