"""Checks of limits against the host, the cgroup and its present usage."""

from __future__ import annotations

import re
from contextlib import suppress

import msgspec

from ocigrpc.errors import CannotRun, CgroupFailed, RuntimeFailed
from ocigrpc.host.cgroups import cpuset
from ocigrpc.host.cgroups.cgroup import Cgroup
from ocigrpc.host.cgroups.hierarchy import Hierarchies, Kind
from ocigrpc.host.cgroups.limit_files import Snapshot
from ocigrpc.host.cgroups.limits import (
    NO_LIMIT,
    Limits,
    parse_number,
    shares_of_weight,
    weight_of_shares,
)
from ocigrpc.oci.runtime_errors import classified
from ocigrpc.oci.spec.config import Resources
from ocigrpc.violations import Violations, entry_field

# The field of a request and the controller that it needs, by the field of Limits.
_FIELDS = {
    "cpu_shares": ("cpu_shares", "cpu"),
    "cpu_weight": ("cpu_weight", "cpu"),
    "cpu_quota_us": ("cpu_quota", "cpu"),
    "cpu_period_us": ("cpu_period", "cpu"),
    "cpuset_cpus": ("cpuset_cpus", "cpuset"),
    "cpuset_mems": ("cpuset_mems", "cpuset"),
    "memory_limit_bytes": ("memory_limit_in_bytes", "memory"),
    "memory_swap_limit_bytes": ("memory_swap_limit_in_bytes", "memory"),
    "pids_limit": ("pids_limit", "pids"),
    "hugepage_limits": ("hugepage_limits", "hugetlb"),
}
_BYTES = re.compile(r"(\d{1,20})([KMG]?)", re.ASCII)
_UNITS = {"": 0, "K": 10, "M": 20, "G": 30}


def wanted_of(resources: Resources) -> Limits:
    """The limits that a request sets; None for the others."""
    shares, weight = resources.cpu_shares, resources.cpu_weight
    if NO_LIMIT in (shares, weight):
        shares = weight = NO_LIMIT
    elif weight:
        shares = shares or shares_of_weight(weight)
    elif shares:
        weight = weight_of_shares(shares)
    return Limits(
        cpu_shares=shares or None,
        cpu_weight=weight or None,
        cpu_quota_us=resources.cpu_quota or None,
        cpu_period_us=resources.cpu_period or None,
        cpuset_cpus=resources.cpuset_cpus,
        cpuset_mems=resources.cpuset_mems,
        memory_limit_bytes=resources.memory_limit_in_bytes or None,
        memory_swap_limit_bytes=resources.memory_swap_limit_in_bytes or None,
        pids_limit=resources.pids_limit or None,
        unified=resources.unified,
        hugepage_limits={each.page_size: each.limit for each in resources.hugepage_limits},
    )


def completed(wanted: Limits, now: Limits) -> Limits:
    """``wanted`` with both limits of memory if it has one of them: each bounds the other."""
    memory, both = wanted.memory_limit_bytes, wanted.memory_swap_limit_bytes
    if memory is None and both is None:
        return wanted
    if both is None:
        both = now.memory_swap_limit_bytes
        if both is not None and memory == NO_LIMIT:
            both = NO_LIMIT
    elif memory is None:
        memory = now.memory_limit_bytes
    return msgspec.structs.replace(wanted, memory_limit_bytes=memory, memory_swap_limit_bytes=both)


def check_host(
    resources: Resources, field: str, hierarchies: Hierarchies, found: Violations
) -> None:
    """Add a violation for each limit that this host does not support.

    ``field`` is the path of ``resources`` in the request.
    """
    v2 = hierarchies.kind is Kind.V2
    controllers = hierarchies.controllers()
    found.allow(
        v2 or not resources.unified,
        f"{field}.unified",
        "needs a host with cgroup v2 alone",
        "NOT_APPLICABLE",
    )
    wanted = wanted_of(resources)
    for name, (asked, controller) in _FIELDS.items():
        if getattr(resources, asked) and getattr(wanted, name):
            _require(controller in controllers, f"{field}.{asked}", found)
    for name in resources.unified if v2 else ():
        controller = name.partition(".")[0]
        known = controller in controllers or controller == "cgroup"
        _require(known, entry_field(f"{field}.unified", name), found)


def check_cpusets(resources: Resources, field: str, cgroup: Cgroup, found: Violations) -> None:
    """Add a violation for CPUs and memory nodes that the parent cgroup doesn't have."""
    for name, asked, text in (
        ("cpuset.cpus", "cpuset_cpus", resources.cpuset_cpus),
        ("cpuset.mems", "cpuset_mems", resources.cpuset_mems),
    ):
        there = cpuset.available(cgroup, name) if text else None
        if text and there is not None:
            # Compared first, so that no huge set is built.
            fits = cpuset.largest(text) <= max(there) and cpuset.parse_set(text) <= there
            problem = f"{text} is not in {cpuset.set_text(there)}, which the parent cgroup has"
            found.allow(fits, f"{field}.{asked}", problem, "NOT_AVAILABLE")


def available(cgroup: Cgroup, wanted: Limits, now: Snapshot, field: str) -> Limits:
    """``wanted`` without a limit of swap that holds anyway.

    Raises ``InvalidArgument`` (NOT_SUPPORTED) for limits that the cgroup has no file for.
    """
    found = Violations()
    lacking = set(now.lacks(cgroup, wanted))
    if "memory_swap_limit_bytes" in lacking:
        without = (NO_LIMIT, wanted.memory_limit_bytes)
        if wanted.memory_swap_limit_bytes in without:
            # The host has no swap, or does not count it.
            lacking.remove("memory_swap_limit_bytes")
            wanted = msgspec.structs.replace(wanted, memory_swap_limit_bytes=None)
    for name in sorted(lacking):
        _require(False, f"{field}.{_FIELDS[name][0]}", found)
    known = {name for (_, name), _ in now.texts}
    for name in wanted.unified:
        _require(name in known, entry_field(f"{field}.unified", name), found)
    found.raise_any()
    return wanted


def refuse_above_swap(wanted: Limits) -> None:
    """Raise ``CannotRun`` (MEMORY_ABOVE_SWAP) if memory exceeds memory and swap together."""
    memory, both = wanted.memory_limit_bytes, wanted.memory_swap_limit_bytes
    if memory is None or both in (None, NO_LIMIT):
        return
    if memory == NO_LIMIT or memory > (both or 0):
        raise CannotRun(
            f"memory_limit_in_bytes {memory} is above memory_swap_limit_in_bytes {both}",
            reason="MEMORY_ABOVE_SWAP",
            memory_limit_in_bytes=memory,
            memory_swap_limit_in_bytes=both,
        )


def refuse_in_use(cgroup: Cgroup, wanted: Limits) -> None:
    """Raise ``CannotRun`` (MEMORY_IN_USE) for a limit below the present usage on cgroup v2.

    cgroup v1 reclaims what it can and then refuses; cgroup v2 would kill processes.
    """
    group = cgroup.of_controller("")
    if group is None or len(cgroup.groups) > 1:
        return
    limit = _unified_bytes(wanted.unified.get("memory.max", ""))
    if wanted.memory_limit_bytes is not None:
        limit = wanted.memory_limit_bytes
    used = parse_number(group.read("memory.current"))
    if used is not None and NO_LIMIT < limit < used:
        # Only since Linux 5.19, and an error when less was reclaimed.
        with suppress(CgroupFailed):
            group.write("memory.reclaim", str(used - limit), gone_is_fine=True)
        _refuse_used(parse_number(group.read("memory.current")), limit)


def refused(error: RuntimeFailed, cgroup: Cgroup, wanted: Limits) -> RuntimeFailed:
    """The error for a runtime's failure, which may come of a limit that the kernel refused."""
    group = cgroup.of_controller("memory")
    if group is not None and (wanted.memory_limit_bytes or NO_LIMIT) != NO_LIMIT:
        limit = wanted.memory_limit_bytes or 0
        try:
            _refuse_used(parse_number(group.read("memory.usage_in_bytes")), limit)
        except CannotRun as in_use:
            in_use.metadata["output"] = error.metadata.get("output", "")
            return in_use
    return classified(error)


def _refuse_used(used: int | None, limit: int) -> None:
    if used is not None and used > limit:
        raise CannotRun(
            f"{used} bytes of memory are in use, more than {limit}",
            reason="MEMORY_IN_USE",
            usage_bytes=used,
            memory_limit_in_bytes=limit,
        )


def _unified_bytes(text: str) -> int:
    """The bytes that "64M" means in a file of cgroup v2; NO_LIMIT if it is not a number."""
    match = _BYTES.fullmatch(text.strip())
    return NO_LIMIT if match is None else int(match[1]) << _UNITS[match[2]]


def _require(there: bool, field: str, found: Violations) -> None:
    found.allow(there, field, "can't be limited on this host", "NOT_SUPPORTED")
