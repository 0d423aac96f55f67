"""What the kernel and the init system offer to containers."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from ocigrpc.cli.doctor.findings import Finding, Host, failed, fine, warning
from ocigrpc.cli.doctor.programs import version_number
from ocigrpc.engine.containers.cgroups import parents, remove_made, topmost_missing
from ocigrpc.engine.health import probe_cgroups
from ocigrpc.errors import CgroupFailed, HostFailed, OcigrpcError
from ocigrpc.host.cgroups import systemd
from ocigrpc.host.cgroups.hierarchy import Kind
from ocigrpc.host.mappings.null_device import MODE, null_device_problem
from ocigrpc.oci.spec.seccomp import check_host_profile
from ocigrpc.settings.values import CgroupManager
from ocigrpc.waiting import Deadline

_LIMIT_S = 10.0
# The first Linux with pidfds, by which processes are known, and with a freezer of cgroup v2.
_OLDEST = (5, 3)
# Controllers by their names in cgroup v2, and what is lost without each.
_LOST = {
    "memory": "limits of memory, and kills by the OOM killer are not reported",
    "pids": "limits of the number of processes",
    "cpu": "shares and quotas of CPU time",
    "cpuset": "containers on CPUs of their own",
    "io": "weights and limits of disks",
    "hugetlb": "limits of huge pages",
}


def check_kernel(host: Host) -> Iterator[Finding]:
    """The version, user namespaces, overlay, and whose ``/dev/null`` is."""
    release = os.uname().release
    if version_number(release) < _OLDEST:
        yield failed(f"Linux {release} has no pidfds", "boot Linux 5.3 or newer")
    else:
        yield fine(f"Linux {release}")
    if _number("/proc/sys/user/max_user_namespaces"):
        yield fine("user namespaces")
    else:
        remedy = "sysctl user.max_user_namespaces=15000"
        yield warning("no user namespaces: containers that ask for one are refused", remedy)
    if _has_overlay(release):
        yield fine("overlay")
    else:
        problem = "no overlay: root filesystems can't be shared by layers of their own"
        yield warning(problem, "modprobe overlay")
    if problem := null_device_problem():
        # As crun gives it to containers that others make.
        remedy = f"chown root:root {os.devnull}; chmod {MODE:o} {os.devnull}"
        yield warning(f"{os.devnull} {problem}", remedy)


def check_cgroups(host: Host) -> Iterator[Finding]:
    """The kind, the controllers, the freezer, and whether groups can be made."""
    hierarchies = host.context.hierarchies
    if not hierarchies.all:
        yield failed("no cgroup hierarchy is mounted", "mount -t cgroup2 cgroup2 /sys/fs/cgroup")
        return
    found = hierarchies.controllers()
    shown = ", ".join(sorted(each for each in found if not each.startswith("name=")))
    yield fine(f"cgroup {hierarchies.kind}, with {shown or 'no controllers'}")
    for name, lost in _LOST.items():
        known = "blkio" if name == "io" and hierarchies.kind is not Kind.V2 else name
        if known not in found:
            remedy = f"boot with cgroup_enable={known}, or with a kernel that has it"
            yield warning(f"no {known} controller: no {lost}", remedy)
    if "freezer" in found or any(each.unified for each in hierarchies.all):
        yield fine("freezer")
    else:
        yield failed("no freezer: containers can't be paused", "mount cgroup2, or the v1 freezer")
    if not host.is_answering:
        yield from _groups_of_its_own(host)


def _groups_of_its_own(host: Host) -> Iterator[Finding]:
    """Whether the service could make cgroups; when it runs, its Status says so."""
    hierarchies, settings = host.context.hierarchies, host.settings
    where = settings.cgroup.parent
    if not host.is_root:
        yield warning(f"{where}: only root can try to make cgroups there", "run doctor as root")
        return
    paths = [group.path for group in parents(hierarchies, settings)]
    missing = {path: topmost_missing(hierarchies, path) for path in paths}
    try:
        probe_cgroups(host.context, Deadline(_LIMIT_S))
    except OcigrpcError as error:
        yield failed(error.message, f"change cgroup.parent, or cgroup.manager, {_manager(host)}")
    else:
        yield fine(f"{where}: cgroups can be made there")
    finally:
        for path, first in missing.items():
            remove_made(hierarchies, path, first)


def _manager(host: Host) -> str:
    return f"which is {host.settings.cgroup.manager.value}"


def check_systemd(host: Host) -> Iterator[Finding]:
    """Whether it answers on the bus, if it is to manage cgroups."""
    if host.settings.cgroup.manager is not CgroupManager.SYSTEMD:
        return
    try:
        systemd.ping(Deadline(_LIMIT_S))
    except (CgroupFailed, OcigrpcError) as error:
        remedy = "start dbus, or set cgroup.manager to cgroupfs"
        yield failed(f"systemd does not answer: {error.message}", remedy)
    else:
        yield fine("it answers on the system bus")


def check_seccomp(host: Host) -> Iterator[Finding]:
    """Whether the kernel filters system calls, and the profile that is the default."""
    if not Path("/proc/sys/kernel/seccomp").is_dir():
        problem = "the kernel filters no system calls: only unconfined containers run"
        yield failed(problem, "boot a kernel with CONFIG_SECCOMP_FILTER")
        return
    try:
        path = check_host_profile()
    except HostFailed as error:
        yield failed(f"{error.metadata['path']}: {error.metadata['error']}", "correct or remove it")
    else:
        yield fine(f"the default is {path or 'the profile of the service'}")


def _has_overlay(release: str) -> bool:
    if "\toverlay\n" in Path("/proc/filesystems").read_text():
        return True
    # As a module, which is loaded with the first mount.
    modules = Path("/lib/modules") / release / "kernel/fs/overlayfs"
    return any(modules.glob("overlay.ko*"))


def _number(path: str) -> int:
    try:
        return int(Path(path).read_text())
    except (OSError, ValueError):
        return 0
