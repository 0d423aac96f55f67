"""Limits of a container's cgroup and of its program."""

from __future__ import annotations

import re
from collections.abc import Mapping

import msgspec

from ocigrpc.host.cgroups.limits import (
    NO_LIMIT,
    SHARES_MAX,
    WEIGHT_MAX,
    shares_of_weight,
    weight_of_shares,
)
from ocigrpc.host.descriptors import INITIAL_LIMIT
from ocigrpc.oci.spec.config import ContainerConfig, Resources, Rlimit
from ocigrpc.violations import Violations, entry_field

# The limits that setrlimit(2) knows.
RLIMITS = frozenset(
    f"RLIMIT_{name}"
    for name in (
        "AS CORE CPU DATA FSIZE LOCKS MEMLOCK MSGQUEUE NICE NOFILE NPROC RSS RTPRIO RTTIME "
        "SIGPENDING STACK"
    ).split()
)

_OPEN_FILES = "RLIMIT_NOFILE"
_INT64_MAX = (1 << 63) - 1
_UINT64_MAX = (1 << 64) - 1
# The kernel's maximums: PID_MAX_LIMIT, and the longest time in a quota.
_PIDS_MAX = 1 << 22
_QUOTA_MAX_US = (1 << 44) - 1
_CPUSET = re.compile(r"\d{1,6}(-\d{1,6})?(,\d{1,6}(-\d{1,6})?)*", re.ASCII)
_PAGE_SIZE = re.compile(r"[1-9]\d{0,3}[KMG]B", re.ASCII)
_UNIFIED_NAME = re.compile(r"[a-z0-9_]+(\.[a-zA-Z0-9_]+)+")
_UNIFIED_OF_CORE = frozenset({"cgroup.max.depth", "cgroup.max.descendants"})
_UNIFIED_VALUE_LIMIT_BYTES = 4095


def resources_of(config: ContainerConfig, violations: Violations) -> dict[str, object]:
    """The runtime spec's ``linux.resources`` without devices and without lifted limits."""
    resources = config.resources
    swap, limit = resources.memory_swap_limit_in_bytes, resources.memory_limit_in_bytes
    check_limits(resources, "config.resources", violations)
    # The limit of swap includes memory, so it has no effect without a limit of memory.
    violations.allow(
        swap <= 0 or limit > 0,
        "config.resources.memory_swap_limit_in_bytes",
        "needs memory_limit_in_bytes besides",
        "NOT_APPLICABLE",
    )
    return limits_of(resources)


def limits_of(resources: Resources) -> dict[str, object]:
    """``linux.resources`` of valid limits, without lifted ones.

    Not every runtime can lift limits, and a new cgroup has none.
    """
    shares = resources.cpu_shares
    if resources.cpu_weight > 0:
        shares = shares_of_weight(resources.cpu_weight)
    numbers: dict[str, dict[str, int]] = {
        "cpu": {"shares": shares, "quota": resources.cpu_quota, "period": resources.cpu_period},
        "memory": {
            "limit": resources.memory_limit_in_bytes,
            "swap": resources.memory_swap_limit_in_bytes,
        },
        "pids": {"limit": resources.pids_limit},
    }
    sections: dict[str, dict[str, object]] = {
        name: {key: value for key, value in section.items() if value > 0}
        for name, section in numbers.items()
    }
    cpusets = {"cpus": resources.cpuset_cpus, "mems": resources.cpuset_mems}
    sections["cpu"] |= {name: text for name, text in cpusets.items() if text}
    sections["unified"] = dict(resources.unified)
    found: dict[str, object] = {name: section for name, section in sections.items() if section}
    if huge := [each for each in resources.hugepage_limits if each.limit != NO_LIMIT]:
        found["hugepageLimits"] = [
            {"pageSize": each.page_size, "limit": each.limit} for each in huge
        ]
    return found


def changes_of(resources: Resources, *, unified: bool) -> dict[str, object]:
    """``linux.resources`` for an update, without changes that not every runtime can make.

    ``unified`` says that the host has cgroup v2. The changes that are missing here, mostly
    lifted limits, have to be made without the runtime.
    """
    found = limits_of(resources)
    sections: dict[str, dict[str, object]] = {
        "memory": {
            "limit": resources.memory_limit_in_bytes,
            "swap": resources.memory_swap_limit_in_bytes,
        }
    }
    if unified:
        # With cgroup v1, crun does not write -1 for these.
        sections |= {"cpu": {"quota": resources.cpu_quota}, "pids": {"limit": resources.pids_limit}}
    for name, section in sections.items():
        none = {key: value for key, value in section.items() if value == NO_LIMIT}
        if none:
            found[name] = msgspec.convert(found.get(name, {}), dict[str, object]) | none
    return with_weight(found) if unified else found


def with_weight(limits: Mapping[str, object]) -> dict[str, object]:
    """The same with a weight instead of shares, which runtimes convert by different formulas."""
    cpu = msgspec.convert(limits.get("cpu", {}), dict[str, object])
    unified = msgspec.convert(limits.get("unified", {}), dict[str, str])
    shares = cpu.pop("shares", None)
    if shares is None:
        return dict(limits)
    unified["cpu.weight"] = str(weight_of_shares(msgspec.convert(shares, int)))
    found = {name: section for name, section in limits.items() if name != "cpu"}
    return found | ({"cpu": cpu} if cpu else {}) | {"unified": unified}


def check_limits(resources: Resources, field: str, violations: Violations) -> None:
    """Add what is wrong with limits on any host; ``field`` is the request's field of them."""
    _check_cpu(resources, field, violations)
    _check_memory(resources, field, violations)
    pids = resources.pids_limit
    violations.in_range(f"{field}.pids_limit", pids, NO_LIMIT, _PIDS_MAX)
    sizes: set[str] = set()
    for index, each in enumerate(resources.hugepage_limits):
        size_field = f"{field}.hugepage_limits[{index}].page_size"
        valid = _PAGE_SIZE.fullmatch(each.page_size) is not None
        # The size becomes part of a file's name.
        violations.allow(valid, size_field, 'is not a size such as "2MB"', "MALFORMED")
        violations.allow(each.page_size not in sizes, size_field, "is given twice", "DUPLICATE")
        sizes.add(each.page_size)
        limit_field = f"{field}.hugepage_limits[{index}].limit"
        violations.in_range(limit_field, each.limit, NO_LIMIT, _INT64_MAX)
    for name, value in resources.unified.items():
        name_field = entry_field(f"{field}.unified", name)
        # The name becomes a file's name, and must not lead out of the cgroup.
        valid = _UNIFIED_NAME.fullmatch(name) is not None
        violations.allow(valid, name_field, "is not a cgroup file", "MALFORMED")
        # The other files of the core move, freeze and kill processes, not only the container's.
        violations.allow(
            not name.startswith("cgroup.") or name in _UNIFIED_OF_CORE,
            name_field,
            "is not a limit",
            "NOT_APPLICABLE",
        )
        violations.text(name_field, value, _UNIFIED_VALUE_LIMIT_BYTES)


def oom_score_adj_of(config: ContainerConfig, violations: Violations) -> int:
    """The program's oom_score_adj, -1000 to 1000."""
    adjustment = config.resources.oom_score_adj
    violations.in_range("config.resources.oom_score_adj", adjustment, -1000, 1000)
    return adjustment


def rlimits_of(config: ContainerConfig, violations: Violations) -> list[dict[str, object]]:
    """The program's rlimits; without one for open files, the usual one is added.

    Adds violations for unknown names, for duplicates, and for soft > hard.
    """
    seen: set[str] = set()
    for index, rlimit in enumerate(config.rlimits):
        field = f"config.rlimits[{index}]"
        violations.allow(
            rlimit.type in RLIMITS, f"{field}.type", f"no limit {rlimit.type!r}", "UNKNOWN_RLIMIT"
        )
        violations.allow(
            rlimit.type not in seen, f"{field}.type", f"{rlimit.type} is given twice", "DUPLICATE"
        )
        seen.add(rlimit.type)
        violations.in_range(f"{field}.hard", rlimit.hard, 0, _UINT64_MAX)
        violations.in_range(f"{field}.soft", rlimit.soft, 0, rlimit.hard)
    rlimits = list(config.rlimits)
    if _OPEN_FILES not in seen:
        # Without it, runc up to 1.1.12 passes on its own, which the Go runtime has raised.
        rlimits.append(Rlimit(_OPEN_FILES, *INITIAL_LIMIT))
    return [{"type": each.type, "soft": each.soft, "hard": each.hard} for each in rlimits]


def _check_cpu(resources: Resources, field: str, violations: Violations) -> None:
    if resources.cpu_period:
        violations.in_range(f"{field}.cpu_period", resources.cpu_period, 1000, 1_000_000)
    if resources.cpu_quota not in (0, NO_LIMIT):
        violations.in_range(f"{field}.cpu_quota", resources.cpu_quota, 1000, _QUOTA_MAX_US)
    _check_weight(resources, field, violations)
    for name, cpuset in (
        ("cpuset_cpus", resources.cpuset_cpus),
        ("cpuset_mems", resources.cpuset_mems),
    ):
        violations.allow(
            not cpuset or _is_cpuset(cpuset),
            f"{field}.{name}",
            f'{cpuset!r} is not a list such as "0-2,4"',
            "MALFORMED",
        )


def _check_weight(resources: Resources, field: str, violations: Violations) -> None:
    shares, weight = resources.cpu_shares, resources.cpu_weight
    valid = True
    if shares not in (0, NO_LIMIT):
        valid = violations.in_range(f"{field}.cpu_shares", shares, 2, SHARES_MAX)
    if weight not in (0, NO_LIMIT):
        valid &= violations.in_range(f"{field}.cpu_weight", weight, 1, WEIGHT_MAX)
    if valid and shares and weight:
        agree = shares == weight if NO_LIMIT in (shares, weight) else None
        violations.allow(
            weight_of_shares(shares) == weight if agree is None else agree,
            f"{field}.cpu_weight",
            f"{weight} is not what {shares} cpu_shares are",
            "CONFLICT",
        )


def _check_memory(resources: Resources, field: str, violations: Violations) -> None:
    limit = resources.memory_limit_in_bytes
    swap = resources.memory_swap_limit_in_bytes
    violations.in_range(f"{field}.memory_limit_in_bytes", limit, NO_LIMIT, _INT64_MAX)
    swap_field = f"{field}.memory_swap_limit_in_bytes"
    if swap not in (0, NO_LIMIT):
        violations.in_range(swap_field, swap, max(limit, 1), _INT64_MAX)
        violations.allow(
            limit != NO_LIMIT,
            swap_field,
            "has no memory_limit_in_bytes to add to",
            "NOT_APPLICABLE",
        )


def _is_cpuset(text: str) -> bool:
    if not _CPUSET.fullmatch(text):
        return False
    ranges = [part.partition("-") for part in text.split(",")]
    return all(int(low) <= int(high or low) for low, _, high in ranges)
