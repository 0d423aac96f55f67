"""The files of a log, one after the other."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ocigrpc.conmon.log_chain import LogChain
from ocigrpc.host.files.watch import FileWatch


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "log"
    path.write_bytes(b"first\n")
    return path


@pytest.fixture
def watch() -> Iterator[FileWatch]:
    watch = FileWatch()
    yield watch
    watch.close()


def begin_new_log(log: Path, content: bytes) -> None:
    """As conmon does."""
    temporary = log.with_name("log.tmp")
    temporary.write_bytes(content)
    temporary.rename(log)


def rest_of(chain: LogChain) -> list[bytes]:
    """Of all its files, the lines that are there now."""
    found: list[bytes] = []
    while True:
        file = chain.current
        while file is not None and (block := file.read()):
            found += block.lines
        if not chain.poll():
            return found
        chain.advance()


def test_rotated_files_come_first_the_oldest_before_all(log: Path) -> None:
    (log.parent / "log.1").write_bytes(b"middle\n")
    (log.parent / "log.3").write_bytes(b"oldest\n")
    (log.parent / "log.20260102-030405").write_bytes(b"a client's\n")
    with LogChain(str(log), True, None) as chain:
        blocks = [file.read() for file in chain.files]
    assert [block.lines for block in blocks if block] == [[b"oldest"], [b"middle"], [b"first"]]


def test_files_are_found_under_whatever_name_they_get(log: Path, watch: FileWatch) -> None:
    with LogChain(str(log), False, watch) as chain:
        assert rest_of(chain) == [b"first"]
        log.rename(log.with_name("log.1"))
        begin_new_log(log, b"second\n")
        log.rename(log.with_name("log.20260102-030405"))
        begin_new_log(log, b"third\n")
        log.with_name("log.1").unlink()
        assert rest_of(chain) == [b"second", b"third"]
        assert not chain.gap


def rename(path: Path, number: int) -> None:
    path.rename(path.with_name(f"{number}-was-log"))


def remove(path: Path, number: int) -> None:
    path.unlink()


def move(path: Path, number: int) -> None:
    (path.parent / "old").mkdir(exist_ok=True)
    path.rename(path.parent / "old" / f"{number}")


@pytest.mark.parametrize("put_away", [rename, remove, move])
def test_files_that_are_put_away_before_they_are_read_are_read_all_the_same(
    log: Path, watch: FileWatch, put_away: Callable[[Path, int], None]
) -> None:
    with LogChain(str(log), False, watch, 64) as chain:
        assert chain.waiter is not None
        for number in range(40):
            log.rename(log.with_name("log.1"))
            begin_new_log(log, b"%d\n" % number)
            put_away(log.with_name("log.1"), number)
            # As its thread does soon, whether anybody reads or not.
            chain.waiter.take()
        assert rest_of(chain) == [b"first"] + [b"%d" % number for number in range(40)]
        assert not chain.gap


def test_of_files_that_are_removed_no_more_are_held_than_wanted(
    log: Path, watch: FileWatch
) -> None:
    with LogChain(str(log), False, watch, 3) as chain:
        for number in range(10):
            begin_new_log(log, b"%d\n" % number)
            assert chain.waiter is not None
            chain.waiter.take()
        assert rest_of(chain) == [b"first", b"7", b"8", b"9"]
        assert chain.gap


def test_thousands_of_renames_are_followed(log: Path, watch: FileWatch) -> None:
    with LogChain(str(log), False, watch) as chain:
        for number in range(60):
            for old in range(number, 0, -1):
                log.with_name(f"{old}.log").rename(log.with_name(f"{old + 1}.log"))
            log.rename(log.with_name("1.log"))
            begin_new_log(log, b"%d\n" % number)
        assert rest_of(chain) == [b"first"] + [b"%d" % number for number in range(60)]
        assert not chain.gap


def test_what_was_thrown_away_is_a_gap(log: Path, watch: FileWatch) -> None:
    with LogChain(str(log), False, watch) as chain:
        begin_new_log(log, b"lost\n")
        begin_new_log(log, b"third\n")
        assert rest_of(chain) == [b"first", b"third"]
        assert chain.gap


def test_what_is_written_after_the_renaming_is_read(log: Path, watch: FileWatch) -> None:
    with LogChain(str(log), False, watch) as chain, log.open("ab", buffering=0) as file:
        assert rest_of(chain) == [b"first"]
        log.rename(log.with_name("log.1"))
        file.write(b"late\n")
        assert rest_of(chain) == [b"late"]
        begin_new_log(log, b"second\n")
        assert rest_of(chain) == [b"second"]


def test_a_log_that_is_not_there_yet_is_read_when_it_is(log: Path, watch: FileWatch) -> None:
    log.unlink()
    with LogChain(str(log), False, watch) as chain:
        assert chain.current is None
        assert rest_of(chain) == []
        begin_new_log(log, b"now\n")
        assert rest_of(chain) == [b"now"]


def test_a_log_that_is_renamed_back_is_not_read_twice(log: Path, watch: FileWatch) -> None:
    with LogChain(str(log), False, watch) as chain:
        assert rest_of(chain) == [b"first"]
        log.rename(log.with_name("log.1"))
        log.with_name("log.1").rename(log)
        assert rest_of(chain) == []


def test_no_file_stays_open(log: Path, watch: FileWatch) -> None:
    before = set(os.listdir("/proc/self/fd"))
    with LogChain(str(log), True, watch) as chain:
        for _ in range(10):
            log.rename(log.with_name("log.1"))
            begin_new_log(log, b"more\n")
            assert rest_of(chain)
            assert len(chain.files) == 1
    assert set(os.listdir("/proc/self/fd")) == before
