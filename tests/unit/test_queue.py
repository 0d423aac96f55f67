"""The bounded queue between two threads."""

from __future__ import annotations

from threading import Thread

import pytest

from ocigrpc.engine.sessions.queue import PollableQueue
from ocigrpc.waiting import Deadline, Flag


def is_set(flag: Flag) -> bool:
    return bool(Deadline().wait(flag, timeout_s=0))


def test_items_come_out_in_order_and_then_the_end() -> None:
    queue = PollableQueue[int](10)
    for item in (1, 2, 3):
        assert queue.put(item)
    queue.finish()
    assert list(queue.each()) == [1, 2, 3]
    assert queue.ended()


def test_an_error_comes_after_the_last_thing() -> None:
    queue = PollableQueue[int](10)
    queue.put(1)
    queue.finish(ValueError("why"))
    items = queue.each()
    assert next(items) == 1
    with pytest.raises(ValueError, match="why"):
        next(items)


def test_the_first_end_is_the_end() -> None:
    queue = PollableQueue[int](10)
    queue.finish()
    queue.finish(ValueError())
    assert list(queue.each()) == []


def test_filled_can_be_polled_for_while_there_is_something() -> None:
    queue = PollableQueue[int](10)
    assert not is_set(queue.filled)
    queue.put(1)
    assert is_set(queue.filled)
    assert queue.take() == 1
    assert not is_set(queue.filled)
    assert queue.take() is None
    queue.finish()
    assert is_set(queue.filled)


def test_room_is_gone_at_the_limit_and_back_below_it() -> None:
    queue = PollableQueue[int](10)
    queue.put(1, 9)
    assert is_set(queue.room)
    queue.put(2, 9)
    assert not is_set(queue.room)
    queue.take()
    assert is_set(queue.room)


def test_a_closed_queue_takes_nothing_and_delays_nobody() -> None:
    queue = PollableQueue[int](10)
    queue.put(1, 20)
    queue.close()
    assert is_set(queue.room)
    assert not queue.put(2)
    assert queue.take() is None


def test_a_waiting_thread_gets_what_another_puts() -> None:
    queue = PollableQueue[int](10)
    got: list[int] = []
    taker = Thread(target=lambda: got.extend(queue.each()))
    taker.start()
    queue.put(1)
    queue.put(2)
    queue.finish()
    taker.join(10)
    assert got == [1, 2]
