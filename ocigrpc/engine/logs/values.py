"""Which lines of a container's log are wanted, and how they are passed on."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from ocigrpc.conmon.log_line import LogLine, Stream


class LogQuery(Struct, frozen=True):
    """What ContainerLogs asks for; see ``ContainerLogsRequest`` in the proto.

    ``streams`` empty: both. ``since_ns`` and ``until_ns`` 0: no bound.
    """

    container_id: str
    follow: bool = False
    tail_lines: int | None = None
    since_ns: int = 0
    until_ns: int = 0
    streams: frozenset[Stream] = frozenset()

    def wants(self, line: LogLine) -> bool:
        """Whether a line is asked for."""
        return (
            line.time_ns >= self.since_ns
            and (not self.until_ns or line.time_ns < self.until_ns)
            and (not self.streams or line.stream in self.streams)
        )


class LogBatch(Struct, frozen=True):
    """Lines in their order.

    ``skipped`` is how many were malformed since the batch before; ``gap`` whether lines
    before these are lost.
    """

    lines: Sequence[LogLine]
    skipped: int = 0
    gap: bool = False
