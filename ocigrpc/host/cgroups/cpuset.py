"""Sets of CPUs and memory nodes, and how nested groups bound one another's: cpuset(7)."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress

from ocigrpc.errors import CgroupFailed
from ocigrpc.host.cgroups.cgroup import Cgroup
from ocigrpc.host.cgroups.controller import ControllerGroup

FILES = ("cpuset.cpus", "cpuset.mems")

# How often to try while new groups appear below, with what the others had.
_ROUNDS = 64

_Set = frozenset[int]


def parse_set(text: str) -> _Set:
    """The numbers of a list as the kernel writes it, such as "0-2,4"; it may be empty."""
    ranges = [each.partition("-") for each in text.strip().split(",") if each]
    return frozenset(
        number for low, _, high in ranges for number in range(int(low), int(high or low) + 1)
    )


def set_text(numbers: _Set) -> str:
    """A list as the kernel takes it."""
    return ",".join(map(str, sorted(numbers)))


def largest(text: str) -> int:
    """The largest number in a list that is not empty."""
    return max(int(each.rpartition("-")[2]) for each in text.split(","))


def available(cgroup: Cgroup, name: str) -> _Set | None:
    """The set of the group above in the file ``name``, one of FILES; None when there is none.

    It is that of the nearest group that exists, since those between will be made with it.
    """
    group = cgroup.of_controller("cpuset") or cgroup.of_controller("")
    if group is None:
        return None
    name = name if "cpuset" in group.controllers else f"{name}.effective"
    above = os.path.dirname(group.directory)
    while len(above) >= len(group.top):
        text = group.at(above).read(name)
        if text is not None and text.strip():
            return parse_set(text)
        above = os.path.dirname(above)
    return None


def move(group: ControllerGroup, name: str, goal: str, known: Mapping[str, str]) -> bool:
    """Give a v1 group the set ``goal``; false when the kernel refuses.

    A group can't lose what a group below it has, and can't gain what the group above lacks. So,
    from the top, all get what they have together with what they will have, and then, from the
    bottom, only what they will have. ``known`` is what groups below will have, by their
    directories. Others that have the same set as the group above get its new set; the rest keep
    what they may of their own, or get all if that is nothing.
    """
    wanted = parse_set(goal)
    for _ in range(_ROUNDS):
        plan = _planned(group, name, wanted, known)
        for each, has, will in plan:
            if not will <= has:
                _try_set(each, name, has | will)
        for each, has, will in reversed(plan):
            if will != has:
                _try_set(each, name, will)
        # Another group may have been made meanwhile, with what the group above it had.
        if parse_set(group.read(name) or "") == wanted:
            return True
    return False


def _planned(
    group: ControllerGroup, name: str, wanted: _Set, known: Mapping[str, str]
) -> list[tuple[ControllerGroup, _Set, _Set]]:
    """Each group, parents first, with the set that it has and the one that it will have."""
    plan: dict[str, tuple[_Set, _Set]] = {}
    for directory in group.tree():
        text = group.at(directory).read(name)
        if text is None or not text.strip():
            continue
        has = parse_set(text)
        if directory == group.directory:
            will = wanted
        elif directory in known:
            will = parse_set(known[directory])
        else:
            had_above, will_above = plan.get(os.path.dirname(directory), (has, wanted))
            will = will_above if has == had_above else (has & will_above) or will_above
        plan[directory] = (has, will)
    return [(group.at(directory), has, will) for directory, (has, will) in plan.items()]


def _try_set(group: ControllerGroup, name: str, numbers: _Set) -> None:
    with suppress(CgroupFailed):
        group.write(name, set_text(numbers))
