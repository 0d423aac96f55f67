"""The end of the watch over containers."""

from __future__ import annotations

import errno
import threading
from contextlib import nullcontext
from types import SimpleNamespace
from typing import cast

import pytest

from ocigrpc.engine.containers import exit_monitor
from ocigrpc.engine.containers.container import Container
from ocigrpc.engine.containers.context import Context
from ocigrpc.engine.containers.exit_monitor import ExitMonitor, Happening
from ocigrpc.waiting import Deadline, Latch

CONTAINERS = 500
"""So many that a fifth of a second for each of them is too long."""

LIMIT_S = 20.0

CONTEXT = cast(
    Context, SimpleNamespace(settings=SimpleNamespace(timeouts=SimpleNamespace(undo_s=0.5)))
)


def test_tidying_that_hangs_holds_up_the_end_once_and_not_for_each_container() -> None:
    exits = ExitMonitor(CONTEXT, lambda container, in_s: None)
    begun = threading.Event()

    def hang(deadline: Deadline) -> None:
        begun.set()
        deadline.wait()

    found = SimpleNamespace(
        container_id="c",
        record=SimpleNamespace(exit_status=None),
        cgroups=SimpleNamespace(
            monitor=SimpleNamespace(populated=lambda: False), remove_monitor=hang
        ),
        removed=Latch(),
        lock=lambda verb, deadline: nullcontext(),
    )
    container = cast(Container, found)
    for _ in range(100):
        exits._submit(exits._janitor, exits._tidy, container)
    assert begun.wait(LIMIT_S)
    closing = threading.Thread(target=exits.close, daemon=True)
    closing.start()
    closing.join(20.0)
    assert not closing.is_alive()


def test_ends_that_can_not_be_read_wait_together_and_not_one_after_the_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    exits = ExitMonitor(CONTEXT, lambda container, in_s: None)
    room, refusals, read = threading.Event(), threading.Semaphore(0), threading.Semaphore(0)

    def note_end(container: Container) -> None:
        if not room.is_set():
            refusals.release()
            raise OSError(errno.EMFILE, "too many open files")
        read.release()

    monkeypatch.setattr(exits, "_monitor_ended", note_end)
    for number in range(CONTAINERS):
        container = cast(Container, SimpleNamespace(container_id=f"c{number}"))
        exits._note(Happening(exits._monitor_ended, container))
    # Each has been refused, and then again.
    assert all(refusals.acquire(timeout=LIMIT_S) for _ in range(2 * CONTAINERS))
    room.set()
    deadline = Deadline(LIMIT_S)
    assert all(read.acquire(timeout=deadline.remaining_s()) for _ in range(CONTAINERS))
    exits.close()


def test_what_nobody_expects_of_a_pool_is_logged(monkeypatch: pytest.MonkeyPatch) -> None:
    logged, begun = [], threading.Semaphore(0)

    def fail(container: Container) -> None:
        begun.release()
        raise ZeroDivisionError

    lines = SimpleNamespace(exception=lambda event, **fields: logged.append((event, fields)))
    monkeypatch.setattr(exit_monitor, "log", lines)
    exits = ExitMonitor(CONTEXT, lambda container, in_s: None)
    container = cast(Container, SimpleNamespace(container_id="c"))
    for pool in (exits._janitor, exits._killers):
        exits._submit(pool, fail, container)
        assert begun.acquire(timeout=LIMIT_S)
    exits.close()
    assert logged == [("exit.unhandled", {"container_id": "c"})] * 2
