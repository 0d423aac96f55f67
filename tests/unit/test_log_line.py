"""Lines of the CRI log format."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocigrpc.conmon.log_line import LogLine, Stream, parse_log_line

_CONTENT = st.binary(max_size=100).map(lambda content: content.replace(b"\n", b""))
_TIMES = st.datetimes(min_value=datetime(1971, 1, 1), max_value=datetime(2200, 1, 1))
_OFFSETS = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timedelta(minutes=minutes))


def test_a_whole_line() -> None:
    line = parse_log_line(b"2026-01-02T03:04:05.678901234+00:00 stdout F two words")
    assert line == LogLine(1767323045_678901234, Stream.STDOUT, False, b"two words")


def test_a_part_of_a_line() -> None:
    line = parse_log_line(b"2026-01-02T03:04:05.678901234+00:00 stderr P half")
    assert line == LogLine(1767323045_678901234, Stream.STDERR, True, b"half")


@pytest.mark.parametrize(
    ("stamp", "time_ns"),
    [
        (b"1970-01-01T00:00:00.000000001Z", 1),
        (b"1970-01-01T00:00:00.5Z", 500_000_000),
        (b"1970-01-01T01:00:00.000000000+01:00", 0),
        (b"1969-12-31T18:30:00.000000000-05:30", 0),
        (b"1969-12-31T23:59:59.999999999Z", -1),
    ],
)
def test_times_of_any_offset_and_precision(stamp: bytes, time_ns: int) -> None:
    line = parse_log_line(stamp + b" stdout F x")
    assert line is not None
    assert line.time_ns == time_ns


@pytest.mark.parametrize(
    ("tag", "partial"), [(b"F", False), (b"P", True), (b"F:more", False), (b"P:a:b", True)]
)
@pytest.mark.parametrize("end", [b"", b" "])
def test_an_empty_text_needs_no_space_before_it(tag: bytes, partial: bool, end: bytes) -> None:
    line = parse_log_line(b"2026-02-01T00:00:00.000000000+00:00 stdout " + tag + end)
    assert line == LogLine(1769904000_000000000, Stream.STDOUT, partial, b"")


def test_further_tags_are_left_alone() -> None:
    line = parse_log_line(b"1970-01-01T00:00:00.0Z stdout P:more x")
    assert line == LogLine(0, Stream.STDOUT, True, b"x")


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"text",
        b"1970-01-01T00:00:00.0Z stdout",
        b"1970-01-01T00:00:00.0Z stdout ",
        b"1970-01-01T00:00:00.0Z stdin F x",
        b"1970-01-01T00:00:00.0Z stdout G x",
        b"1970-01-01T00:00:00.0Z stdout  x",
        b"1970-01-01T00:00:00Z stdout F x",
        b"1970-01-01T00:00:00.Z stdout F x",
        b"1970-01-01T00:00:00.1234567890Z stdout F x",
        b"1970-01-01T00:00:00.+1Z stdout F x",
        b"1970-01-01T00:00:00.0 stdout F x",
        b"1970-13-01T00:00:00.0Z stdout F x",
        b"1970-01-01 00:00:00.0Z stdout F x",
        b"2999-01-01T00:00:00.0Z stdout F x",
        b"1970-01-01T00:00:00.0+0100 stdout F x",
        b" 1970-01-01T00:00:00.0Z stdout F x",
    ],
)
def test_what_is_no_such_line(line: bytes) -> None:
    assert parse_log_line(line) is None


@given(_TIMES, _OFFSETS, st.integers(0, 999), st.sampled_from(Stream), st.booleans(), _CONTENT)
def test_what_is_written_is_read(
    time: datetime,
    offset: timedelta,
    nanoseconds: int,
    stream: Stream,
    partial: bool,
    content: bytes,
) -> None:
    local = time.replace(tzinfo=UTC).astimezone(timezone(offset))
    second, zone = local.strftime("%Y-%m-%dT%H:%M:%S"), local.strftime("%z")
    stamp = f"{second}.{local.microsecond:06}{nanoseconds:03}{zone[:3]}:{zone[3:]}"
    line = parse_log_line(f"{stamp} {stream} {'P' if partial else 'F'} ".encode() + content)
    since_epoch = time.replace(tzinfo=UTC) - datetime(1970, 1, 1, tzinfo=UTC)
    time_ns = since_epoch // timedelta(microseconds=1) * 1000 + nanoseconds
    assert line == LogLine(time_ns, stream, partial, content)


@given(st.binary(max_size=100))
def test_any_bytes_are_a_line_or_none(line: bytes) -> None:
    parsed = parse_log_line(line)
    assert parsed is None or line.endswith(parsed.content)
