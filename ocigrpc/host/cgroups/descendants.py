"""The descendants of processes: proc_pid_task(5), ``children``."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress

from ocigrpc.errors import CgroupFailed
from ocigrpc.host.cgroups.cgroup import Cgroup
from ocigrpc.host.processes.process import Process

_ROUNDS = 64


def descendants(roots: Iterable[int]) -> set[int]:
    """All descendants of these processes, without the processes themselves."""
    found = set[int]()
    waiting = list(roots)
    while waiting:
        fresh = _children(waiting.pop()) - found
        found |= fresh
        waiting += fresh
    return found


def gather(pid: int, source: Cgroup, cgroup: Cgroup) -> None:
    """Move a process and its descendants into a group, from ``source``, which holds them.

    Repeated until none is outside, since they may start others meanwhile; given up with a
    process that starts others without end. Raises ``CgroupFailed``.
    """
    for _ in range(_ROUNDS):
        inside = set(cgroup.members())
        outside = ({pid} | descendants([pid])) - inside
        if not outside & set(source.members()):
            return
        for each in outside:
            with suppress(ProcessLookupError, CgroupFailed):
                process = Process(each)
                try:
                    if each in source.members() and process.alive():
                        cgroup.add(each)
                finally:
                    process.close()


def _children(pid: int) -> set[int]:
    found = set[int]()
    with suppress(OSError):
        for thread in os.listdir(f"/proc/{pid}/task"):
            with suppress(OSError), open(f"/proc/{pid}/task/{thread}/children") as file:
                found.update(map(int, file.read().split()))
    return found
