"""The limits of a cgroup, as they are in force: cgroups(7), and cgroup-v2.rst of the kernel."""

from __future__ import annotations

import functools
import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

from msgspec import Struct

from ocigrpc.host.cgroups import cpuset
from ocigrpc.host.cgroups.cgroup import Cgroup
from ocigrpc.host.cgroups.controller import ControllerGroup

# The value of a limit when there is none; a limit that the host does not know is None.
NO_LIMIT = -1
# The unit in which memory is limited and counted.
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
# The highest v1 limit, which means that there is none.
_V1_NO_LIMIT = ((1 << 63) - 1) // PAGE_BYTES * PAGE_BYTES

# The largest weights among siblings, with cgroup v1 and v2; the least ones are 2 and 1.
SHARES_MAX, WEIGHT_MAX = 262_144, 10_000
# The weights of a new group.
SHARES_DEFAULT, WEIGHT_DEFAULT = 1024, 100

_SHARES_SPAN, _WEIGHT_SPAN = SHARES_MAX - 2, WEIGHT_MAX - 1

_V1_FILES = {
    "cpu": ("cpu.shares", "cpu.cfs_period_us", "cpu.cfs_quota_us"),
    "cpuset": cpuset.FILES,
    "memory": ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes"),
    "pids": ("pids.max",),
}
_V2_FILES = (
    *("cpu.weight", "cpu.max", *cpuset.FILES),
    *("memory.max", "memory.swap.max", "pids.max"),
)
# Beyond this, cgroup v1 means no limit, whatever it is rounded to.
_NO_HUGE_LIMIT = 1 << 62


def parse_number(text: str | None) -> int | None:
    """The number in a file, ``NO_LIMIT`` for "max"; None when there is no such file."""
    value = (text or "").strip()
    if not value:
        return None
    if value == "max":
        return NO_LIMIT
    number = int(value)
    return NO_LIMIT if number >= _V1_NO_LIMIT else number


def weight_of_shares(shares: int) -> int:
    """The cgroup v2 weight for cgroup v1 shares, by the formula of the OCI runtimes."""
    return 1 + (shares - 2) * _WEIGHT_SPAN // _SHARES_SPAN


def shares_of_weight(weight: int) -> int:
    """The lowest shares with this weight."""
    return 2 - (1 - weight) * _SHARES_SPAN // _WEIGHT_SPAN


class Limits(Struct, frozen=True):
    """Limits, in force or wanted; ``NO_LIMIT`` is none.

    None is a limit that the host does not have, or that is not to be changed. ``cpu_shares`` and
    ``cpu_weight`` are one limit. A cpuset that is "" is not limited. ``unified`` has the
    requested cgroup2 files, ``hugepage_limits`` bytes by the size of a page.
    """

    cpu_shares: int | None = None
    cpu_weight: int | None = None
    cpu_quota_us: int | None = None
    cpu_period_us: int | None = None
    cpuset_cpus: str | None = None
    cpuset_mems: str | None = None
    memory_limit_bytes: int | None = None
    memory_swap_limit_bytes: int | None = None
    pids_limit: int | None = None
    unified: dict[str, str] = {}
    hugepage_limits: dict[str, int] = {}


def read_limits(cgroups: Sequence[Cgroup], unified_names: Collection[str] = ()) -> Limits:
    """The limits of a process in the last of ``cgroups``, each of which is in the one before.

    Weights are those of the first group, which is the one that has siblings.
    """
    found = [_limits_of(cgroup, unified_names) for cgroup in cgroups]
    outer, inner = found[0], found[-1]
    with_quota = [each for each in found if each.cpu_quota_us not in (None, NO_LIMIT)]
    slowest = min(with_quota, key=_cpu_share, default=outer)
    return Limits(
        cpu_shares=outer.cpu_shares,
        cpu_weight=outer.cpu_weight,
        cpu_quota_us=slowest.cpu_quota_us,
        cpu_period_us=slowest.cpu_period_us,
        cpuset_cpus=inner.cpuset_cpus or outer.cpuset_cpus,
        cpuset_mems=inner.cpuset_mems or outer.cpuset_mems,
        memory_limit_bytes=_least(each.memory_limit_bytes for each in found),
        memory_swap_limit_bytes=_least(each.memory_swap_limit_bytes for each in found),
        pids_limit=_least(each.pids_limit for each in found),
        unified=outer.unified | inner.unified,
        hugepage_limits={
            size: _least(each.hugepage_limits.get(size) for each in found) or 0
            for size in outer.hugepage_limits
        },
    )


def _limits_of(cgroup: Cgroup, unified_names: Collection[str]) -> Limits:
    # A controller is in one hierarchy, so a name is the file of one group.
    texts = {name: text.strip() for (_, name), text in texts_of(cgroup, unified_names)}
    if "memory.max" in texts:
        memory = parse_number(texts["memory.max"])
        both = _together(memory, parse_number(texts.get("memory.swap.max")))
    else:
        memory = parse_number(texts.get("memory.limit_in_bytes"))
        both = parse_number(texts.get("memory.memsw.limit_in_bytes"))
    # "max 100000"
    quota, _, period = texts.get("cpu.max", "").partition(" ")
    # A weight of 0 is that of an idle group, which runs only when no other does.
    shares, weight = parse_number(texts.get("cpu.shares")), parse_number(texts.get("cpu.weight"))
    return Limits(
        cpu_shares=shares_of_weight(weight) if weight else shares,
        cpu_weight=weight_of_shares(shares) if shares else weight or None,
        cpu_quota_us=parse_number(quota or texts.get("cpu.cfs_quota_us")),
        cpu_period_us=parse_number(period or texts.get("cpu.cfs_period_us")),
        cpuset_cpus=texts.get("cpuset.cpus"),
        cpuset_mems=texts.get("cpuset.mems"),
        memory_limit_bytes=memory,
        memory_swap_limit_bytes=both,
        pids_limit=parse_number(texts.get("pids.max")),
        unified={name: texts[name] for name in unified_names if name in texts},
        hugepage_limits={
            size: huge_number(text)
            for size in page_sizes()
            for name in huge_files(size)
            if (text := texts.get(name)) is not None
        },
    )


@functools.cache
def page_sizes() -> Mapping[str, int]:
    """The sizes of huge pages that this host has, in bytes by their names."""
    found = {}
    for directory in Path("/sys/kernel/mm/hugepages").glob("hugepages-*kB"):
        size_bytes = int(directory.name.removeprefix("hugepages-").removesuffix("kB")) << 10
        unit, shift = next(
            (u, s) for u, s in (("GB", 30), ("MB", 20), ("KB", 10)) if size_bytes >> s
        )
        found[f"{size_bytes >> shift}{unit}"] = size_bytes
    return found


def huge_files(size: str) -> Sequence[str]:
    """The files that may limit huge pages of a size, with cgroup v1 and v2."""
    return f"hugetlb.{size}.limit_in_bytes", f"hugetlb.{size}.max"


def huge_number(text: str) -> int:
    """A limit of huge pages, or of memory, from its file."""
    number = parse_number(text)
    return NO_LIMIT if number is None or number >= _NO_HUGE_LIMIT else number


def _cpu_share(limits: Limits) -> float:
    return (limits.cpu_quota_us or 0) / (limits.cpu_period_us or 1)


def _least(limits: Iterable[int | None]) -> int | None:
    known = [limit for limit in limits if limit is not None]
    return min((limit for limit in known if limit != NO_LIMIT), default=NO_LIMIT if known else None)


def texts_of(
    cgroup: Cgroup, unified_names: Collection[str]
) -> list[tuple[tuple[ControllerGroup, str], str]]:
    """The limit files of a group that exist, and what they hold."""
    sizes = page_sizes()
    v1_huge = tuple(f"hugetlb.{size}.limit_in_bytes" for size in sizes)
    wanted = [
        (group, name)
        for controller, names in (*_V1_FILES.items(), ("hugetlb", v1_huge))
        if (group := cgroup.of_controller(controller)) is not None
        for name in names
    ]
    unified = cgroup.of_controller("")
    if unified is not None and len(cgroup.groups) == 1:
        huge = (f"hugetlb.{size}.max" for size in sizes)
        names = dict.fromkeys((*_V2_FILES, *huge, *unified_names))
        wanted += [(unified, name) for name in names]
    elif unified is not None:
        wanted += [(unified, name) for name in unified_names]
    return read_texts(wanted)


def read_texts(
    places: Iterable[tuple[ControllerGroup, str]],
) -> list[tuple[tuple[ControllerGroup, str], str]]:
    """The files that exist, and what they hold."""
    read = ((place, place[0].read(place[1])) for place in places)
    return [(place, text) for place, text in read if text is not None]


def _together(memory: int | None, swap: int | None) -> int | None:
    """Memory and swap as one limit, as in the OCI runtime spec."""
    if memory is None or swap is None:
        return None
    return NO_LIMIT if NO_LIMIT in (memory, swap) else memory + swap
