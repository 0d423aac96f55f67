"""The descendants of processes, proc_pid_task(5), and which of them are outside of a cgroup."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence, Set
from contextlib import suppress

from ocigrpc.errors import CgroupFailed
from ocigrpc.host.cgroups.cgroup import Cgroup
from ocigrpc.host.processes.process import Process, stat_fields

_ROUNDS = 64


def descendants(roots: Iterable[int]) -> set[int]:
    """All descendants of these processes, without the processes themselves."""
    found = set[int]()
    waiting = list(roots)
    while waiting:
        pid = waiting.pop()
        fresh = _children(pid, _threads(pid)) - found
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
            with suppress(ProcessLookupError, CgroupFailed), Process(each) as process:
                if each in source.members() and process.alive():
                    cgroup.add(each)


def unfrozen(cgroup: Cgroup, roots: Set[int]) -> frozenset[int]:
    """The processes that have a thread outside of a frozen cgroup, in any hierarchy.

    Of those in it, and of ``roots`` and what descends from them: a program with enough rights
    can leave the cgroup, by process or by thread, and another can be taken out of it.
    """
    threads: dict[int, Sequence[int]] = {}
    waiting = [*roots, *cgroup.members()]
    while waiting:
        pid = waiting.pop()
        if pid not in threads:
            threads[pid] = _threads(pid)
            waiting += _children(pid, threads[pid])
    frozen = cgroup.frozen_threads()
    return frozenset(
        pid
        for pid, tids in threads.items()
        if any(tid not in frozen and _is_alive(pid, tid) for tid in tids)
    )


def _is_alive(pid: int, tid: int) -> bool:
    try:
        # A zombie, or dead, has nothing to freeze.
        return stat_fields(f"/proc/{pid}/task/{tid}")[0] not in (b"Z", b"X")
    except OSError:
        return False


def _threads(pid: int) -> Sequence[int]:
    try:
        return [int(name) for name in os.listdir(f"/proc/{pid}/task")]
    except OSError:
        return ()


def _children(pid: int, threads: Iterable[int]) -> set[int]:
    found = set[int]()
    for thread in threads:
        with suppress(OSError), open(f"/proc/{pid}/task/{thread}/children", "rb", 0) as file:
            found.update(map(int, file.read().split()))
    return found
