"""Times and spans: the contract's Timestamp and Duration, and the engine's nanoseconds."""

from __future__ import annotations

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from ocigrpc.violations import Violations

_SECOND_NS = 1_000_000_000

# The last one of the year 9999, as google/protobuf/timestamp.proto has it.
_LAST_S = 253_402_300_799


def timestamp(time_ns: int) -> Timestamp | None:
    """Nanoseconds since 1970 as a Timestamp; 0 is no time."""
    if not time_ns:
        return None
    seconds, nanos = divmod(time_ns, _SECOND_NS)
    return Timestamp(seconds=seconds, nanos=nanos)


def fill_timestamp(message: Timestamp, time_ns: int) -> None:
    """Fill in nanoseconds since 1970, where a Timestamp is part of a message; 0 is no time."""
    if time_ns:
        message.seconds, message.nanos = divmod(time_ns, _SECOND_NS)


def duration(span_ns: int | None) -> Duration | None:
    """Nanoseconds, which are not negative, as a Duration."""
    if span_ns is None:
        return None
    seconds, nanos = divmod(span_ns, _SECOND_NS)
    return Duration(seconds=seconds, nanos=nanos)


def time_ns_of(violations: Violations, field: str, time: Timestamp) -> int:
    """A Timestamp of a request, not before 1970, in nanoseconds since then."""
    valid = 0 <= time.seconds <= _LAST_S and 0 <= time.nanos < _SECOND_NS
    violations.allow(valid, field, "must be a time from 1970 to 9999", "OUT_OF_RANGE")
    return time.seconds * _SECOND_NS + time.nanos


def seconds_of(span: Duration) -> float | None:
    """The duration in seconds; None for a negative or malformed one."""
    # Both parts have the same sign; see google/protobuf/duration.proto.
    if span.seconds < 0 or not 0 <= span.nanos < _SECOND_NS:
        return None
    return span.seconds + span.nanos / 1e9
