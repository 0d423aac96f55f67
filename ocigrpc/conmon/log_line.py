"""One line of a container's log, as conmon writes it: the CRI log format.

``2026-01-02T03:04:05.678901234+00:00 stdout F text``: RFC 3339 with up to nine digits of a
second and an offset, the stream, P for a part of a line or F for its end, the text. From 2.2 on,
conmon ends a line that had no newline with ``F`` and nothing behind it, not even a space.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import lru_cache
from typing import NamedTuple


class Stream(StrEnum):
    """The stream that a container wrote a line to; with a terminal it is always stdout."""

    STDOUT = "stdout"
    STDERR = "stderr"


class LogLine(NamedTuple):
    """A line, or a part of one: ``partial`` if the next of its stream continues it.

    ``content`` has no newline at its end.
    """

    time_ns: int
    stream: Stream
    partial: bool
    content: bytes


_STREAMS = {b"stdout": Stream.STDOUT, b"stderr": Stream.STDERR}
_TAGS = {b"F": False, b"P": True}
_SECOND = re.compile(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d")
_OFFSET = re.compile(rb"Z|[+-]\d\d:\d\d")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NS = 1_000_000_000
_LIMIT_NS = 1 << 63


def parse_log_line(line: bytes) -> LogLine | None:
    """Parse a line, without its newline; None when it is malformed."""
    fields = line.split(b" ", 3)
    if len(fields) == 3:
        fields.append(b"")
    if len(fields) != 4:
        return None
    stamp, stream_name, tags, content = fields
    stream = _STREAMS.get(stream_name)
    # More tags may follow, after a colon.
    partial = _TAGS.get(tags if len(tags) == 1 else tags.partition(b":")[0])
    if stream is None or partial is None:
        return None
    offset = b"Z" if stamp.endswith(b"Z") else stamp[-6:]
    fraction = stamp[20 : -len(offset)]
    if stamp[19:20] != b"." or not fraction.isdigit() or len(fraction) > 9:
        return None
    # Many lines share a second, whose date is computed once.
    second_ns = _second_ns(stamp[:19], offset)
    if second_ns is None:
        return None
    return LogLine(second_ns + int(fraction.ljust(9, b"0")), stream, partial, content)


@lru_cache(maxsize=64)
def _second_ns(second: bytes, offset: bytes) -> int | None:
    """Nanoseconds since 1970 at the beginning of a second; None if there is no such time."""
    if not _SECOND.fullmatch(second) or not _OFFSET.fullmatch(offset):
        return None
    try:
        local = datetime.fromisoformat(second.decode()).replace(tzinfo=UTC)
    except ValueError:
        return None
    since_epoch = local - _EPOCH
    if offset != b"Z":
        sign = -1 if offset.startswith(b"-") else 1
        ahead = timedelta(hours=int(offset[1:3]), minutes=int(offset[4:6]))
        since_epoch -= sign * ahead
    ns = (since_epoch // timedelta(seconds=1)) * _NS
    return ns if -_LIMIT_NS <= ns < _LIMIT_NS - _NS else None
