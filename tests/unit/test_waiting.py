"""Deadlines, latches and turns."""

from __future__ import annotations

import math
import os
import resource
import threading
from collections.abc import Callable, Sequence

import pytest

from ocigrpc.errors import Cancelled, Timeout
from ocigrpc.mutex import Mutex
from ocigrpc.waiting import Deadline, EventFd, Latch, Pollable, Waitable


def test_a_deadline_without_a_limit_never_passes() -> None:
    assert Deadline().remaining_s() == math.inf
    Deadline().check()


def test_a_passed_deadline_is_a_timeout() -> None:
    deadline = Deadline(0.0)
    assert deadline.remaining_s() == 0
    with pytest.raises(Timeout):
        deadline.check()
    with pytest.raises(Timeout):
        deadline.wait(Latch())


def test_within_is_the_sooner_of_the_two() -> None:
    assert Deadline(1.0).within(60.0).remaining_s() <= 1.0
    assert Deadline(60.0).within(1.0).remaining_s() <= 1.0
    assert Deadline().within(1.0).remaining_s() <= 1.0


def test_the_answer_has_half_of_its_time_longer_than_the_work() -> None:
    deadline = Deadline(90.0, answer_s=10.0)
    assert 89 < deadline.remaining_s() <= 90
    assert 94 < deadline.for_answer().remaining_s() <= 95
    assert 94 < deadline.within(1.0).for_answer().remaining_s() <= 95
    assert Deadline().for_answer().remaining_s() == math.inf


def test_the_answer_is_cancelled_with_the_work() -> None:
    deadline = Deadline(90.0, answer_s=10.0)
    deadline.cancel()
    with pytest.raises(Cancelled):
        deadline.for_answer().check()


def test_wait_answers_what_is_ready_at_once_even_past_the_deadline() -> None:
    latch = Latch()
    latch.set()
    assert Deadline(0.0).wait(latch) == [latch]


def test_wait_answers_nothing_when_its_own_time_has_passed() -> None:
    assert Deadline(60.0).wait(Latch(), timeout_s=0.0) == []


def test_wait_sees_the_other_end_of_a_pipe_close() -> None:
    reader, writer = os.pipe()
    os.close(writer)
    try:
        assert Deadline(10.0).wait(reader) == [reader]
    finally:
        os.close(reader)


def test_cancelling_wakes_a_wait_of_a_deadline_within() -> None:
    outer = Deadline()
    woken = threading.Event()

    def wait() -> None:
        with pytest.raises(Cancelled):
            outer.within(60.0).wait(Latch())
        woken.set()

    thread = threading.Thread(target=wait)
    thread.start()
    outer.cancel()
    assert woken.wait(10.0)
    thread.join()


def test_a_cancel_before_the_wait_counts() -> None:
    deadline = Deadline()
    deadline.cancel()
    deadline.cancel()
    with pytest.raises(Cancelled):
        deadline.wait(Latch())
    with pytest.raises(Cancelled):
        deadline.within(1.0).check()


def open_files() -> list[str]:
    return os.listdir("/proc/self/fd")


def test_a_wait_holds_a_descriptor_only_while_it_waits() -> None:
    reader, writer = os.pipe()
    before, latches = open_files(), [Latch() for _ in range(9)]
    deadline = Deadline(60.0)
    try:
        assert deadline.within(30.0).wait(*latches, reader, timeout_s=0.001) == []
        latches[3].set()
        assert deadline.wait(*latches, reader) == [latches[3]]
        deadline.cancel()
        with pytest.raises(Cancelled):
            deadline.wait(latches[0], reader)
        assert len(open_files()) == len(before)
    finally:
        os.close(reader)
        os.close(writer)


def wake_later(wake: Callable[[], None], *descriptors: int) -> list[object]:
    """What a wait answers that another thread wakes, once it waits."""
    latch, waiting = Latch(), threading.Event()

    class Watched(Latch):
        def add(self, waker: Callable[[], None]) -> None:
            super().add(waker)
            waiting.set()

    watched, answers = Watched(), list[object]()
    thread = threading.Thread(
        target=lambda: answers.extend(Deadline(10.0).wait(latch, watched, *descriptors))
    )
    thread.start()
    waiting.wait(0.1)
    wake()
    watched.set()
    thread.join()
    return answers


def test_without_a_descriptor_to_spare_a_wait_works_all_the_same() -> None:
    reader, writer = os.pipe()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    first = os.dup(reader)
    os.close(first)
    resource.setrlimit(resource.RLIMIT_NOFILE, (first, hard))
    try:
        with pytest.raises(OSError, match="Too many open files"):
            EventFd()
        assert len(wake_later(lambda: None)) == 1
        assert reader in wake_later(lambda: os.close(writer), reader)
        with pytest.raises(Timeout):
            Deadline(0.05).wait(Latch())
        turn, gone = Mutex(), Deadline()
        turn.acquire(gone)
        threading.Timer(0.05, gone.cancel).start()
        with pytest.raises(Cancelled):
            turn.acquire(gone)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        os.close(reader)


def test_a_wait_for_what_has_no_descriptor_takes_none() -> None:
    before, counts = len(open_files()), list[int]()
    assert wake_later(lambda: counts.append(len(open_files())))
    assert counts == [before]


def test_an_alarm_may_be_rung_when_it_is_closed() -> None:
    with EventFd() as alarm:
        alarm.set()
        assert Deadline(1.0).wait(alarm) == [alarm.fileno()]
        alarm.clear()
        assert Deadline(1.0).wait(alarm, timeout_s=0.0) == []
    other = os.eventfd(0)
    try:
        alarm.set()
        assert Deadline(1.0).wait(other, timeout_s=0.0) == []
    finally:
        os.close(other)


def test_what_nobody_waits_for_any_more_wakes_nobody() -> None:
    latch, woken = Latch(), list[str]()
    latch.add(lambda: woken.append("lasting"))
    with pytest.raises(Timeout):
        Deadline(0.001).wait(latch)
    latch.set()
    assert woken == ["lasting"]


def test_a_turn_is_had_by_one_at_a_time() -> None:
    turn = Mutex()
    turn.acquire(Deadline(1.0))
    with pytest.raises(Timeout):
        turn.acquire(Deadline(0.0))
    turn.release()
    turn.acquire(Deadline(1.0))


def test_giving_a_turn_wakes_the_next() -> None:
    turn = Mutex()
    turn.acquire(Deadline(1.0))
    taken = threading.Event()

    def take() -> None:
        turn.acquire(Deadline(10.0))
        taken.set()

    thread = threading.Thread(target=take)
    thread.start()
    assert not taken.is_set()
    turn.release()
    assert taken.wait(10.0)
    thread.join()


class Watched(Deadline):
    """One that tells when a wait with it begins, and calls ``meanwhile`` then."""

    def __init__(self, meanwhile: Callable[[], None] = lambda: None) -> None:
        super().__init__(20.0)
        self.waits = threading.Event()
        self._meanwhile = meanwhile

    def wait(
        self, *wanted: int | Pollable | Waitable, timeout_s: float = math.inf
    ) -> Sequence[int | Waitable]:
        self.waits.set()
        self._meanwhile()
        return super().wait(*wanted, timeout_s=timeout_s)


def test_turns_are_had_in_the_order_in_which_they_were_asked_for() -> None:
    turn, had, threads = Mutex(), list[int](), list[threading.Thread]()

    def take(number: int, deadline: Deadline) -> None:
        with turn.held(deadline):
            had.append(number)

    turn.acquire(Deadline(1.0))
    for number in range(5):
        deadline = Watched()
        threads.append(threading.Thread(target=take, args=(number, deadline)))
        threads[-1].start()
        assert deadline.waits.wait(20.0)
    turn.release()
    # Not before them: whoever has had it comes last.
    take(5, Deadline(20.0))
    for thread in threads:
        thread.join()
    assert had == [0, 1, 2, 3, 4, 5]


def test_a_turn_that_nobody_waits_for_any_more_goes_to_the_next() -> None:
    turn = Mutex()
    turn.acquire(Deadline(1.0))
    gone = Deadline()
    gone.cancel()
    with pytest.raises(Cancelled):
        turn.acquire(gone)
    late = Watched()

    def hand_over_and_go() -> None:
        turn.release()
        raise Timeout("too late")

    with pytest.raises(Timeout):
        turn.acquire(Watched(hand_over_and_go))
    turn.acquire(late)
    assert not late.waits.is_set()
