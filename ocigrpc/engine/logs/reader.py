"""Reads a container's log: what there is, and what comes."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from threading import Lock

from ocigrpc.conmon.log_chain import LogChain
from ocigrpc.conmon.log_file import Block
from ocigrpc.conmon.log_line import LogLine, parse_log_line
from ocigrpc.engine.containers.container import Container
from ocigrpc.engine.logs.values import LogBatch, LogQuery
from ocigrpc.host.files.watch import Waiter
from ocigrpc.waiting import Deadline

BATCH_LINES = 256
"""Most lines in a batch."""

BATCH_BYTES = 64 << 10
"""Most content in a batch, unless one line alone has more."""


_REST_LIMIT_S = 0.01

_turn = Lock()


@contextmanager
def _sharing() -> Iterator[None]:
    """Parse in a ``with``: one reader of all at a time, so that other calls get their share.

    Parsing holds the interpreter, which every call needs. How long this one had to wait for
    it is how long others are left alone, before the next reader goes on.
    """
    with _turn:
        begun_s, used_s = time.monotonic(), time.thread_time()
        yield
        waited_s = (time.monotonic() - begun_s) - (time.thread_time() - used_s)
        # Of none at all, too: whoever waits gets the interpreter now.
        time.sleep(max(0.0, min(waited_s, _REST_LIMIT_S)))


class LogReader:
    """Reads one log once, for one query."""

    def __init__(self, query: LogQuery, chain: LogChain) -> None:
        self._query = query
        self._chain = chain
        self._lines: list[LogLine] = []
        self._size_bytes = 0
        self._skipped = 0
        self._over = False

    def snapshot(self, deadline: Deadline) -> Iterator[LogBatch]:
        """What is in the files now; raises ``Timeout`` or ``Cancelled``."""
        self._seek_tail()
        for file in self._chain.files:
            while block := file.read(file.size_bytes):
                deadline.check()
                yield from self._taken(block)
        yield from self._rest()

    def follow(
        self, container: Container, waiter: Waiter, deadline: Deadline
    ) -> Iterator[LogBatch]:
        """What is in the files and what comes, until the container has ended and all is told.

        Raises ``Timeout`` or ``Cancelled``.
        """
        self._seek_tail()
        looked = False
        while not self._over:
            deadline.check()
            current = self._chain.current
            block = current.read() if current is not None else None
            if block is not None:
                looked = False
                yield from self._taken(block)
            elif current is not None and current.cut_short():
                self._chain.gap = True
            elif not looked:
                # Then read once more: what was written before we looked has to be told.
                ended = self._ended(container)
                follows = self._chain.look()
                looked = True
            else:
                yield from self._rest()
                looked = False
                if follows:
                    self._chain.go_on()
                elif ended or self._chain.removed:
                    return
                else:
                    left_s = self._left_s()
                    deadline.wait(waiter, container.exited, container.removed, timeout_s=left_s)
        yield from self._rest()

    def _seek_tail(self) -> None:
        """Go to where the last lines begin, the files before that one left out."""
        wanted = self._query.tail_lines
        if wanted is None:
            return
        files = self._chain.files
        for index in range(len(files) - 1, -1, -1):
            position, found = files[index].tail(self._counts, wanted)
            files[index].seek(position)
            wanted -= found
            if not wanted:
                for _ in range(index):
                    self._chain.go_on()
                return

    def _counts(self, raw: bytes) -> bool:
        line = parse_log_line(raw)
        return line is not None and self._query.wants(line)

    def _ended(self, container: Container) -> bool:
        # conmon has written all before its exit file, so that nothing comes any more.
        ended = container.record.exit_status is not None or container.removed.is_set()
        return ended or self._left_s() <= 0

    def _left_s(self) -> float:
        """Seconds until what is written is not wanted any more."""
        until_ns = self._query.until_ns
        return (until_ns - time.time_ns()) / 1e9 if until_ns else float("inf")

    def _taken(self, block: Block) -> Sequence[LogBatch]:
        """The batches that are full once the block is in them."""
        with _sharing():
            return list(self._parsed(block))

    def _parsed(self, block: Block) -> Iterator[LogBatch]:
        self._skipped += block.dropped
        for raw in block.lines:
            line = parse_log_line(raw)
            if line is None:
                self._skipped += 1
            elif self._query.wants(line):
                size_bytes = len(line.content)
                full = len(self._lines) == BATCH_LINES
                if full or (self._lines and self._size_bytes + size_bytes > BATCH_BYTES):
                    yield from self._rest()
                self._lines.append(line)
                self._size_bytes += size_bytes
            elif self._query.until_ns and line.time_ns >= self._query.until_ns:
                self._over = self._query.follow

    def _rest(self) -> Iterator[LogBatch]:
        """What has not been told yet."""
        if self._lines or self._skipped or self._chain.gap:
            batch = LogBatch(self._lines, self._skipped, self._chain.gap)
            self._lines, self._size_bytes, self._skipped = [], 0, 0
            self._chain.gap = False
            yield batch
