"""Limits of a container's cgroup and of its program."""

from __future__ import annotations

import re

from ocigrpc.oci.config import ContainerConfig, Resources
from ocigrpc.oci.violations import Violations, entry_field

RLIMITS = frozenset(
    f"RLIMIT_{name}"
    for name in (
        "AS CORE CPU DATA FSIZE LOCKS MEMLOCK MSGQUEUE NICE NOFILE NPROC RSS RTPRIO RTTIME "
        "SIGPENDING STACK"
    ).split()
)
"""The limits that setrlimit(2) knows."""

_INT64_MAX = (1 << 63) - 1
_UINT64_MAX = (1 << 64) - 1
_CPUSET = re.compile(r"\d{1,6}(-\d{1,6})?(,\d{1,6}(-\d{1,6})?)*", re.ASCII)
_UNIFIED_NAME = re.compile(r"[a-z0-9_]+(\.[a-zA-Z0-9_]+)+")
_UNIFIED_OF_CORE = frozenset({"cgroup.max.depth", "cgroup.max.descendants"})
_UNIFIED_VALUE_LIMIT_BYTES = 4095


def resources_of(config: ContainerConfig, violations: Violations) -> dict[str, object]:
    """The runtime spec's ``linux.resources`` without devices; a limit of 0 is left out."""
    return limits_of(config.resources, "config.resources", violations)


def limits_of(resources: Resources, field: str, violations: Violations) -> dict[str, object]:
    """What :func:`resources_of` says, of limits that are not part of a config.

    ``field`` is where the request has them. Of no meaning when it adds to ``violations``.
    """
    _check_cpu(resources, field, violations)
    _check_memory(resources, field, violations)
    violations.in_range(f"{field}.pids_limit", resources.pids_limit, 0, _INT64_MAX)
    for name, value in resources.unified.items():
        name_field = entry_field(f"{field}.unified", name)
        # The name becomes a file's name: nothing may lead out of the cgroup.
        violations.allow(
            _UNIFIED_NAME.fullmatch(name) is not None, name_field, "is no cgroup file", "MALFORMED"
        )
        # The rest of these move, freeze and kill processes, and not only the container's.
        violations.allow(
            not name.startswith("cgroup.") or name in _UNIFIED_OF_CORE,
            name_field,
            "is no limit",
            "NOT_APPLICABLE",
        )
        violations.text(name_field, value, _UNIFIED_VALUE_LIMIT_BYTES)
    sections: dict[str, dict[str, object]] = {
        "cpu": {
            "shares": resources.cpu_shares,
            "quota": resources.cpu_quota,
            "period": resources.cpu_period,
            "cpus": resources.cpuset_cpus,
            "mems": resources.cpuset_mems,
        },
        "memory": {
            "limit": resources.memory_limit_in_bytes,
            "swap": resources.memory_swap_limit_in_bytes,
        },
        "pids": {"limit": resources.pids_limit},
        "unified": dict(resources.unified),
    }
    return _without_empty(sections)


def oom_score_adj_of(config: ContainerConfig, violations: Violations) -> int:
    """The program's oom_score_adj, -1000 to 1000."""
    adjustment = config.resources.oom_score_adj
    violations.in_range("config.resources.oom_score_adj", adjustment, -1000, 1000)
    return adjustment


def rlimits_of(config: ContainerConfig, violations: Violations) -> list[dict[str, object]]:
    """The program's limits. Wrong are unknown names, ones that come twice, and soft > hard."""
    seen: set[str] = set()
    for index, rlimit in enumerate(config.rlimits):
        field = f"config.rlimits[{index}]"
        violations.allow(
            rlimit.type in RLIMITS, f"{field}.type", f"no limit {rlimit.type!r}", "UNKNOWN_RLIMIT"
        )
        violations.allow(
            rlimit.type not in seen, f"{field}.type", f"{rlimit.type} comes twice", "DUPLICATE"
        )
        seen.add(rlimit.type)
        violations.in_range(f"{field}.hard", rlimit.hard, 0, _UINT64_MAX)
        violations.in_range(f"{field}.soft", rlimit.soft, 0, rlimit.hard)
    return [{"type": r.type, "soft": r.soft, "hard": r.hard} for r in config.rlimits]


def _check_cpu(resources: Resources, field: str, violations: Violations) -> None:
    if resources.cpu_period:
        violations.in_range(f"{field}.cpu_period", resources.cpu_period, 1000, 1_000_000)
    if resources.cpu_quota not in (0, -1):
        violations.in_range(f"{field}.cpu_quota", resources.cpu_quota, 1000, _INT64_MAX)
    if resources.cpu_shares:
        violations.in_range(f"{field}.cpu_shares", resources.cpu_shares, 2, 262_144)
    for name, cpuset in (
        ("cpuset_cpus", resources.cpuset_cpus),
        ("cpuset_mems", resources.cpuset_mems),
    ):
        violations.allow(
            not cpuset or _is_cpuset(cpuset),
            f"{field}.{name}",
            f'{cpuset!r} is no list as in "0-2,4"',
            "MALFORMED",
        )


def _check_memory(resources: Resources, field: str, violations: Violations) -> None:
    limit = resources.memory_limit_in_bytes
    swap = resources.memory_swap_limit_in_bytes
    violations.in_range(f"{field}.memory_limit_in_bytes", limit, 0, _INT64_MAX)
    swap_field = f"{field}.memory_swap_limit_in_bytes"
    if swap not in (0, -1) and violations.in_range(swap_field, swap, max(limit, 1), _INT64_MAX):
        # Swap counts together with memory: without a limit of that, it limits nothing.
        violations.allow(
            limit > 0, swap_field, "needs memory_limit_in_bytes besides", "NOT_APPLICABLE"
        )


def _is_cpuset(text: str) -> bool:
    if not _CPUSET.fullmatch(text):
        return False
    ranges = [part.partition("-") for part in text.split(",")]
    return all(int(low) <= int(high or low) for low, _, high in ranges)


def _without_empty(sections: dict[str, dict[str, object]]) -> dict[str, object]:
    kept = {
        name: {key: value for key, value in section.items() if value}
        for name, section in sections.items()
    }
    return {name: section for name, section in kept.items() if section}
