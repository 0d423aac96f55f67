"""A log as it is read and followed, from files that are written and renamed meanwhile."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from ocigrpc.conmon.log_chain import LogChain
from ocigrpc.engine.logs.reader import LogBatch, LogQuery, LogReader
from ocigrpc.errors import Timeout
from ocigrpc.host.files.watch import FileWatch
from ocigrpc.waiting import Deadline, Latch

LIMIT_S = 10.0


@pytest.fixture
def watch() -> Iterator[FileWatch]:
    watch = FileWatch()
    yield watch
    watch.close()


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "log"
    path.write_bytes(line("first"))
    return path


def line(text: str, second: int = 0) -> bytes:
    return f"2026-01-02T03:04:{second:02}.0+00:00 stdout F {text}\n".encode()


def rotate(log: Path, text: str) -> None:
    """As conmon does."""
    spare = log.with_name("log.tmp")
    spare.write_bytes(line(text))
    log.rename(log.with_name("log.1"))
    spare.rename(log)


class Running:
    """What a reader needs of a container: whether it has ended."""

    def __init__(self) -> None:
        self.exited, self.removed = Latch(), Latch()
        self.record = SimpleNamespace(exit_status=None)

    def end(self) -> None:
        self.record.exit_status = 0
        self.exited.set()


def follow(
    chain: LogChain, container: Running, deadline: Deadline | None = None, **query: Any
) -> Iterator[LogBatch]:
    reader = LogReader(LogQuery("c1", follow=True, **query), chain)
    assert chain.waiter is not None
    return reader.follow(cast(Any, container), chain.waiter, deadline or Deadline(LIMIT_S))


def contents(batch: LogBatch) -> list[str]:
    return [line.content.decode() for line in batch.lines]


def test_lines_come_as_they_are_written_until_the_container_has_ended(
    log: Path, watch: FileWatch
) -> None:
    container = Running()
    with LogChain(str(log), False, watch) as chain, log.open("ab", buffering=0) as file:
        batches = follow(chain, container)
        assert contents(next(batches)) == ["first"]
        file.write(line("second"))
        assert contents(next(batches)) == ["second"]
        file.write(line("third"))
        container.end()
        assert [contents(batch) for batch in batches] == [["third"]]


def test_every_file_is_read_to_its_end_before_the_next(log: Path, watch: FileWatch) -> None:
    container = Running()
    with LogChain(str(log), False, watch) as chain, log.open("ab", buffering=0) as file:
        batches = follow(chain, container)
        assert contents(next(batches)) == ["first"]
        rotate(log, "next")
        file.write(line("late"))
        container.end()
        assert [contents(batch) for batch in batches] == [["late"], ["next"]]


def test_a_file_that_is_emptied_is_a_gap(log: Path, watch: FileWatch) -> None:
    container = Running()
    with LogChain(str(log), False, watch) as chain:
        batches = follow(chain, container)
        assert not next(batches).gap
        log.write_bytes(b"")
        container.end()
        assert [(batch.gap, contents(batch)) for batch in batches] == [(True, [])]


def test_a_deleted_log_is_not_followed(log: Path, watch: FileWatch) -> None:
    with LogChain(str(log), False, watch) as chain:
        batches = follow(chain, Running())
        assert contents(next(batches)) == ["first"]
        log.unlink()
        assert list(batches) == []


def test_a_line_after_the_end_of_what_is_wanted_ends_it(log: Path, watch: FileWatch) -> None:
    log.write_bytes(line("wanted") + line("too late", second=2))
    until_ns = 1767323041 * 10**9
    with LogChain(str(log), False, watch) as chain:
        batches = follow(chain, Running(), until_ns=until_ns)
        assert [contents(batch) for batch in batches] == [["wanted"]]


def test_when_no_more_lines_are_wanted_it_ends_without_one(log: Path, watch: FileWatch) -> None:
    with LogChain(str(log), False, watch) as chain:
        batches = follow(chain, Running(), until_ns=time.time_ns() + 10**8)
        assert [contents(batch) for batch in batches] == [["first"]]


def test_nothing_new_is_waited_for_until_the_deadline(log: Path, watch: FileWatch) -> None:
    with LogChain(str(log), False, watch) as chain:
        batches = follow(chain, Running(), Deadline(0.2))
        assert contents(next(batches)) == ["first"]
        with pytest.raises(Timeout):
            next(batches)
