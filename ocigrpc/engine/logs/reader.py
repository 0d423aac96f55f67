"""Reads a container's log: the lines that are there, and those to come."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from enum import Enum, auto
from threading import Lock

from msgspec import Struct

from ocigrpc.conmon.log_chain import LogChain
from ocigrpc.conmon.log_file import Block
from ocigrpc.conmon.log_line import LogLine, Stream, parse_log_line
from ocigrpc.engine.containers.container import Container
from ocigrpc.host.files.watch import Waiter
from ocigrpc.waiting import Deadline

# Most lines in a batch.
BATCH_LINES = 256

# Most content in a batch, unless one line alone has more.
BATCH_BYTES = 64 << 10

_REST_LIMIT_S = 0.01

_parsing = Lock()


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

    @property
    def is_whole(self) -> bool:
        """Whether every line is asked for."""
        return not (self.since_ns or self.until_ns or self.streams)

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


@contextmanager
def _taking_turns() -> Iterator[None]:
    """Parse in a ``with``: one reader at a time, so that other calls get their share.

    Parsing holds the interpreter, which every call needs. For as long as this reader had to
    wait for the interpreter, it keeps the other readers waiting at the end.
    """
    with _parsing:
        begun_s, used_s = time.monotonic(), time.thread_time()
        yield
        waited_s = (time.monotonic() - begun_s) - (time.thread_time() - used_s)
        # Even without a pause, sleep hands the interpreter to a waiting thread.
        time.sleep(max(0.0, min(waited_s, _REST_LIMIT_S)))


class _Next(Enum):
    """What follows the lines that are written by now."""

    ANOTHER_FILE = auto()
    MORE_LINES = auto()
    NOTHING = auto()


class LogReader:
    """Reads one log once, for one query."""

    def __init__(self, query: LogQuery, chain: LogChain) -> None:
        self._query = query
        self._is_whole = query.is_whole
        self._chain = chain
        self._lines: list[LogLine] = []
        self._size_bytes = 0
        self._skipped = 0
        self._is_past_until = False

    def snapshot(self, deadline: Deadline) -> Iterator[LogBatch]:
        """The lines that are in the files now; raises ``Timeout`` or ``Cancelled``."""
        self._seek_tail()
        for file in self._chain.files:
            while block := file.read(file.size_bytes):
                deadline.check()
                yield from self._add(block)
        yield from self._flush()

    def follow(
        self, container: Container, waiter: Waiter, deadline: Deadline
    ) -> Iterator[LogBatch]:
        """The lines in the files and those to come, until the container's end and its last line.

        Raises ``Timeout`` or ``Cancelled``.
        """
        self._seek_tail()
        while True:
            yield from self._read_current(deadline)
            following = self._poll(container, deadline)
            # Again, for lines that were written before the poll; more may follow them.
            if (yield from self._read_current(deadline)):
                continue
            yield from self._flush()
            match following:
                case _Next.ANOTHER_FILE:
                    self._chain.advance()
                case _Next.MORE_LINES:
                    deadline.wait(
                        waiter, container.exited, container.removed, timeout_s=self._remaining_s()
                    )
                case _Next.NOTHING:
                    return

    def _seek_tail(self) -> None:
        """Go to the first of the last lines that are wanted, past the files before it."""
        wanted = self._query.tail_lines
        if wanted is None:
            return
        files = self._chain.files
        for index in range(len(files) - 1, -1, -1):
            position, found = files[index].tail(self._is_wanted, wanted)
            files[index].seek(position)
            wanted -= found
            if not wanted:
                for _ in range(index):
                    self._chain.advance()
                return

    def _is_wanted(self, raw: bytes) -> bool:
        line = parse_log_line(raw)
        return line is not None and self._query.wants(line)

    def _read_current(self, deadline: Deadline) -> Generator[LogBatch, None, bool]:
        """Read to the end of the current file; returns whether there was anything to read."""
        was_read = False
        while (current := self._chain.current) is not None and not self._is_past_until:
            deadline.check()
            if (block := current.read()) is not None:
                was_read = True
                yield from self._add(block)
            elif current.cut_short():
                self._chain.gap = True
            else:
                break
        return was_read

    def _poll(self, container: Container, deadline: Deadline) -> _Next:
        if self._is_past_until:
            return _Next.NOTHING
        deadline.check()
        # Before the files: conmon has written all lines before its exit file.
        ended = container.record.exit_status is not None or container.removed.is_set()
        if self._chain.poll():
            return _Next.ANOTHER_FILE
        over = ended or self._chain.removed or self._remaining_s() <= 0
        return _Next.NOTHING if over else _Next.MORE_LINES

    def _remaining_s(self) -> float:
        """Seconds until ``until_ns``, when lines are not wanted any more."""
        until_ns = self._query.until_ns
        return (until_ns - time.time_ns()) / 1e9 if until_ns else float("inf")

    def _add(self, block: Block) -> Sequence[LogBatch]:
        """Add the lines of a block; the batches that are full with them."""
        with _taking_turns():
            return list(self._batches(block))

    def _batches(self, block: Block) -> Iterator[LogBatch]:
        self._skipped += block.dropped
        wants = self._query.wants
        for raw in block.lines:
            line = parse_log_line(raw)
            if line is None:
                self._skipped += 1
            elif self._is_whole or wants(line):
                size_bytes = len(line.content)
                full = len(self._lines) == BATCH_LINES
                if full or (self._lines and self._size_bytes + size_bytes > BATCH_BYTES):
                    yield from self._flush()
                self._lines.append(line)
                self._size_bytes += size_bytes
            elif self._query.until_ns and line.time_ns >= self._query.until_ns:
                self._is_past_until = self._query.follow

    def _flush(self) -> Iterator[LogBatch]:
        """A batch of what was added since the last one, if there is anything."""
        if self._lines or self._skipped or self._chain.gap:
            batch = LogBatch(self._lines, self._skipped, self._chain.gap)
            self._lines, self._size_bytes, self._skipped = [], 0, 0
            self._chain.gap = False
            yield batch
