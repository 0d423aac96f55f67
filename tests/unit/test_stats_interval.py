"""Stats at an interval: at its multiples, however long it takes to read and to send them."""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence

import pytest

from ocigrpc.engine.containers.resources.stats import ContainerStats, repeated
from ocigrpc.errors import Cancelled, Timeout
from ocigrpc.waiting import Deadline

INTERVAL_S = 0.1


def times_s(count: int, *, reading_s: float = 0.0) -> list[float]:
    """When ``count`` readings began, counted from the first."""
    began_s: list[float] = []

    def read() -> Sequence[ContainerStats]:
        began_s.append(time.monotonic())
        Deadline().wait(timeout_s=reading_s)
        return ()

    for _ in itertools.islice(repeated(read, INTERVAL_S, Deadline()), count):
        pass
    return [each - began_s[0] for each in began_s]


def test_the_first_reading_is_at_once_and_the_others_are_an_interval_apart() -> None:
    assert times_s(4)[-1] >= 3 * INTERVAL_S - 0.001


def test_the_time_that_reading_takes_does_not_add_up() -> None:
    # 9 intervals; each and its reading would be 1.35 s.
    assert times_s(10, reading_s=INTERVAL_S / 2)[-1] < 1.2


def test_what_comes_too_late_is_left_out_and_the_next_is_at_a_multiple_again() -> None:
    second_s = times_s(2, reading_s=INTERVAL_S * 1.5)[1]
    assert second_s >= 2 * INTERVAL_S - 0.001


def test_it_ends_with_the_deadline() -> None:
    readings = repeated(lambda: (), 60.0, Deadline(0.05))
    next(readings)
    with pytest.raises(Timeout):
        next(readings)


def test_it_ends_when_the_caller_goes() -> None:
    deadline = Deadline()
    readings = repeated(lambda: (), 60.0, deadline)
    next(readings)
    deadline.cancel()
    with pytest.raises(Cancelled):
        next(readings)
