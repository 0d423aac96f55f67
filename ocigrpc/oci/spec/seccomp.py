"""The system calls that a container may make; seccomp(2)."""

from __future__ import annotations

from collections.abc import Collection

from ocigrpc.host.files.regular import read_regular_file
from ocigrpc.oci.spec.config import ContainerConfig, Seccomp, SeccompType
from ocigrpc.oci.spec.seccomp_default import default_profile, host_profile
from ocigrpc.oci.spec.seccomp_profile import parse_profile, resolve
from ocigrpc.violations import Violations

_FIELD = "config.seccomp"


def seccomp_of(
    config: ContainerConfig, capabilities: Collection[str], violations: Violations
) -> dict[str, object] | None:
    """The runtime spec's ``linux.seccomp``; None if nothing is refused.

    ``capabilities`` are the container's bounding set, which rules may depend on. Adds
    violations for a ``localhost_ref`` that does not go with the type, can't be read
    (SECCOMP_UNREADABLE), or is no profile (SECCOMP_MALFORMED). Raises ``HostFailed`` when the
    host's default profile is broken.
    """
    seccomp = _asked(config)
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
    seccomp = _asked(config)
    if seccomp.type is not SeccompType.RUNTIME_DEFAULT:
        return seccomp.localhost_ref
    host = host_profile()
    return "" if host is None else host.path


def _asked(config: ContainerConfig) -> Seccomp:
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
