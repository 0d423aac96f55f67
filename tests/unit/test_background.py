"""Work that goes on when its caller has to be answered."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from ocigrpc.engine.containers.creation.background import DETACHED_LIMIT, BackgroundWork
from ocigrpc.errors import LimitReached
from ocigrpc.waiting import Deadline

LIMIT_S = 10.0


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """What work waits for; it is open at the end."""
    gate = threading.Event()
    yield gate
    gate.set()


@pytest.fixture
def background(gate: threading.Event) -> Iterator[BackgroundWork]:
    background = BackgroundWork()
    yield background
    gate.set()
    background.close(LIMIT_S)


def test_work_that_ends_in_time_is_done_when_the_caller_goes_on(background: BackgroundWork) -> None:
    done: list[int] = []
    assert background.run(lambda: done.append(1), Deadline(LIMIT_S))
    assert done == [1]


def test_the_caller_gets_the_error_of_the_work(background: BackgroundWork) -> None:
    with pytest.raises(ZeroDivisionError):
        background.run(lambda: print(1 // 0), Deadline(LIMIT_S))


def test_work_goes_on_when_the_answer_is_due(
    background: BackgroundWork, gate: threading.Event
) -> None:
    done: list[bool] = []
    assert not background.run(lambda: done.append(gate.wait(LIMIT_S)), Deadline(0.0))
    assert done == []
    gate.set()
    background.close(LIMIT_S)
    assert done == [True]


def test_for_a_caller_that_has_gone_the_end_is_waited_for(background: BackgroundWork) -> None:
    done: list[int] = []
    deadline = Deadline(LIMIT_S)
    deadline.cancel()
    assert background.run(lambda: done.append(1), deadline)
    assert done == [1]


def test_without_a_thread_the_caller_does_it(
    background: BackgroundWork, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)
    done: list[int] = []
    assert background.run(lambda: done.append(1), Deadline(0.0))
    assert done == [1]


def test_no_more_than_so_much_goes_on_without_callers(
    background: BackgroundWork, gate: threading.Event
) -> None:
    for _ in range(DETACHED_LIMIT):
        background.require_room()
        background.run(lambda: print(gate.wait(LIMIT_S)), Deadline(0.0))
    with pytest.raises(LimitReached) as refused:
        background.require_room()
    assert (refused.value.reason, refused.value.metadata["limit"]) == ("TOO_MANY_CALLS", "64")
    gate.set()
    background.close(LIMIT_S)
    background.require_room()
