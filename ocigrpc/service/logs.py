"""Logs: from the request to a query, and from batches of lines to messages."""

from __future__ import annotations

from ocigrpc.conmon.log_line import Stream
from ocigrpc.engine.logs.values import LogBatch, LogQuery
from ocigrpc.service.from_proto import container_id
from ocigrpc.v1 import log_pb2
from ocigrpc.violations import Violations

_STREAMS = {
    Stream.STDOUT: log_pb2.LOG_STREAM_STDOUT,
    Stream.STDERR: log_pb2.LOG_STREAM_STDERR,
}
_NUMBERS = {number: stream for stream, number in _STREAMS.items()}


def log_query(request: log_pb2.ContainerLogsRequest) -> LogQuery:
    """Which lines are wanted. Raises ``InvalidArgument``."""
    found = Violations()
    for field in ("tail_lines", "since", "until"):
        found.allow(getattr(request, field) >= 0, field, "is negative", "OUT_OF_RANGE")
    for index, number in enumerate(request.streams):
        found.allow(
            number in _NUMBERS, f"streams[{index}]", f"{number} is no stream", "INVALID_STREAM"
        )
    wanted_id = container_id(request)
    found.raise_any()
    return LogQuery(
        container_id=wanted_id,
        follow=request.follow,
        tail_lines=request.tail_lines if request.HasField("tail_lines") else None,
        since_ns=request.since,
        until_ns=request.until,
        streams=frozenset(_NUMBERS[number] for number in request.streams),
    )


def log_response(batch: LogBatch) -> log_pb2.ContainerLogsResponse:
    """A batch as a message."""
    return log_pb2.ContainerLogsResponse(
        lines=[
            log_pb2.LogLine(
                time=line.time_ns,
                stream=_STREAMS[line.stream],
                partial=line.partial,
                content=line.content,
            )
            for line in batch.lines
        ],
        skipped_lines=batch.skipped,
        gap=batch.gap,
    )
