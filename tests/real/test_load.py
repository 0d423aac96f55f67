"""A minute of everything at once: no answer that a client can't act on, and nothing kept."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from ocigrpc.v1 import runtime_pb2
from ocigrpc.waiting import Deadline
from tests.bed.hosts.leaks import LIMIT_S, until
from tests.bed.hosts.usage import usage_of
from tests.bed.loads.load import Load
from tests.bed.loads.requests import Requests
from tests.bed.services.service import Service
from tests.real.conftest import StartService

CONTAINERS = 200
CLIENTS = 64
STREAMS = 100
STREAM_THREADS = 200
"""With room for the waits of clients, and for streams that are being ended."""

OTHER_THREADS = 32
"""Those that the service has for calls beside its settings."""

ONCE_FDS = 4
"""Room for descriptors that the service opens when it first needs them, and keeps. Calls and
lives are thousands: what one in a hundred of either leaves behind is more."""

DURATION_S = 60.0

pytestmark = pytest.mark.timeout(1200)


def test_of_a_minute_of_load_no_answer_is_a_defect_and_nothing_is_kept(
    start_service: StartService,
) -> None:
    service = start_service(limits_unary_threads=CLIENTS, limits_stream_threads=STREAM_THREADS)
    service.ids()
    idle = usage_of(service.pid)
    use_threads(service)
    logs = service.directory / "logs-of-clients"
    logs.mkdir()
    load = Load(service, Requests(service.rootfs, logs, CONTAINERS))
    load.populate()
    with load.running(CLIENTS, STREAMS):
        first, second = (peak_memory(service, DURATION_S / 2) for _ in range(2))
    assert load.unexpected == {}
    methods = runtime_pb2.DESCRIPTOR.services_by_name["RuntimeService"].methods
    assert {method.name for method in methods} == load.served.keys()
    # What is kept of each call or life, if anything, is kept for ever, and grows as fast in
    # the second half as in the first. Room for what the allocator leaves between.
    assert second < first * 1.2
    service.remove_all()
    until(lambda: usage_of(service.pid).fds <= idle.fds + ONCE_FDS, 2 * LIMIT_S)
    # Of calls that were cut off, there is one under way for many a client beside its next.
    pooled = 2 * CLIENTS + STREAM_THREADS + OTHER_THREADS
    until(lambda: usage_of(service.pid).threads <= idle.threads + pooled, 2 * LIMIT_S)


def use_threads(service: Service) -> None:
    """Have streams open on all threads for them: they are made then, and kept for what comes."""
    with ExitStack() as stack:
        watches = [service.client.watch_events(timeout_s=LIMIT_S) for _ in range(STREAM_THREADS)]
        for watch in watches:
            next(stack.enter_context(watch))


def peak_memory(service: Service, duration_s: float) -> int:
    """The most resident memory that a service has within so many seconds from now, in KiB."""
    deadline, most = Deadline(duration_s), 0
    while deadline.remaining_s():
        most = max(most, usage_of(service.pid).rss)
        Deadline().wait(timeout_s=min(0.5, deadline.remaining_s()))
    return most
