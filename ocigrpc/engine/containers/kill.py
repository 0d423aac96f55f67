"""Signals to containers, and their end by SIGKILL, for every verb and policy."""

from __future__ import annotations

import signal

from ocigrpc.engine.containers.container import Container
from ocigrpc.engine.model.values import State
from ocigrpc.log import get_logger
from ocigrpc.waiting import Deadline

log = get_logger()

# How long to wait for a killed first process to take the others with it, before they are killed.
_ALONE_S = 0.1


def send_signal(container: Container, number: int) -> None:
    """Send a signal to the first process; does nothing when it has ended."""
    if container.init is None:
        return
    if number == signal.SIGKILL and container.init.alive():
        # So that its death by SIGKILL is not attributed to the OOM killer.
        container.ending.killed_by_us = True
    container.init.send_signal(number)


def kill(container: Container, deadline: Deadline) -> None:
    """Send SIGKILL to every process in the cgroup, frozen ones too, until none is left.

    Raises ``Timeout`` when one survives, ``Cancelled``, ``CgroupFailed``.
    """
    group = container.cgroups.container
    ended = False
    send_signal(container, signal.SIGKILL)
    with container.cgroup_lock(deadline) as held:
        if not held:
            return
        if container.init is not None:
            # Its end kills all others, unless it shares the host's pid namespace. Processes of
            # a frozen v1 group don't react to SIGKILL.
            group.thaw()
            ended = container.init.wait(deadline, _ALONE_S)
        group.kill(deadline)
    if container.init is not None and not ended:
        container.init.wait(deadline)


def signal_group(container: Container, number: int, everyone: bool, deadline: Deadline) -> None:
    """Send a signal to all processes in the cgroup if ``everyone``; SIGKILL also thaws it."""
    group = container.cgroups.container
    with container.cgroup_lock(deadline) as held:
        if held and everyone:
            group.signal(number)
        if held and number == signal.SIGKILL:
            group.thaw()


def is_outlived(container: Container) -> bool:
    """Whether the first process has ended, and others in the cgroup have not."""
    if container.record.state is State.CREATING:
        return False
    if container.init is not None and container.init.alive():
        return False
    return container.cgroups.container.populated()


def kill_rest(container: Container, deadline: Deadline) -> None:
    """Kill the processes that have outlived the first one; raises what :func:`kill` raises."""
    group = container.cgroups.container
    with container.cgroup_lock(deadline) as held:
        if held:
            group.kill(deadline)


def learn_exit(container: Container, timeout_s: float, deadline: Deadline) -> None:
    """Wait until the exit status of a container that has ended is final.

    Its monitor is killed if it does not report it within ``timeout_s`` of the end. Raises
    ``Timeout``, ``Cancelled``.
    """
    until = container.ending.monitor_deadline
    remaining_s = timeout_s if until is None else until.remaining_s()
    if deadline.wait(container.exited, timeout_s=remaining_s):
        return
    if container.monitor is not None:
        log.error("container.monitor_hung", container_id=container.container_id)
        container.ending.monitor_hung = True
        container.monitor.send_signal(signal.SIGKILL)
    deadline.within(timeout_s).wait(container.exited)
