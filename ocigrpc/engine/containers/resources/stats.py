"""What containers use: of one, of many, and at an interval."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Set
from contextlib import suppress

from msgspec import Struct

from ocigrpc.engine.containers.container import Container
from ocigrpc.engine.containers.status import ALIVE, observe
from ocigrpc.engine.model.record import Record
from ocigrpc.engine.model.values import State
from ocigrpc.errors import WrongState
from ocigrpc.host.cgroups.stats import Usage, read_usage
from ocigrpc.waiting import Deadline


class ContainerStats(Struct, frozen=True):
    """What a container used at ``timestamp_ns`` since 1970, and its state just afterwards."""

    record: Record
    state: State
    timestamp_ns: int
    usage: Usage


def stats_of(container: Container) -> ContainerStats:
    """What it uses now, read from its cgroup; raises ``WrongState`` when it has stopped."""
    timestamp_ns = time.time_ns()
    usage = read_usage(container.cgroups.container)
    # Observed afterwards: if it is alive now, it was while its cgroup was read.
    observed = observe(container)
    if observed.state not in ALIVE:
        wanted = "created, running or paused"
        raise WrongState.of(container.container_id, observed.state, wanted)
    return ContainerStats(observed.record, observed.state, timestamp_ns, usage)


def stats_of_all(
    containers: Iterable[Container], states: Set[State], deadline: Deadline
) -> Iterator[ContainerStats]:
    """The stats of those that are alive and in ``states`` (empty: any), read as they are taken.

    Raises ``Timeout`` or ``Cancelled``.
    """
    for container in containers:
        deadline.check()
        if container.record.exit_status is not None:
            continue
        with suppress(WrongState):
            stats = stats_of(container)
            if not states or stats.state in states:
                yield stats


def repeated(
    read: Callable[[], Iterable[ContainerStats]], interval_s: float, deadline: Deadline
) -> Iterator[Iterable[ContainerStats]]:
    """The results of ``read`` now and at every multiple of ``interval_s`` from now.

    Times that pass while the receiver is busy are skipped. Ends only by ``Timeout`` or
    ``Cancelled``.
    """
    began_s = time.monotonic()
    while True:
        yield read()
        passed_s = time.monotonic() - began_s
        deadline.wait(timeout_s=interval_s - passed_s % interval_s)
