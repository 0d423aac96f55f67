"""The processes that a frozen cgroup should hold, and does not.

A program with enough rights can leave the cgroup that is frozen, by process or by thread, and
another can be taken out of it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Set
from contextlib import suppress
from pathlib import Path

from ocigrpc.host.cgroups.cgroup import Cgroup
from ocigrpc.host.cgroups.descendants import descendants


def unfrozen(cgroup: Cgroup, roots: Set[int]) -> frozenset[int]:
    """The processes that have a thread outside of a frozen cgroup, in any hierarchy.

    Of those in it, and of ``roots`` and what descends from them.
    """
    processes = roots | descendants(roots) | set(cgroup.members())
    asleep = cgroup.frozen_threads()
    return frozenset(
        pid for pid in processes if any(tid not in asleep for tid in _living_threads(pid))
    )


def _living_threads(pid: int) -> Iterator[int]:
    with suppress(OSError):
        for name in os.listdir(f"/proc/{pid}/task"):
            with suppress(OSError):
                stat = Path(f"/proc/{pid}/task/{name}/stat").read_bytes()
                # proc_pid_stat(5): a zombie, or dead, has nothing to freeze.
                if stat[stat.rindex(b")") + 2 : stat.rindex(b")") + 3] not in (b"Z", b"X"):
                    yield int(name)
