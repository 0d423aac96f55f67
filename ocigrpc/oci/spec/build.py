"""The OCI runtime spec of a config: https://github.com/opencontainers/runtime-spec config.md."""

from __future__ import annotations

import os
import re
from collections.abc import Collection

from msgspec import to_builtins

from ocigrpc.host.processes.child import UMASK
from ocigrpc.oci.spec.capabilities import CapabilitySets, capabilities_of, held_capabilities
from ocigrpc.oci.spec.config import ContainerConfig, NamespaceMode, NamespaceType
from ocigrpc.oci.spec.devices import devices_of
from ocigrpc.oci.spec.mounts import mounts_of
from ocigrpc.oci.spec.namespaces import Namespaces, namespaces_of, sysctls_of
from ocigrpc.oci.spec.resources import oom_score_adj_of, resources_of, rlimits_of
from ocigrpc.oci.spec.root_files import PlannedRoot
from ocigrpc.oci.spec.seccomp import seccomp_of
from ocigrpc.oci.spec.types import OCI_VERSION
from ocigrpc.oci.spec.user_namespace import (
    check_numbers,
    check_searchable,
    check_user_namespace,
    mappings_of,
)
from ocigrpc.oci.spec.users import User, user_of
from ocigrpc.violations import (
    ARGUMENTS_LIMIT_BYTES,
    PATH_LIMIT_BYTES,
    Violations,
    arguments_fit,
    entry_field,
)

# ``PATH`` for a config without one.
DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

# Hidden by default: the kernel's memory, keys, timers and firmware.
MASKED_PATHS = (
    "/proc/acpi",
    "/proc/asound",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/dev/block",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
    "/sys/fs/selinux",
)

# Read-only by default: settings there are the host's.
READONLY_PATHS = (
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
)

_HOSTNAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,62}[A-Za-z0-9])?")


def spec_of(config: ContainerConfig, *, container_id: str, terminal: bool) -> dict[str, object]:
    """The runtime spec of a config, ready for JSON, without cgroup path and annotations.

    It also depends on the host: on the files at the config's paths, on the accounts in the
    root filesystem, and on the capabilities of the service. Raises ``InvalidArgument`` with
    every wrong field.
    """
    violations = Violations()
    if not check_user_namespace(config, violations):
        # What follows depends on it.
        violations.raise_any()
    rootfs = _rootfs_of(config, violations)
    namespaces = namespaces_of(config, violations)
    mounts, propagation = mounts_of(config, namespaces, violations)
    files = PlannedRoot(rootfs, mounts)
    user = user_of(files, config.user, config.supplemental_groups, violations)
    check_numbers(config, user, violations)
    capabilities = capabilities_of(config, user.uid, held_capabilities(), violations)
    hostname = _hostname_of(config, namespaces, container_id, violations)
    environment = environment_of(config, terminal, hostname, violations)
    spec: dict[str, object] = {
        "ociVersion": OCI_VERSION,
        "root": {"path": rootfs, "readonly": config.readonly_rootfs},
        "process": _process_of(config, user, capabilities, terminal, environment, violations),
        "mounts": to_builtins(mounts),
        "linux": _linux_of(config, namespaces, capabilities.bounding, propagation, violations),
    }
    if hostname:
        spec["hostname"] = hostname
    violations.raise_any()
    return spec


def _process_of(
    config: ContainerConfig,
    user: User,
    capabilities: CapabilitySets,
    terminal: bool,
    environment: list[str],
    violations: Violations,
) -> dict[str, object]:
    privileges = config.no_new_privileges
    process: dict[str, object] = {
        "terminal": terminal,
        "user": {**user.to_spec(), "umask": UMASK},
        "args": arguments_of(config, violations),
        "env": environment,
        "cwd": config.working_dir or "/",
        "capabilities": capabilities.to_spec(),
        "noNewPrivileges": not config.privileged if privileges is None else privileges,
        # Set even to 0, so that the program does not inherit the service's own value.
        "oomScoreAdj": oom_score_adj_of(config, violations),
        "rlimits": rlimits_of(config, violations),
    }
    if config.working_dir:
        violations.absolute_path("config.working_dir", config.working_dir)
    _check_size(config, violations)
    return process


def _linux_of(
    config: ContainerConfig,
    namespaces: Namespaces,
    capabilities: Collection[str],
    propagation: str,
    violations: Violations,
) -> dict[str, object]:
    devices, rules = devices_of(config, violations)
    resources = {**resources_of(config, violations), "devices": rules}
    masked, readonly = ((), ()) if config.privileged else (MASKED_PATHS, READONLY_PATHS)
    mappings = mappings_of(config.user_namespace)
    linux: dict[str, object] = {
        "namespaces": [*namespaces.to_spec(), *([{"type": "user"}] if mappings else [])],
        **mappings,
        "resources": resources,
        "devices": devices,
        "sysctl": sysctls_of(config, namespaces, violations),
        "maskedPaths": _paths_of("masked_paths", config.masked_paths, masked, violations),
        "readonlyPaths": _paths_of("readonly_paths", config.readonly_paths, readonly, violations),
        "seccomp": seccomp_of(config, capabilities, violations),
        "rootfsPropagation": propagation,
    }
    return {name: value for name, value in linux.items() if value}


def arguments_of(config: ContainerConfig, violations: Violations) -> list[str]:
    """Command and arguments. Adds violations for a missing or empty program, and for NULs."""
    if violations.allow(bool(config.command), "config.command", "is required", "REQUIRED"):
        violations.allow(
            config.command[0] != "", "config.command[0]", "is an empty program", "REQUIRED"
        )
    for name, texts in (("command", config.command), ("args", config.args)):
        for index, text in enumerate(texts):
            violations.text(f"config.{name}[{index}]", text)
    return [*config.command, *config.args]


def environment_of(
    config: ContainerConfig, terminal: bool, hostname: str, violations: Violations
) -> list[str]:
    """The environment as "NAME=value": the defaults, overridden by the config.

    ``hostname`` is empty, and so not in it, if the container has the host's. The runtime adds
    HOME, from the user's account in the container.
    """
    defaults = {"PATH": DEFAULT_PATH}
    if hostname:
        defaults["HOSTNAME"] = hostname
    if terminal:
        defaults["TERM"] = "xterm"
    for name, value in config.env.items():
        field = entry_field("config.env", name)
        violations.allow(
            name != "" and "=" not in name, field, "is not the name of a variable", "MALFORMED"
        )
        violations.text(field, f"{name}={value}")
    return [f"{name}={value}" for name, value in {**defaults, **config.env}.items()]


def _check_size(config: ContainerConfig, violations: Violations) -> None:
    variables = [f"{name}={value}" for name, value in config.env.items()]
    for program in config.command[:1]:
        # A runtime that can't find it puts it in its error, and conmon hangs on long errors.
        violations.allow(
            len(program.encode(errors="replace")) <= PATH_LIMIT_BYTES,
            "config.command[0]",
            f"is longer than the {PATH_LIMIT_BYTES} bytes of a path",
            "TOO_LONG",
        )
    violations.allow(
        arguments_fit([*config.command, *config.args, *variables]),
        "config.args",
        f"arguments and environment take more than {ARGUMENTS_LIMIT_BYTES} bytes",
        "TOO_LONG",
    )


def _rootfs_of(config: ContainerConfig, violations: Violations) -> str:
    field = "config.rootfs_path"
    if not violations.absolute_path(field, config.rootfs_path):
        return ""
    # runc refuses a root that is reached through a symbolic link.
    path = os.path.realpath(config.rootfs_path)
    violations.allow(
        os.path.isdir(path), field, f"{config.rootfs_path!r} is not a directory", "ROOTFS_NOT_FOUND"
    )
    violations.allow(path != "/", field, "is the host's own root", "PATH_IS_ROOT")
    if os.path.isdir(path):
        check_searchable(path, config.user_namespace, field, violations)
    return path


def _hostname_of(
    config: ContainerConfig, namespaces: Namespaces, container_id: str, violations: Violations
) -> str:
    field = "config.hostname"
    if namespaces.mode(NamespaceType.UTS) is not NamespaceMode.PRIVATE:
        violations.allow(
            not config.hostname, field, "the uts namespace is not the container's", "NOT_APPLICABLE"
        )
        return ""
    violations.allow(
        not config.hostname or _HOSTNAME.fullmatch(config.hostname) is not None,
        field,
        f"{config.hostname!r} is not a hostname",
        "MALFORMED",
    )
    return config.hostname or container_id[:12]


def _paths_of(
    name: str, given: tuple[str, ...] | None, default: tuple[str, ...], violations: Violations
) -> list[str]:
    for index, path in enumerate(given or ()):
        violations.absolute_path(f"config.{name}.paths[{index}]", path)
    return list(default if given is None else given)
