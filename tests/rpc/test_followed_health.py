"""Health checks follow what works, but not every moment in which it does not."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from ocigrpc.cli.daemon import health
from ocigrpc.cli.daemon.health import followed_health
from ocigrpc.errors import StoreFailed
from ocigrpc.waiting import Deadline
from tests.rpc.fake_engine import LIMIT_S
from tests.rpc.running import NOT_SERVING, SERVING, check, running, watch

# A flush of much data holds up others' for about so long.
STALL_S = 1.5


def test_a_disk_that_stalls_for_a_moment_is_only_slow(socket_path: Path) -> None:
    looked = threading.Semaphore(0)

    def stalling(deadline: Deadline) -> None:
        try:
            deadline.wait(timeout_s=STALL_S)
        finally:
            looked.release()

    with running(socket_path) as served, followed_health(served.server, stalling):
        for _ in range(2):
            assert looked.acquire(timeout=LIMIT_S)
            assert check(served.channel).status == SERVING


def test_what_fails_again_and_again_is_one_change_until_it_works_for_a_while(
    socket_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "_INTERVAL_S", 0.01)
    flapping = [False, True] * 20
    looks = 0

    def failing(_: Deadline) -> None:
        nonlocal looks
        looks += 1
        if looks <= len(flapping) and not flapping[looks - 1]:
            raise StoreFailed("the store can't be written")

    with running(socket_path) as served:
        changes = watch(served.channel)
        assert next(changes).status == SERVING
        with followed_health(served.server, failing):
            assert next(changes).status == NOT_SERVING
            assert next(changes).status == SERVING
            assert looks > len(flapping)
        changes.cancel()
