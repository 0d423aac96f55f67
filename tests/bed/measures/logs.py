"""How fast one client can read a log."""

from __future__ import annotations

import time
from collections.abc import Iterator

from ocigrpc.v1 import log_pb2
from tests.bed.measures.figures import Figure, at_least
from tests.bed.measures.sides import Bench

_BYTES = 64_000_000
_LINE_BYTES = 1000

# More readings than that tell no more.
_READINGS = 10


def logs(bench: Bench) -> Iterator[Figure]:
    """ContainerLogs of a log that is complete, in bytes that the container wrote."""
    service = bench.service
    line = "x" * (_LINE_BYTES - 1)
    # A log of its own place is not rotated by the service.
    log_path = str(service.directory / f"written-{bench.runtime}.log")
    container_id = service.run(f"yes {line} | head -c {_BYTES}", log_path=log_path)
    service.wait(container_id)
    request = log_pb2.ContainerLogsRequest(container_id=container_id)
    per_s = []
    for _ in range(min(_READINGS, bench.samples)):
        began_s = time.perf_counter()
        answers = service.wire.ContainerLogs(request)
        lines = (line for answer in answers for line in answer.lines)
        # conmon cuts lines into parts as it reads them.
        read_bytes = sum(len(line.content) + (not line.partial) for line in lines)
        per_s.append(read_bytes / (time.perf_counter() - began_s) / 1e6)
        assert read_bytes == _BYTES, f"{read_bytes} bytes of the log were read"
    service.remove(container_id)
    yield at_least(f"ContainerLogs, lines of {_LINE_BYTES} B, MB/s", per_s, 80)
