"""The end of a container by force, for every verb and policy that asks for it."""

from __future__ import annotations

import signal

from ocigrpc.engine.containers.container import Container
from ocigrpc.engine.model.values import State
from ocigrpc.log import get_logger
from ocigrpc.waiting import Deadline

log = get_logger()

# How long a killed first process has to end by itself before the rest is killed, too.
_ALONE_S = 0.1


def send_signal(container: Container, number: int) -> None:
    """Send a signal to the first process; nothing happens when it has ended."""
    if container.init is None:
        return
    if number == signal.SIGKILL and container.init.alive():
        # Then a death by SIGKILL is no work of the OOM killer.
        container.ending.killed_by_us = True
    container.init.send_signal(number)


def kill(container: Container, deadline: Deadline) -> None:
    """SIGKILL to every process in the cgroup, frozen ones too, until there is none.

    Raises ``Timeout`` when any outlives it, ``Cancelled``, ``CgroupFailed``.
    """
    group = container.cgroups.container
    send_signal(container, signal.SIGKILL)
    with container.cgroup_lock(deadline) as held:
        if not held:
            return
        if container.init is not None:
            # It takes all others with it, unless it shares the host's pid namespace. A
            # frozen v1 group ignores SIGKILL.
            group.thaw()
            container.init.wait(deadline, _ALONE_S)
        group.kill(deadline)
    if container.init is not None:
        container.init.wait(deadline)


def signal_group(container: Container, number: int, everyone: bool, deadline: Deadline) -> None:
    """Send a signal to ``everyone`` in the cgroup, if wanted; SIGKILL thaws it, too."""
    group = container.cgroups.container
    with container.cgroup_lock(deadline) as held:
        if held and everyone:
            group.signal(number)
        if held and number == signal.SIGKILL:
            group.thaw()


def is_outlived(container: Container) -> bool:
    """Whether what the first process has started lives on without it."""
    if container.record.state is State.CREATING:
        return False
    if container.init is not None and container.init.alive():
        return False
    return container.cgroups.container.populated()


def kill_rest(container: Container, deadline: Deadline) -> None:
    """What :func:`kill` does, for those that have outlived the first process."""
    group = container.cgroups.container
    with container.cgroup_lock(deadline) as held:
        if held and group.populated():
            group.kill(deadline)


def learn_exit(container: Container, timeout_s: float, deadline: Deadline) -> None:
    """Wait until it is known how a container that has ended did, or that nobody knows.

    Its monitor is killed unless it says so in ``timeout_s`` from the end. Raises
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
