"""The client's side of logs."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import grpc

from ocigrpc.v1 import log_pb2
from tests.real.remains import LIMIT_S
from tests.real.service import Service

if TYPE_CHECKING:
    from grpc import _CallIterator

COUNTING = "i=0; while [ $i -lt {} ]; do i=$((i+1)); echo $i; done"
"""A script that writes the numbers up to one, each with a write of its own."""


def responses(
    service: Service, container_id: str, **fields: object
) -> _CallIterator[log_pb2.ContainerLogsResponse]:
    """The call itself."""
    request = log_pb2.ContainerLogsRequest(container_id=container_id, **fields)  # type: ignore[arg-type]  # mypy can't match a dict with parameters
    return service.rpc.ContainerLogs(request, timeout=2 * LIMIT_S)


def lines(service: Service, container_id: str, **fields: object) -> list[log_pb2.LogLine]:
    """The lines of a call that ends, which must be whole."""
    return list(whole(responses(service, container_id, **fields)))


def whole(answers: Iterable[log_pb2.ContainerLogsResponse]) -> Iterator[log_pb2.LogLine]:
    """The lines of answers that skip and lack nothing."""
    for answer in answers:
        assert not answer.gap
        assert answer.skipped_lines == 0
        assert 0 < len(answer.lines) <= 256
        yield from answer.lines


def contents(found: Iterable[log_pb2.LogLine]) -> list[bytes]:
    """Their texts."""
    return [line.content for line in found]


def joined(found: Iterable[log_pb2.LogLine]) -> bytes:
    """What was written: lines with their newlines, and parts put together."""
    return b"".join(line.content + b"\n" * (not line.partial) for line in found)


def numbers(first: int, last: int) -> list[bytes]:
    """What :data:`COUNTING` writes."""
    return [b"%d" % number for number in range(first, last + 1)]


def log_path(service: Service, container_id: str) -> Path:
    """Of the log itself."""
    return Path(service.status(container_id).log_path)


def reopen(service: Service, container_id: str, limit_s: float = LIMIT_S) -> None:
    """Ask for a new log."""
    request = log_pb2.ReopenContainerLogRequest(container_id=container_id)
    service.rpc.ReopenContainerLog(request, timeout=limit_s)


def rotate(service: Service, container_id: str, suffix: str) -> Path:
    """Rotate a log as a kubelet does; where its old file is now."""
    path = log_path(service, container_id)
    rotated = path.with_name(f"{path.name}.{suffix}")
    path.rename(rotated)
    reopen(service, container_id)
    return rotated


class Following:
    """A call that follows, read in a thread of its own, its parts put together to lines."""

    def __init__(self, service: Service, container_id: str, **fields: object) -> None:
        self.call = responses(service, container_id, follow=True, **fields)
        self._lines: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        # Whoever wants a good end looks for it.
        try:
            with suppress(grpc.RpcError):
                self._join()
        finally:
            self._lines.put(None)

    def _join(self) -> None:
        parts = b""
        for line in whole(self.call):
            # conmon reads 8 KiB at a time, in the middle of a line as it comes.
            parts += line.content
            if not line.partial:
                self._lines.put(parts)
                parts = b""
        if parts:
            self._lines.put(parts)

    def next(self) -> bytes:
        """The line that comes next."""
        line = self._lines.get(timeout=LIMIT_S)
        assert line is not None
        return line

    def rest(self) -> list[bytes]:
        """The lines to its end, which must be a good one."""
        found = list(iter(lambda: self._lines.get(timeout=LIMIT_S), None))
        assert self.call.code() is grpc.StatusCode.OK
        return found
