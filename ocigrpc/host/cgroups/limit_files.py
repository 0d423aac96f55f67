"""The files of the limits of cgroups: what they should hold, and how they get that.

The OCI runtime sets limits, and keeps a record of them. But not every runtime can set every
limit, and some set more than was requested; so the files are compared with what they
should hold, and corrected.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Self

from msgspec import Struct

from ocigrpc.errors import CgroupFailed
from ocigrpc.host.cgroups import cpuset
from ocigrpc.host.cgroups.cgroup import Cgroup
from ocigrpc.host.cgroups.controller import ControllerGroup
from ocigrpc.host.cgroups.limits import (
    NO_LIMIT,
    PAGE_BYTES,
    SHARES_DEFAULT,
    WEIGHT_DEFAULT,
    Limits,
    huge_files,
    huge_number,
    page_sizes,
    read_texts,
    texts_of,
)

# Called with what files are about to hold, by their names.
Keep = Callable[[Mapping[str, str]], None]

_MEMORY_FILES = frozenset(
    ("memory.max", "memory.swap.max", "memory.limit_in_bytes", "memory.memsw.limit_in_bytes")
)
# What removes the line of a device from a file that has a line for each.
_NO_LINE = {
    "io.max": "rbps=max wbps=max riops=max wiops=max",
    "io.latency": "target=0",
    "io.weight": "default",
    "io.bfq.weight": "default",
}


class LimitFile(Struct, frozen=True):
    """The file of one limit, which is a field of ``Limits``, and what it should hold.

    ``group`` is None when no hierarchy of the host has the controller.
    """

    field: str
    group: ControllerGroup | None
    name: str
    text: str


class Snapshot(Struct, frozen=True):
    """What the limit files of groups held at one moment, or should hold."""

    texts: tuple[tuple[tuple[ControllerGroup, str], str], ...]

    @classmethod
    def take(
        cls,
        cgroups: Sequence[Cgroup],
        unified_names: Collection[str] = (),
        *,
        with_cpusets_below: bool = False,
    ) -> Self:
        """The limits as they are now.

        With cgroup v1 it includes the cpusets of the groups below, which those above bound.
        """
        texts = [each for cgroup in cgroups for each in texts_of(cgroup, unified_names)]
        group = cgroups[0].of_controller("cpuset")
        if with_cpusets_below and group is not None:
            seen = {place for place, _ in texts}
            below = [group.at(directory) for directory in group.tree()[1:]]
            places = [(each, name) for each in below for name in cpuset.FILES]
            texts += read_texts(place for place in places if place not in seen)
        return cls(tuple(texts))

    def with_limits(self, cgroups: Sequence[Cgroup], wanted: Limits) -> Self:
        """What the files of ``cgroups`` should hold: the same, but with what is ``wanted``."""
        texts = dict(self.texts)
        files = [file for cgroup in cgroups for file in files_of(cgroup, wanted, texts)]
        for file in files:
            if file.group is not None and (file.group, file.name) in texts:
                texts[file.group, file.name] = file.text
        ours = {group for cgroup in cgroups for group in cgroup.groups}
        return type(self)(
            tuple(
                ((group, name), text)
                for (group, name), text in texts.items()
                # Of other files, only the kernel knows what it makes of a line.
                if group in ours and name not in wanted.unified
            )
        )

    def lacks(self, cgroup: Cgroup, wanted: Limits) -> Sequence[str]:
        """The fields of ``wanted`` for which the group, which exists, has no file."""
        texts = dict(self.texts)
        files = files_of(cgroup, wanted, texts)
        return [file.field for file in files if (file.group, file.name) not in texts]

    def restore(self, keep: Keep) -> Sequence[str]:
        """Write the files that differ; the names of those that can't be corrected.

        ``keep`` gets all of the topmost group first, since what keeps them, as systemd does, may
        be about to set older ones.

        Some limits bound one another, as memory and swap do, so the order matters: as long as a
        round corrects something, there is another round.
        """
        keep({name: text for (group, name), text in self.texts if group == self.texts[0][0][0]})
        changed = self._changed()
        while changed:
            self._move_cpusets(changed)
            for group, name, text in changed:
                _try_write(group, name, text)
            before, changed = len(changed), self._changed()
            if len(changed) == before:
                break
        return [name for _, name, _ in changed]

    def move_cpusets(self) -> None:
        """With cgroup v1, give the group and those below it their cpusets, if it can be done.

        To be called before the OCI runtime, which sets only one group.
        """
        self._move_cpusets(self._changed())

    def _move_cpusets(self, changed: Sequence[tuple[ControllerGroup, str, str]]) -> None:
        moved = (name for group, name, _ in changed if "cpuset" in group.controllers)
        for name in dict.fromkeys(moved):
            # The topmost group comes first.
            texts = [(group, text) for (group, each), text in self.texts if each == name]
            (group, goal), *rest = texts
            cpuset.move(group, name, goal, {each.directory: text for each, text in rest})

    def _changed(self) -> list[tuple[ControllerGroup, str, str]]:
        return [
            (group, name, text)
            for (group, name), text in self.texts
            if not _holds(group, name, text)
        ]


def files_of(
    cgroup: Cgroup, wanted: Limits, now: Mapping[tuple[ControllerGroup, str], str]
) -> Sequence[LimitFile]:
    """The files of what is ``wanted``, without ``unified``; ``now`` is what they hold."""
    unified = cgroup.of_controller("")
    if unified is not None and len(cgroup.groups) == 1:
        texts = {name: text for (group, name), text in now.items() if group == unified}
        found = _v2_files(wanted, texts)
    else:
        found = _v1_files(cgroup, wanted)
    return [
        LimitFile(field, cgroup.of_controller(controller), name, text)
        for controller, field, name, text in found
    ]


def _v1_files(cgroup: Cgroup, wanted: Limits) -> Iterator[tuple[str, str, str, str]]:
    shares = wanted.cpu_shares
    if shares is not None:
        number = SHARES_DEFAULT if shares == NO_LIMIT else shares
        yield "cpu", "cpu_shares", "cpu.shares", str(number)
    for field, controller, name in (
        ("cpu_period_us", "cpu", "cpu.cfs_period_us"),
        ("cpu_quota_us", "cpu", "cpu.cfs_quota_us"),
        ("memory_limit_bytes", "memory", "memory.limit_in_bytes"),
        ("memory_swap_limit_bytes", "memory", "memory.memsw.limit_in_bytes"),
    ):
        number = getattr(wanted, field)
        if number is not None:
            yield controller, field, name, str(number)
    if wanted.pids_limit is not None:
        yield "pids", "pids_limit", "pids.max", _or_max(wanted.pids_limit)
    for field, text, name in _cpusets(wanted):
        if text is not None:
            above = cpuset.available(cgroup, name)
            yield "cpuset", field, name, text or cpuset.set_text(above or frozenset())
    for size, limit in wanted.hugepage_limits.items():
        yield "hugetlb", "hugepage_limits", f"hugetlb.{size}.limit_in_bytes", str(limit)


def _v2_files(wanted: Limits, now: Mapping[str, str]) -> Iterator[tuple[str, str, str, str]]:
    weight = wanted.cpu_weight
    if weight is not None:
        number = WEIGHT_DEFAULT if weight == NO_LIMIT else weight
        yield "", "cpu_weight", "cpu.weight", str(number)
    quota, period = wanted.cpu_quota_us, wanted.cpu_period_us
    if quota is not None or period is not None:
        old_quota, _, old_period = now.get("cpu.max", "max 100000").strip().partition(" ")
        text = f"{old_quota if quota is None else _or_max(quota)} {period or old_period}"
        yield "", "cpu_period_us" if quota is None else "cpu_quota_us", "cpu.max", text
    for field, cpus, name in _cpusets(wanted):
        if cpus is not None:
            yield "", field, name, cpus
    memory, both = wanted.memory_limit_bytes, wanted.memory_swap_limit_bytes
    if memory is not None:
        yield "", "memory_limit_bytes", "memory.max", _or_max(memory)
    if both is not None:
        limited = both != NO_LIMIT and memory is not None
        swap = str(both - (memory or 0)) if limited else "max"
        yield "", "memory_swap_limit_bytes", "memory.swap.max", swap
    if wanted.pids_limit is not None:
        yield "", "pids_limit", "pids.max", _or_max(wanted.pids_limit)
    for size, limit in wanted.hugepage_limits.items():
        yield "", "hugepage_limits", f"hugetlb.{size}.max", _or_max(limit)


def _cpusets(wanted: Limits) -> Sequence[tuple[str, str | None, str]]:
    cpus, mems = cpuset.FILES
    return ("cpuset_cpus", wanted.cpuset_cpus, cpus), ("cpuset_mems", wanted.cpuset_mems, mems)


def _or_max(limit: int) -> str:
    return "max" if limit == NO_LIMIT else str(limit)


def _holds(group: ControllerGroup, name: str, text: str) -> bool:
    """Whether a file has the same meaning as ``text``, as the kernel would write it."""
    now = group.read(name)
    if now is None:
        # The file is gone because its group is.
        return True
    if name in cpuset.FILES:
        if not text.strip():
            return not now.strip() or cpuset.parse_set(
                _everything(group, name)
            ) <= cpuset.parse_set(now)
        return cpuset.parse_set(text) == cpuset.parse_set(now)
    units = (unit for size, unit in page_sizes().items() if name in huge_files(size))
    unit = PAGE_BYTES if name in _MEMORY_FILES else next(units, 0)
    if unit:
        return _whole(text, unit) == _whole(now, unit)
    return text.split() == now.split()


def _whole(text: str, unit: int) -> int:
    number = huge_number(text)
    return number if number == NO_LIMIT else number // unit


def _everything(group: ControllerGroup, name: str) -> str:
    """The cpuset of a cgroup2 group without limits, as a list."""
    return group.at(group.top).read(f"{name}.effective") or ""


def _try_write(group: ControllerGroup, name: str, text: str) -> None:
    # Some files take one line at a time, and an empty text needs a newline.
    lines = text.splitlines() or [""]
    if name in cpuset.FILES and not text.strip() and group.unified:
        # The set of a group with processes can't be made empty again; the whole set limits nothing.
        lines = [_everything(group, name).strip()]
    elif name in _NO_LINE:
        devices = {line.split()[0] for line in lines if line}
        here = [line.split()[0] for line in (group.read(name) or "").splitlines() if line]
        lines += [f"{each} {_NO_LINE[name]}" for each in here if each not in devices]
    for line in lines:
        with suppress(CgroupFailed):
            group.write(name, f"{line}\n")
