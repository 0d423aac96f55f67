"""The end of a container by force, for every verb and policy that asks for it."""

from __future__ import annotations

import signal

from ocigrpc.deadline import Deadline
from ocigrpc.engine.container import Container

_ALONE_S = 0.1
"""How long a killed first process has to end by itself before the rest is killed, too."""


def send_signal(container: Container, number: int) -> None:
    """Send a signal to the first process; nothing happens when it has ended."""
    if number == signal.SIGKILL:
        # Then a death by SIGKILL is no work of the OOM killer.
        container.killed_by_us = True
    if container.init is not None:
        container.init.send_signal(number)


def kill(container: Container, deadline: Deadline) -> None:
    """SIGKILL to every process in the cgroup, frozen ones too, until there is none.

    Raises ``Timeout`` when any outlives it, ``Cancelled``, ``CgroupFailed``.
    """
    group = container.enclosure.container
    send_signal(container, signal.SIGKILL)
    if container.init is not None:
        # It takes all others with it, unless it shares the host's pid namespace. A
        # frozen v1 group ignores SIGKILL.
        group.thaw()
        deadline.wait(container.init, timeout_s=_ALONE_S)
    group.kill(deadline)
    if container.init is not None:
        deadline.wait(container.init)
