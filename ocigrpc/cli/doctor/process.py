"""What this process may do, as the service may that is started like it."""

from __future__ import annotations

import os
from collections.abc import Iterator

from ocigrpc.cli.daemon.prepare import CONTAINERS, with_container_limit
from ocigrpc.cli.doctor.findings import Finding, Host, failed, fine, warning
from ocigrpc.errors import InvalidSettings
from ocigrpc.host import descriptors
from ocigrpc.oci.spec.capabilities import DEFAULT_CAPABILITIES, held_capabilities

# Without one of these, runtimes make no container.
_NEEDED = frozenset({"CAP_SYS_ADMIN", "CAP_SETUID", "CAP_SETGID", "CAP_CHOWN", "CAP_DAC_OVERRIDE"})
# What is lost without others.
_LOST = {
    "CAP_KILL": "containers of other users can't be stopped",
    "CAP_MKNOD": "containers have no devices of their own",
    "CAP_NET_ADMIN": "containers have no loopback device in a network of their own",
    "CAP_SYS_RESOURCE": "containers can't have resource limits above those of the service, or a"
    " lower oom_score_adj",
}
_HOW = "give it to the unit or the virtual machine that the service runs in"


def check_privileges(host: Host) -> Iterator[Finding]:
    """The user, and the capabilities, of which virtual machines often lack some."""
    if not host.is_root:
        problem = f"user {os.geteuid()} sees only a part: the service runs as root"
        yield warning(problem, "run doctor as root")
    held = held_capabilities()
    for name in sorted(_NEEDED - held):
        yield failed(f"{name} is missing: no container can be made", _HOW)
    lost = _LOST.keys() - held
    for name in sorted(lost):
        yield warning(f"{name} is missing: {_LOST[name]}", _HOW)
    for name in sorted(DEFAULT_CAPABILITIES - held - _NEEDED - lost):
        yield warning(f"{name} is missing: no container has it", _HOW)
    if held >= _NEEDED | _LOST.keys() | DEFAULT_CAPABILITIES:
        yield fine("all capabilities that the service needs")


def check_limits(host: Host) -> Iterator[Finding]:
    """Whether open files are enough for the containers of the settings."""
    # As the service does; it is our own limit alone.
    descriptors.raise_limit()
    limit = descriptors.limit()
    try:
        carried = with_container_limit(host.settings).limits.containers
    except InvalidSettings as error:
        yield failed(
            f"{limit} open files carry {error.metadata['carried']} containers,"
            f" and limits.containers is {host.settings.limits.containers}",
            f"set LimitNOFILE={error.metadata['wanted']} in the unit, or a lower limits.containers",
        )
        return
    if not host.settings.limits.containers and carried < CONTAINERS:
        wanted = descriptors.limit_for(CONTAINERS)
        yield warning(
            f"{limit} open files carry {carried} containers, fewer than the usual {CONTAINERS}",
            f"set LimitNOFILE={wanted} in the unit",
        )
        return
    yield fine(f"{limit} open files carry {carried} containers")
