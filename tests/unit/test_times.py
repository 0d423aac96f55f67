"""Times and spans between the contract and the engine."""

from __future__ import annotations

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from ocigrpc.errors import InvalidArgument
from ocigrpc.service.times import duration, seconds_of, time_ns_of, timestamp
from ocigrpc.violations import Violations


def test_a_time_keeps_its_nanoseconds() -> None:
    time_ns = 1_767_323_045_678_901_234
    there = timestamp(time_ns)
    assert there == Timestamp(seconds=1_767_323_045, nanos=678_901_234)
    assert time_ns_of(Violations(), "since", there) == time_ns


def test_no_time_is_absent() -> None:
    assert timestamp(0) is None


def test_a_span_of_nothing_is_there_and_an_unknown_one_is_not() -> None:
    assert duration(0) == Duration()
    assert duration(2_000_000_001) == Duration(seconds=2, nanos=1)
    assert duration(None) is None


@pytest.mark.parametrize(
    "time",
    [
        Timestamp(seconds=-1),
        Timestamp(nanos=-1),
        Timestamp(nanos=1_000_000_000),
        Timestamp(seconds=253_402_300_800),
    ],
)
def test_a_time_before_1970_or_after_9999_is_refused(time: Timestamp) -> None:
    found = Violations()
    time_ns_of(found, "since", time)
    with pytest.raises(InvalidArgument) as caught:
        found.raise_any()
    assert (caught.value.reason, caught.value.violations[0].field) == ("OUT_OF_RANGE", "since")


@pytest.mark.parametrize("span", [Duration(seconds=-1), Duration(nanos=-1), Duration(nanos=10**9)])
def test_a_negative_span_is_no_number_of_seconds(span: Duration) -> None:
    assert seconds_of(span) is None
