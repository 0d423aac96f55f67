"""The client's side of logs."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TypedDict, Unpack

from ocigrpc.client import Stream
from ocigrpc.conmon.log_line import parse_log_line
from ocigrpc.errors import OcigrpcError
from ocigrpc.v1 import log_pb2
from tests.bed.hosts.leaks import LIMIT_S
from tests.bed.services.service import Service

# A script that writes the numbers up to one, each with a write of its own.
COUNTING = "i=0; while [ $i -lt {} ]; do i=$((i+1)); echo $i; done"


class Wanted(TypedDict, total=False):
    """What the client can be asked for, beside following."""

    tail_lines: int
    since_s: float
    until_s: float
    streams: Iterable[log_pb2.LogStream]


def responses(
    service: Service, container_id: str, *, follow: bool = False, **wanted: Unpack[Wanted]
) -> Stream[log_pb2.ContainerLogsResponse]:
    """The call itself."""
    return service.client.container_logs(
        container_id, follow=follow, timeout_s=2 * LIMIT_S, **wanted
    )


def lines(
    service: Service, container_id: str, *, follow: bool = False, **wanted: Unpack[Wanted]
) -> list[log_pb2.LogLine]:
    """The lines of a call that ends, which must be whole."""
    return list(whole(responses(service, container_id, follow=follow, **wanted)))


def whole(answers: Iterable[log_pb2.ContainerLogsResponse]) -> Iterator[log_pb2.LogLine]:
    """The lines of answers that skip and lack nothing."""
    for answer in answers:
        assert not answer.gap
        assert answer.skipped_lines == 0
        assert 0 < len(answer.lines) <= 256
        yield from answer.lines


def contents(found: Iterable[log_pb2.LogLine]) -> list[bytes]:
    return [line.content for line in found]


def joined(found: Iterable[log_pb2.LogLine]) -> bytes:
    """What was written: lines with their newlines, and parts put together."""
    return b"".join(line.content + b"\n" * (not line.partial) for line in found)


def numbers(first: int, last: int) -> list[bytes]:
    """What :data:`COUNTING` writes."""
    return [b"%d" % number for number in range(first, last + 1)]


def log_path(service: Service, container_id: str) -> Path:
    return Path(service.status(container_id).log_path)


def reopen(service: Service, container_id: str) -> None:
    service.client.reopen_container_log(container_id)


def rotate(service: Service, container_id: str, suffix: str) -> Path:
    """Rotate a log as a kubelet does; where its old file is now."""
    path = log_path(service, container_id)
    rotated = path.with_name(f"{path.name}.{suffix}")
    path.rename(rotated)
    reopen(service, container_id)
    return rotated


def texts(*files: Path) -> bytes:
    """What the container wrote, from its log files, which must be whole."""
    found = []
    for file in files:
        for line in file.read_bytes().splitlines(keepends=True):
            assert line.endswith(b"\n")
            parsed = parse_log_line(line.removesuffix(b"\n"))
            assert parsed is not None
            assert parsed.stream == "stdout"
            found.append(parsed.content + b"\n" * (not parsed.partial))
    return b"".join(found)


def own_files(path: Path) -> list[Path]:
    """The files of a log that the service rotates, oldest first."""
    rotated = sorted(
        path.parent.glob(f"{path.name}.[0-9]*"), key=lambda file: -int(file.suffix[1:])
    )
    return [*rotated, path]


class Following:
    """A call that follows, read in a thread of its own, its parts put together to lines."""

    def __init__(self, service: Service, container_id: str, **wanted: Unpack[Wanted]) -> None:
        self._stream = responses(service, container_id, follow=True, **wanted)
        self._found: queue.SimpleQueue[bytes | _Gap | Exception | None] = queue.SimpleQueue()
        threading.Thread(target=self._read, daemon=True).start()

    def leave(self) -> None:
        """Go away in the middle."""
        self._stream.close()

    def _read(self) -> None:
        try:
            self._join()
        except (AssertionError, OcigrpcError) as error:
            self._found.put(error)
        finally:
            self._found.put(None)

    def _join(self) -> None:
        parts = b""
        for answer in self._stream:
            assert answer.skipped_lines == 0
            if answer.gap:
                self._found.put(_Gap())
                parts = b""
            for line in answer.lines:
                # conmon reads 8 KiB at a time, in the middle of a line as it comes.
                parts += line.content
                if not line.partial:
                    self._found.put(parts)
                    parts = b""
        if parts:
            self._found.put(parts)

    def _take(self) -> bytes | _Gap | None:
        found = self._found.get(timeout=LIMIT_S)
        if isinstance(found, Exception):
            raise found
        return found

    def next(self) -> bytes:
        line = self._take()
        assert isinstance(line, bytes)
        return line

    def rest(self) -> list[bytes]:
        """The lines to its end, which must be a good one; none may be missing."""
        (found,) = self.stretches()
        return found

    def stretches(self) -> list[list[bytes]]:
        """The same, cut where a gap is reported: the first line after it may lack its beginning."""
        found: list[list[bytes]] = [[]]
        while (line := self._take()) is not None:
            if isinstance(line, _Gap):
                found.append([])
            else:
                found[-1].append(line)
        return found


class _Gap:
    """Where lines are missing."""
