"""The limits of a cgroup: read as the kernel holds them, and put back as they were.

Setting them is the OCI runtime's work, which keeps notes of its own.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Self

from msgspec import Struct

from ocigrpc.errors import CgroupFailed
from ocigrpc.host.cgroup import Cgroup
from ocigrpc.host.cgroup_part import Part
from ocigrpc.host.cgroup_stats import NO_LIMIT, parse_number, part_of

_V1_FILES = {
    "cpu": ("cpu.shares", "cpu.cfs_period_us", "cpu.cfs_quota_us"),
    "cpuset": ("cpuset.cpus", "cpuset.mems"),
    "memory": ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes"),
    "pids": ("pids.max",),
}
_V2_FILES = (
    *("cpu.weight", "cpu.max", "cpuset.cpus", "cpuset.mems"),
    *("memory.max", "memory.swap.max", "pids.max"),
)


class Limits(Struct, frozen=True):
    """Limits in force; ``NO_LIMIT`` is none, None what the host can't tell.

    ``cpu_shares`` is what cgroup v1 has, ``cpu_weight`` what v2 has. A cpuset that is ""
    is not limited. ``unified`` has the cgroup2 files that were asked for.
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


def read_limits(groups: Sequence[Cgroup], unified_names: Collection[str] = ()) -> Limits:
    """What limits who is in the last of ``groups``, each of which is in the one before.

    Weights are those of the first group, which is the one that has siblings.
    """
    found = [_limits_of(group, unified_names) for group in groups]
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
    )


class Snapshot(Struct, frozen=True):
    """What the files of the limits of groups held at one moment."""

    texts: tuple[tuple[tuple[Part, str], str], ...]

    @classmethod
    def take(cls, groups: Sequence[Cgroup], unified_names: Collection[str] = ()) -> Self:
        """Of the limits as they are now."""
        return cls(tuple(each for group in groups for each in _texts(group, unified_names)))

    def restore(self) -> Sequence[str]:
        """Write back what has changed; the names of those files that stay changed.

        Some limits bound one another, as memory and swap do, so that the order matters:
        as long as a round puts something right, there is another one.
        """
        changed = self._changed()
        while changed:
            for part, name, text in changed:
                _try_write(part, name, text)
            before, changed = len(changed), self._changed()
            if len(changed) == before:
                break
        return [name for _, name, _ in changed]

    def _changed(self) -> list[tuple[Part, str, str]]:
        return [
            (part, name, text)
            for (part, name), text in self.texts
            # A file that is gone, is gone with its group.
            if part.read(name) not in (text, None)
        ]


def _limits_of(group: Cgroup, unified_names: Collection[str]) -> Limits:
    # A controller is in one hierarchy, so a name is the file of one part.
    told = {name: text.strip() for (_, name), text in _texts(group, unified_names)}
    if "memory.max" in told:
        memory = parse_number(told["memory.max"])
        both = _together(memory, parse_number(told.get("memory.swap.max")))
    else:
        memory = parse_number(told.get("memory.limit_in_bytes"))
        both = parse_number(told.get("memory.memsw.limit_in_bytes"))
    # "max 100000"
    quota, _, period = told.get("cpu.max", "").partition(" ")
    return Limits(
        cpu_shares=parse_number(told.get("cpu.shares")),
        cpu_weight=parse_number(told.get("cpu.weight")),
        cpu_quota_us=parse_number(quota or told.get("cpu.cfs_quota_us")),
        cpu_period_us=parse_number(period or told.get("cpu.cfs_period_us")),
        cpuset_cpus=told.get("cpuset.cpus"),
        cpuset_mems=told.get("cpuset.mems"),
        memory_limit_bytes=memory,
        memory_swap_limit_bytes=both,
        pids_limit=parse_number(told.get("pids.max")),
        unified={name: told[name] for name in unified_names if name in told},
    )


def _cpu_share(limits: Limits) -> float:
    return (limits.cpu_quota_us or 0) / (limits.cpu_period_us or 1)


def _least(limits: Iterable[int | None]) -> int | None:
    known = [limit for limit in limits if limit is not None]
    return min((limit for limit in known if limit != NO_LIMIT), default=NO_LIMIT if known else None)


def _try_write(part: Part, name: str, text: str) -> None:
    # Of some files the kernel takes one line at a time; an empty text takes a newline.
    for line in text.splitlines() or [""]:
        try:
            part.write(name, f"{line}\n")
        except CgroupFailed:
            return


def _texts(group: Cgroup, unified_names: Collection[str]) -> list[tuple[tuple[Part, str], str]]:
    wanted = [
        (part, name)
        for controller, names in _V1_FILES.items()
        if (part := part_of(group, controller)) is not None
        for name in names
    ]
    unified = part_of(group, "")
    if unified is not None:
        names = dict.fromkeys((*_V2_FILES, *unified_names))
        wanted += [(unified, name) for name in names]
    read = ((each, each[0].read(each[1])) for each in wanted)
    return [(each, text) for each, text in read if text is not None]


def _together(memory: int | None, swap: int | None) -> int | None:
    """Memory and swap as one limit, which is how the OCI runtime spec has it."""
    if memory is None or swap is None:
        return None
    return NO_LIMIT if NO_LIMIT in (memory, swap) else memory + swap
