"""The end of every process in a cgroup, whatever it forks and however it is frozen."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from contextlib import ExitStack, suppress

from ocigrpc.errors import CgroupFailed
from ocigrpc.host.cgroups.controller import ControllerGroup, Populated
from ocigrpc.waiting import Deadline

# The most pidfds held at once: a fork bomb must not use up the service's descriptors.
_HELD_MAX = 256
# The first pause before checking again: cgroup v1 has no event for an empty group, and the one
# of cgroup2 may come 10 ms late (CGROUP_FILE_NOTIFY_MIN_INTV in the kernel).
RETRY_FIRST_S = 0.0005
# How long to wait for the signalled processes before listing those that came later.
_RELIST_S = 0.1


def kill(groups: Sequence[ControllerGroup], deadline: Deadline) -> None:
    """SIGKILL all in the group until it is empty; raises ``Timeout`` or ``Cancelled``.

    The signals are sent at least once, even when the deadline has passed already.
    """
    if (
        len(groups) == 1
        and groups[0].unified
        and os.path.exists(f"{groups[0].directory}/cgroup.kill")
    ):
        kill_by_kernel(groups[0], deadline)
    else:
        kill_by_pidfd(groups, deadline)


def send_signal(groups: Sequence[ControllerGroup], number: int) -> None:
    """Send a signal, once, to every process that is in the group now."""
    with ExitStack() as held:
        _signal_members(groups, number, held)


def members(groups: Sequence[ControllerGroup]) -> set[int]:
    """The pids that are in the group in any hierarchy."""
    return set[int]().union(*(group.members() for group in groups))


def kill_by_kernel(group: ControllerGroup, deadline: Deadline) -> None:
    """What :func:`kill` does where there is only cgroup2, from Linux 5.14 on.

    cgroup.kill takes all at once, forks under way included, frozen ones too.
    """
    try:
        populated = Populated(group)
    except FileNotFoundError:
        return
    with populated:
        retry_s = RETRY_FIRST_S
        while populated.now():
            _refuse_own(group.members(), group.directory)
            # systemd may remove it meanwhile, once its last process has ended.
            group.write("cgroup.kill", "1", gone_is_fine=True)
            deadline.wait(populated.fileno(), timeout_s=retry_s)
            retry_s = min(retry_s * 2, _RELIST_S)


def kill_by_pidfd(groups: Sequence[ControllerGroup], deadline: Deadline) -> None:
    """What :func:`kill` does on all other hosts: one process at a time, each proved a member."""
    freezers = [group for group in groups if group.freezable]
    # The first round does without freezing, since nearly always it suffices.
    freeze = False
    while True:
        if freeze and freezers:
            # Frozen processes don't fork, so this round gets them all. By the v1 freezer if
            # there is one, which is also where the runtimes freeze.
            min(freezers, key=lambda group: group.unified).set_frozen(True)
        with ExitStack() as held:
            try:
                pidfds = _signal_members(groups, signal.SIGKILL, held)
            finally:
                # A frozen v1 group ignores SIGKILL until it is thawed.
                for group in freezers:
                    group.thaw()
            if pidfds is None:
                return
            _wait_for_ends(pidfds, deadline)
        freeze = True


def _signal_members(
    groups: Sequence[ControllerGroup], number: int, held: ExitStack
) -> list[int] | None:
    """Send a signal to all; pidfds of some of them, or None when there was no process."""
    listed = sorted(members(groups))
    _refuse_own(listed, groups[0].directory)
    pidfds: list[int] = []
    for start in range(0, len(listed), _HELD_MAX):
        with ExitStack() as chunk:
            opened = {}
            for pid in listed[start : start + _HELD_MAX]:
                with suppress(ProcessLookupError):
                    opened[pid] = os.pidfd_open(pid)
                    chunk.callback(os.close, opened[pid])
            # Listed again after it was opened: the pidfd is a member's, or a dead
            # process's, and never that of another that got the number in between.
            for pid in members(groups) & opened.keys():
                with suppress(ProcessLookupError):
                    signal.pidfd_send_signal(opened[pid], number)
            if start == 0:
                pidfds = list(opened.values())
                held.enter_context(chunk.pop_all())
    return pidfds if listed else None


def _wait_for_ends(pidfds: Sequence[int], deadline: Deadline) -> None:
    waiting = set(pidfds)
    if not waiting:
        # All had just ended when they were listed; the kernel is about to unlist them.
        deadline.wait(timeout_s=RETRY_FIRST_S)
    while waiting:
        ended = deadline.wait(*waiting, timeout_s=_RELIST_S)
        if not ended:
            return
        waiting.difference_update(ended)


def _refuse_own(pids: Sequence[int] | set[int], directory: str) -> None:
    if os.getpid() in pids:
        raise CgroupFailed(
            f"the service itself is in {directory}", reason="CGROUP_OWN", path=directory
        )
