"""Whether all of a container is frozen, and not only what is still in its cgroup.

A program with enough rights can leave the cgroup that is frozen, by process or by thread, and
another can be taken out of it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from ocigrpc.engine.containers.container import Container
from ocigrpc.host.cgroups.descendants import descendants
from ocigrpc.waiting import Deadline

_SETTLE_S = 0.5
_LOOK_S = 0.01


def unfrozen(container: Container) -> frozenset[int]:
    """The processes of a container that have a thread outside of its frozen cgroups.

    Its processes are those in its cgroup, in any hierarchy, its first one, the programs of
    Exec, and what descends from these or has fallen to conmon, as orphans do.
    """
    init, monitor = container.init, container.monitor
    roots = {process.pid for process in (init, monitor) if process is not None and process.alive()}
    roots |= set(container.program_pids)
    group = container.cgroups.container
    processes = roots | descendants(roots) | set(group.members())
    if monitor is not None:
        processes.discard(monitor.pid)
    asleep = group.frozen_threads()
    return frozenset(
        pid for pid in processes if any(tid not in asleep for tid in _living_threads(pid))
    )


def wait_frozen(container: Container, deadline: Deadline) -> frozenset[int]:
    """Those who are awake, but for such as just enter the cgroup or end; ``Timeout`` etc."""
    bounded = deadline.within(_SETTLE_S)
    found = unfrozen(container)
    while found and bounded.remaining_s() > _LOOK_S:
        deadline.wait(timeout_s=_LOOK_S)
        found = unfrozen(container)
    return found


def _living_threads(pid: int) -> Iterator[int]:
    with suppress(OSError):
        for name in os.listdir(f"/proc/{pid}/task"):
            with suppress(OSError):
                stat = Path(f"/proc/{pid}/task/{name}/stat").read_bytes()
                # proc_pid_stat(5): a zombie, or dead, has nothing to freeze.
                if stat[stat.rindex(b")") + 2 : stat.rindex(b")") + 3] not in (b"Z", b"X"):
                    yield int(name)
