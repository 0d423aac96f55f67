"""The bounded queue between two threads."""

from __future__ import annotations

from threading import Thread

import pytest

from ocigrpc.engine.sessions.queue import PollableQueue
from ocigrpc.waiting import Deadline, Flag


def is_set(flag: Flag) -> bool:
    return bool(Deadline().wait(flag, timeout_s=0))


def test_things_come_out_in_order_and_then_the_end() -> None:
    box = PollableQueue[int](10)
    for thing in (1, 2, 3):
        assert box.put(thing)
    box.finish()
    assert list(box.each()) == [1, 2, 3]
    assert box.ended()


def test_an_error_comes_after_the_last_thing() -> None:
    box = PollableQueue[int](10)
    box.put(1)
    box.finish(ValueError("why"))
    things = box.each()
    assert next(things) == 1
    with pytest.raises(ValueError, match="why"):
        next(things)


def test_the_first_end_is_the_end() -> None:
    box = PollableQueue[int](10)
    box.finish()
    box.finish(ValueError())
    assert list(box.each()) == []


def test_filled_can_be_polled_for_while_there_is_something() -> None:
    box = PollableQueue[int](10)
    assert not is_set(box.filled)
    box.put(1)
    assert is_set(box.filled)
    assert box.take() == 1
    assert not is_set(box.filled)
    assert box.take() is None
    box.finish()
    assert is_set(box.filled)


def test_room_is_gone_at_the_limit_and_back_below_it() -> None:
    box = PollableQueue[int](10)
    box.put(1, 9)
    assert box.has_room()
    assert is_set(box.room)
    box.put(2, 9)
    assert not box.has_room()
    assert not is_set(box.room)
    box.take()
    assert box.has_room()
    assert is_set(box.room)


def test_a_closed_box_takes_nothing_and_holds_nobody_up() -> None:
    box = PollableQueue[int](10)
    box.put(1, 20)
    box.close()
    assert is_set(box.room)
    assert not box.put(2)
    assert box.take() is None


def test_who_waits_gets_what_another_thread_puts() -> None:
    box = PollableQueue[int](10)
    got: list[int] = []
    taker = Thread(target=lambda: got.extend(box.each()))
    taker.start()
    box.put(1)
    box.put(2)
    box.finish()
    taker.join(10)
    assert got == [1, 2]
