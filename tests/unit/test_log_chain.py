"""The files of a log, one after the other."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from ocigrpc.host.file_watch import FileWatch, Waiter
from ocigrpc.oci.log_chain import LogChain


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "log"
    path.write_bytes(b"first\n")
    return path


@pytest.fixture
def waiter(tmp_path: Path) -> Iterator[Waiter]:
    watch = FileWatch()
    with watch.waiter(str(tmp_path), "log") as waiter:
        yield waiter
    watch.close()


def begin_anew(log: Path, content: bytes) -> None:
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
        if not chain.look():
            return found
        chain.go_on()


def test_rotated_files_come_first_the_oldest_before_all(log: Path) -> None:
    (log.parent / "log.1").write_bytes(b"middle\n")
    (log.parent / "log.3").write_bytes(b"oldest\n")
    (log.parent / "log.20260102-030405").write_bytes(b"a client's\n")
    with LogChain(str(log), True, None) as chain:
        blocks = [file.read() for file in chain.files]
    assert [block.lines for block in blocks if block] == [[b"oldest"], [b"middle"], [b"first"]]


def test_files_are_found_under_whatever_name_they_get(log: Path, waiter: Waiter) -> None:
    with LogChain(str(log), False, waiter) as chain:
        assert rest_of(chain) == [b"first"]
        log.rename(log.with_name("log.1"))
        begin_anew(log, b"second\n")
        log.rename(log.with_name("log.20260102-030405"))
        begin_anew(log, b"third\n")
        log.with_name("log.1").unlink()
        assert rest_of(chain) == [b"second", b"third"]
        assert not chain.gap


def test_what_was_thrown_away_is_a_gap(log: Path, waiter: Waiter) -> None:
    with LogChain(str(log), False, waiter) as chain:
        begin_anew(log, b"lost\n")
        begin_anew(log, b"third\n")
        assert rest_of(chain) == [b"first", b"third"]
        assert chain.gap


def test_what_is_written_after_the_renaming_is_read(log: Path, waiter: Waiter) -> None:
    with LogChain(str(log), False, waiter) as chain, log.open("ab", buffering=0) as file:
        assert rest_of(chain) == [b"first"]
        log.rename(log.with_name("log.1"))
        file.write(b"late\n")
        assert rest_of(chain) == [b"late"]
        begin_anew(log, b"second\n")
        assert rest_of(chain) == [b"second"]


def test_a_log_that_is_not_there_yet_is_read_when_it_is(log: Path, waiter: Waiter) -> None:
    log.unlink()
    with LogChain(str(log), False, waiter) as chain:
        assert chain.current is None
        assert rest_of(chain) == []
        begin_anew(log, b"now\n")
        assert rest_of(chain) == [b"now"]


def test_a_log_that_is_renamed_back_is_not_read_twice(log: Path, waiter: Waiter) -> None:
    with LogChain(str(log), False, waiter) as chain:
        assert rest_of(chain) == [b"first"]
        log.rename(log.with_name("log.1"))
        log.with_name("log.1").rename(log)
        assert rest_of(chain) == []


def test_no_file_stays_open(log: Path, waiter: Waiter) -> None:
    before = set(os.listdir("/proc/self/fd"))
    with LogChain(str(log), True, waiter) as chain:
        for _ in range(10):
            log.rename(log.with_name("log.1"))
            begin_anew(log, b"more\n")
            assert rest_of(chain)
            assert len(chain.files) == 1
    assert set(os.listdir("/proc/self/fd")) == before
