"""The system calls that a container may make; seccomp(2).

If the host has a profile, it is the default, RUNTIME_DEFAULT: an allow list from
containers-common, as in podman and CRI-O. Otherwise that is the service's own, which refuses the
calls that reach beyond the container and allows all others, which namespaces and the kernel's
checks cover. In both, a capability of the container allows the calls that it is for.
"""

from __future__ import annotations

import errno
import os
import platform
from collections.abc import Collection, Sequence
from functools import lru_cache

from msgspec import Struct

from ocigrpc.errors import HostFailed
from ocigrpc.host.files.regular import read_regular_file
from ocigrpc.oci.spec.config import ContainerConfig, Seccomp, SeccompType
from ocigrpc.oci.spec.seccomp_profile import Profile, argument, parse_profile, resolve
from ocigrpc.violations import Violations

_FIELD = "config.seccomp"

# Paths of the host's profile: the administrator's, and that of the package.
HOST_PROFILES = ("/etc/containers/seccomp.json", "/usr/share/containers/seccomp.json")

_ARCHITECTURES = {
    "x86_64": ("SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"),
    "aarch64": ("SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"),
}

# The refused calls, with the capabilities each of which allows them.
_DENIED = (
    # The kernel's keyrings have no namespace, and io_uring makes calls that no filter sees.
    ((), "add_key keyctl request_key io_uring_enter io_uring_register io_uring_setup"),
    (
        ("CAP_SYS_ADMIN",),
        "fanotify_init fsconfig fsmount fsopen fspick mount mount_setattr move_mount open_tree "
        "pivot_root quotactl quotactl_fd setdomainname sethostname setns swapoff swapon umount "
        "umount2 unshare",
    ),
    (("CAP_SYS_ADMIN", "CAP_BPF"), "bpf"),
    (("CAP_SYS_ADMIN", "CAP_PERFMON"), "lookup_dcookie perf_event_open"),
    (("CAP_SYS_ADMIN", "CAP_SYSLOG"), "syslog"),
    (("CAP_SYS_MODULE",), "delete_module finit_module init_module"),
    (("CAP_SYS_BOOT",), "kexec_file_load kexec_load reboot"),
    (("CAP_SYS_TIME",), "clock_settime clock_settime64 settimeofday stime"),
    (("CAP_SYS_RAWIO",), "ioperm iopl"),
    (("CAP_SYS_PACCT",), "acct"),
    (("CAP_SYS_PTRACE",), "userfaultfd"),
    (("CAP_SYS_TTY_CONFIG",), "vhangup"),
    (("CAP_DAC_READ_SEARCH",), "open_by_handle_at"),
)

_CLONE_NEW_FLAGS = (
    0x00020000,  # CLONE_NEWNS
    0x02000000,  # CLONE_NEWCGROUP
    0x04000000,  # CLONE_NEWUTS
    0x08000000,  # CLONE_NEWIPC
    0x10000000,  # CLONE_NEWUSER
    0x20000000,  # CLONE_NEWPID
    0x40000000,  # CLONE_NEWNET
)
_AF_VSOCK = 40


class HostProfile(Struct, frozen=True):
    """The host's profile: its path, and an identity that changes with its content."""

    path: str
    identity: tuple[int, ...]


def seccomp_of(
    config: ContainerConfig, capabilities: Collection[str], violations: Violations
) -> dict[str, object] | None:
    """The runtime spec's ``linux.seccomp``; None if nothing is refused.

    ``capabilities`` are the container's bounding set, which rules may depend on. Adds
    violations for a ``localhost_ref`` that does not go with the type, can't be read
    (SECCOMP_UNREADABLE), or is not a profile (SECCOMP_MALFORMED). Raises ``HostFailed`` when the
    host's default profile is broken.
    """
    seccomp = _chosen(config)
    if seccomp.type is SeccompType.LOCALHOST:
        return _localhost_profile(seccomp.localhost_ref, capabilities, violations)
    violations.allow(
        not seccomp.localhost_ref,
        f"{_FIELD}.localhost_ref",
        "goes with LOCALHOST only",
        "NOT_APPLICABLE",
    )
    return None if seccomp.type is SeccompType.UNCONFINED else default_profile(capabilities)


def profile_path(config: ContainerConfig) -> str:
    """The file that :func:`seccomp_of` makes the filter from; empty if it makes it from none."""
    seccomp = _chosen(config)
    if seccomp.type is not SeccompType.RUNTIME_DEFAULT:
        return seccomp.localhost_ref
    host = host_profile()
    return "" if host is None else host.path


def _chosen(config: ContainerConfig) -> Seccomp:
    default = SeccompType.UNCONFINED if config.privileged else SeccompType.RUNTIME_DEFAULT
    return config.seccomp or Seccomp(default)


def _localhost_profile(
    path: str, capabilities: Collection[str], violations: Violations
) -> dict[str, object] | None:
    field = f"{_FIELD}.localhost_ref"
    if not violations.absolute_path(field, path):
        return None
    try:
        return resolve(parse_profile(read_regular_file(path)), capabilities)
    except OSError as error:
        violations.add(field, f"{path!r}: {error.strerror}", "SECCOMP_UNREADABLE")
    except ValueError as error:
        violations.add(field, f"{path!r}: {error}", "SECCOMP_MALFORMED")
    return None


def default_profile(
    capabilities: Collection[str], paths: Sequence[str] = HOST_PROFILES
) -> dict[str, object]:
    """The runtime spec's ``linux.seccomp`` for a container with ``capabilities``.

    The caller must not change it, since containers share it. Raises ``HostFailed``
    (SECCOMP_PROFILE_BROKEN) when the host's profile can't be used.
    """
    host = host_profile(paths)
    if host is None:
        return own_profile(capabilities)
    return _resolved(host, tuple(sorted(capabilities)))


def host_profile(paths: Sequence[str] = HOST_PROFILES) -> HostProfile | None:
    """The first of ``paths`` that exists. Raises ``HostFailed`` when that can't be found out."""
    for path in paths:
        try:
            found = os.stat(path)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            raise _broken(path, str(error.strerror)) from error
        identity = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
        return HostProfile(path, identity)
    return None


def check_host_profile(paths: Sequence[str] = HOST_PROFILES) -> str:
    """The path of the host's profile, empty when there is none; raises ``HostFailed``."""
    host = host_profile(paths)
    if host is None:
        return ""
    _parsed(host)
    return host.path


# Parsing takes milliseconds, so the file is only read again when it has changed.
@lru_cache(maxsize=2)
def _parsed(host: HostProfile) -> Profile:
    try:
        return parse_profile(read_regular_file(host.path))
    except OSError as error:
        raise _broken(host.path, str(error.strerror)) from error
    except ValueError as error:
        raise _broken(host.path, str(error)) from error


@lru_cache(maxsize=64)
def _resolved(host: HostProfile, capabilities: tuple[str, ...]) -> dict[str, object]:
    return resolve(_parsed(host), capabilities)


def _broken(path: str, problem: str) -> HostFailed:
    return HostFailed(
        f"the seccomp profile {path}: {problem}; correct it, or remove it to get the service's own",
        reason="SECCOMP_PROFILE_BROKEN",
        path=path,
        error=problem,
    )


def own_profile(
    capabilities: Collection[str], machine: str = platform.machine()
) -> dict[str, object]:
    """The service's own profile for a container with ``capabilities``."""
    denied = sorted(
        name
        for given_by, names in _DENIED
        if not any(capability in capabilities for capability in given_by)
        for name in names.split()
    )
    # The peer of a vsock is the hypervisor, from which no network namespace isolates.
    rules = [_deny(denied), _deny(["socket"], [argument(0, _AF_VSOCK, "SCMP_CMP_EQ")])]
    if "CAP_SYS_ADMIN" not in capabilities:
        rules += [
            _deny(["clone"], [argument(0, flag, "SCMP_CMP_MASKED_EQ", flag)])
            for flag in _CLONE_NEW_FLAGS
        ]
        # A filter can't see its flags, which are behind a pointer. ENOSYS makes the C library
        # fall back to clone.
        rules.append({**_deny(["clone3"]), "errnoRet": errno.ENOSYS})
    profile: dict[str, object] = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules}
    if machine in _ARCHITECTURES:
        profile["architectures"] = list(_ARCHITECTURES[machine])
    return profile


def _deny(names: list[str], arguments: list[dict[str, object]] | None = None) -> dict[str, object]:
    rule: dict[str, object] = {
        "names": names,
        "action": "SCMP_ACT_ERRNO",
        "errnoRet": errno.EPERM,
    }
    return {**rule, "args": arguments} if arguments else rule
