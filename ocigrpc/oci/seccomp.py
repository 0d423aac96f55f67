"""Which system calls a container may not make; seccomp(2).

The default profile refuses what reaches beyond the container, and allows the rest: the
kernel's own checks and the namespaces hold for that. A capability that is given brings
back the calls that it is for, as with other container engines.
"""

from __future__ import annotations

import errno
import platform
from collections.abc import Collection

import msgspec
from msgspec import UNSET, Struct, UnsetType

from ocigrpc.oci.config import ContainerConfig, Seccomp, SeccompType
from ocigrpc.oci.regular_file import read_regular_file
from ocigrpc.oci.violations import Violations

_ARCHITECTURES = {
    "x86_64": ("SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"),
    "aarch64": ("SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"),
}

_DENIED = (
    # What each set of capabilities, any one of it, gives back; the kernel's keys have no
    # namespace, and a ring of io_uring makes calls that no filter sees.
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

_FIELD = "config.seccomp"


class _SyscallRule(Struct):
    names: list[str]
    action: str


class _Profile(Struct, rename="camel", forbid_unknown_fields=True):
    """What the runtime spec calls ``linux.seccomp``.

    Unknown fields are refused since other engines' profiles look alike, with rules that
    hold only under conditions (``archMap``, ``includes``): a runtime would ignore those.
    """

    default_action: str
    default_errno_ret: int | UnsetType = UNSET
    architectures: list[str] | UnsetType = UNSET
    flags: list[str] | UnsetType = UNSET
    listener_path: str | UnsetType = UNSET
    listener_metadata: str | UnsetType = UNSET
    syscalls: list[_SyscallRule] | UnsetType = UNSET


def seccomp_of(
    config: ContainerConfig, capabilities: Collection[str], violations: Violations
) -> dict[str, object] | None:
    """The runtime spec's ``linux.seccomp``, or None where no call is refused.

    Wrong are a ``localhost_ref`` that does not go with the type, can't be read
    (SECCOMP_UNREADABLE), or is no profile (SECCOMP_MALFORMED).
    """
    default = SeccompType.UNCONFINED if config.privileged else SeccompType.RUNTIME_DEFAULT
    seccomp = config.seccomp or Seccomp(default)
    if seccomp.type is SeccompType.LOCALHOST:
        return _localhost_profile(seccomp.localhost_ref, violations)
    violations.allow(
        not seccomp.localhost_ref,
        f"{_FIELD}.localhost_ref",
        "goes with LOCALHOST only",
        "NOT_APPLICABLE",
    )
    return None if seccomp.type is SeccompType.UNCONFINED else default_profile(capabilities)


def default_profile(
    capabilities: Collection[str], machine: str = platform.machine()
) -> dict[str, object]:
    """The service's own profile for a container with ``capabilities``."""
    denied = sorted(
        name
        for given_by, names in _DENIED
        if not any(capability in capabilities for capability in given_by)
        for name in names.split()
    )
    # A vsock's peer is the hypervisor, which no network namespace keeps away.
    rules = [_deny(denied), _deny(["socket"], [_argument(0, _AF_VSOCK, "SCMP_CMP_EQ")])]
    if "CAP_SYS_ADMIN" not in capabilities:
        rules += [
            _deny(["clone"], [_argument(0, flag, "SCMP_CMP_MASKED_EQ", flag)])
            for flag in _CLONE_NEW_FLAGS
        ]
        # Its flags lie behind a pointer, where no filter sees them. ENOSYS makes the C
        # library fall back to clone.
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


def _argument(index: int, value: int, operator: str, value_two: int = 0) -> dict[str, object]:
    return {"index": index, "value": value, "valueTwo": value_two, "op": operator}


def _localhost_profile(path: str, violations: Violations) -> dict[str, object] | None:
    field = f"{_FIELD}.localhost_ref"
    if not violations.absolute_path(field, path):
        return None
    try:
        content = read_regular_file(path)
    except OSError as error:
        violations.add(field, f"{path!r}: {error.strerror}", "SECCOMP_UNREADABLE")
        return None
    try:
        msgspec.json.decode(content, type=_Profile)
        return msgspec.json.decode(content, type=dict[str, object])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        violations.add(field, f"{path!r}: {error}", "SECCOMP_MALFORMED")
        return None
