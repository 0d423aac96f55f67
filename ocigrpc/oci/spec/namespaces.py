"""Namespaces of a container, and the kernel parameters that belong to them; namespaces(7)."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import stat

from msgspec import Struct

from ocigrpc.host.descriptors import closing_fd
from ocigrpc.oci.spec.config import ContainerConfig, Namespace, NamespaceMode, NamespaceType
from ocigrpc.violations import TEXT_LIMIT_BYTES, Violations, entry_field

# The ioctl that returns a namespace's CLONE_NEW* flag; ioctl_ns(2).
_NS_GET_NSTYPE = 0xB703

_FLAGS = {
    NamespaceType.PID: 0x20000000,
    NamespaceType.NETWORK: 0x40000000,
    NamespaceType.IPC: 0x08000000,
    NamespaceType.UTS: 0x04000000,
    NamespaceType.CGROUP: 0x02000000,
}
_PROC_NAMES = {NamespaceType.NETWORK: "net"}

# Parts separated by dots; a slash inside a part stands for a dot in its name.
_SYSCTL_NAME = re.compile(r"[^./\s]+(\.[^./\s]+(/[^./\s]+)*)+")
_SWAPPED = str.maketrans("./", "/.")
# The groups that may ping without a capability, none by the kernel's default; icmp(7).
_PING = "net.ipv4.ping_group_range"

_IPC_SYSCTLS = frozenset(
    "kernel.msgmax kernel.msgmnb kernel.msgmni kernel.sem kernel.shmall kernel.shmmax "
    "kernel.shmmni kernel.shm_rmid_forced".split()
)


class Namespaces(Struct, frozen=True):
    """Where each namespace of a container comes from; those not in ``modes`` are new ones."""

    modes: dict[NamespaceType, NamespaceMode] = {}
    paths: dict[NamespaceType, str] = {}

    def mode(self, kind: NamespaceType) -> NamespaceMode:
        """Where ``kind`` comes from. A path that is the host's own counts as ``HOST``."""
        return self.modes.get(kind, NamespaceMode.PRIVATE)

    def to_spec(self) -> list[dict[str, str]]:
        """The runtime spec's ``linux.namespaces``; the mount namespace is always new."""
        kept = [kind for kind in NamespaceType if self.mode(kind) is not NamespaceMode.HOST]
        named = [
            {"type": str(kind), "path": self.paths[kind]}
            if kind in self.paths
            else {"type": str(kind)}
            for kind in kept
        ]
        return [*named, {"type": "mount"}]


def namespaces_of(config: ContainerConfig, violations: Violations) -> Namespaces:
    """The namespaces that ``config`` asks for.

    Adds violations for a type that is given twice (DUPLICATE), a path without PATH or the
    reverse, and a path that is not such a namespace (NAMESPACE_NOT_FOUND, NAMESPACE_WRONG_TYPE).
    """
    modes: dict[NamespaceType, NamespaceMode] = {}
    paths: dict[NamespaceType, str] = {}
    for index, namespace in enumerate(config.namespaces):
        field = f"config.namespaces[{index}]"
        kind = namespace.type
        violations.allow(kind not in modes, f"{field}.type", f"{kind} is given twice", "DUPLICATE")
        modes[kind] = namespace.mode
        if namespace.mode is not NamespaceMode.PATH:
            violations.allow(
                not namespace.path, f"{field}.path", "goes with PATH only", "NOT_APPLICABLE"
            )
        elif violations.absolute_path(f"{field}.path", namespace.path):
            if _is_hosts(namespace, f"{field}.path", violations):
                modes[kind] = NamespaceMode.HOST
            else:
                paths[kind] = namespace.path
    return Namespaces(modes, paths)


def sysctls_of(
    config: ContainerConfig, namespaces: Namespaces, violations: Violations
) -> dict[str, str]:
    """The kernel parameters, all of which belong to the container's own namespaces.

    In a new network namespace root's group may ping, as with podman, unless the config sets
    that. Adds violations for parameters that would change the host (SYSCTL_NOT_NAMESPACED),
    and for one that is given in two forms (DUPLICATE).
    """
    found: dict[str, str] = {}
    for name, value in config.sysctls.items():
        field = entry_field("config.sysctls", name)
        violations.text(field, value, TEXT_LIMIT_BYTES)
        dotted = _dotted(name)
        _check_sysctl(dotted, field, namespaces, violations)
        violations.allow(dotted not in found, field, f"{dotted!r} is given twice", "DUPLICATE")
        found[dotted] = value
    private = namespaces.mode(NamespaceType.NETWORK) is NamespaceMode.PRIVATE
    defaults = {_PING: "0 0"} if private else {}
    return {**defaults, **found}


def _dotted(name: str) -> str:
    """A parameter's name with dots between its parts, the form that all runtimes know.

    By sysctl.d(5), the first of "/" and "." in the name is the separator, and the other is a
    character of a part: "net/ipv4/conf/eth0.1/tag" is "net.ipv4.conf.eth0/1.tag".
    """
    first = re.search("[./]", name)
    return name.translate(_SWAPPED) if first and first[0] == "/" else name


def _check_sysctl(dotted: str, field: str, namespaces: Namespaces, violations: Violations) -> None:
    kind = _sysctl_namespace(dotted)
    if not _SYSCTL_NAME.fullmatch(dotted):
        violations.add(field, "is not the name of a kernel parameter", "SYSCTL_NOT_NAMESPACED")
    elif kind is None:
        problem = "belongs to no namespace that a container has of its own"
        violations.add(field, problem, "SYSCTL_NOT_NAMESPACED")
    elif namespaces.mode(kind) is NamespaceMode.HOST:
        violations.add(field, f"the {kind} namespace is the host's", "SYSCTL_NOT_NAMESPACED")


def _sysctl_namespace(name: str) -> NamespaceType | None:
    if name.startswith("net."):
        return NamespaceType.NETWORK
    if name in _IPC_SYSCTLS or name.startswith("fs.mqueue."):
        return NamespaceType.IPC
    # Not kernel.hostname: the config has a field for it, and runc refuses to get both.
    return NamespaceType.UTS if name == "kernel.domainname" else None


def _is_hosts(namespace: Namespace, field: str, violations: Violations) -> bool:
    """Whether the path is the service's own namespace, which is the host's."""
    kind = namespace.type
    try:
        flag, found = _identify(namespace.path)
    except OSError as error:
        wrong_file = error.errno in (errno.ENOTTY, errno.EINVAL)
        reason = "NAMESPACE_WRONG_TYPE" if wrong_file else "NAMESPACE_NOT_FOUND"
        described = "not a namespace" if wrong_file else error.strerror
        violations.add(field, f"{namespace.path!r}: {described}", reason)
        return False
    violations.allow(
        flag == _FLAGS[kind], field, f"is not a {kind} namespace", "NAMESPACE_WRONG_TYPE"
    )
    return os.path.samestat(found, os.stat(f"/proc/self/ns/{_PROC_NAMES.get(kind, kind)}"))


def _identify(path: str) -> tuple[int, os.stat_result]:
    """Type flag and status of a namespace's file. Raises ``OSError`` for another file."""
    # O_PATH first: opening a device or a FIFO for reading may have effects.
    with closing_fd(os.open(path, os.O_PATH)) as path_fd:
        found = os.fstat(path_fd)
        if not stat.S_ISREG(found.st_mode):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        with open(f"/proc/self/fd/{path_fd}", "rb") as file:
            return fcntl.ioctl(file, _NS_GET_NSTYPE), found
