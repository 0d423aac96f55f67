"""The monitors of containers, and what may go wrong with them."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from tests.bed.hosts.leaks import below, pids_in, suspend
from tests.bed.services.service import Service


def monitors(service: Service, container_ids: Sequence[str]) -> list[int]:
    """The pids of the monitors, as we see them: those on the host may be other numbers."""
    return [
        pid
        for container_id in container_ids
        for root in service.host.cgroup_roots
        for group in below(root, f"ocigrpc-conmon-{container_id}*")
        for pid in pids_in(group)
    ]


@contextmanager
def hanging_monitor(service: Service, container_id: str) -> Iterator[int]:
    """The pid of a monitor that does nothing in the block, even if its container ends."""
    (pid,) = set(monitors(service, [container_id]))
    suspend(pid)
    try:
        yield pid
    finally:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
