"""Log files, read from either end."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocigrpc.conmon.log_file import LINE_LIMIT_BYTES, LogFile

# Some longer than a block, which is as long as a line can be.
_SIZES = st.integers(0, 50) | st.integers(LINE_LIMIT_BYTES - 2, LINE_LIMIT_BYTES + 2)
_LINES = st.lists(_SIZES.map(lambda size: b"x" * size), max_size=12)


@pytest.fixture
def path() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as directory:
        yield Path(directory) / "log"


def read_all(file: LogFile) -> tuple[list[bytes], int]:
    lines, dropped = [], 0
    while block := file.read():
        lines += block.lines
        dropped += block.dropped
    return lines, dropped


def write_temporary(content: bytes) -> LogFile:
    with tempfile.NamedTemporaryFile() as file:
        file.write(content)
        file.flush()
        return LogFile(file.name)


@given(_LINES, st.binary(max_size=50).map(lambda rest: rest.replace(b"\n", b"")))
def test_all_lines_but_the_unfinished_one_are_read(lines: list[bytes], rest: bytes) -> None:
    file = write_temporary(b"".join(line + b"\n" for line in lines) + rest)
    found, dropped = read_all(file)
    file.close()
    assert found == [line for line in lines if len(line) <= LINE_LIMIT_BYTES]
    assert dropped == len(lines) - len(found)


@given(_LINES, st.integers(0, 14), st.booleans())
def test_the_tail_is_the_end_of_all(lines: list[bytes], wanted: int, unfinished: bool) -> None:
    file = write_temporary(b"".join(line + b"\n" for line in lines) + b"rest" * unfinished)
    whole = [line for line in lines if len(line) <= LINE_LIMIT_BYTES]
    position, found = file.tail(lambda _: True, wanted)
    file.seek(position)
    tail, _ = read_all(file)
    file.close()
    assert found == min(wanted, len(whole))
    assert tail[len(tail) - found :] == whole[len(whole) - found :]
    assert len(tail) == found or not wanted or found < wanted


def test_the_tail_counts_only_wanted_lines(path: Path) -> None:
    path.write_bytes(b"a1\nb1\na2\nb2\nb3\n")
    file = LogFile(str(path))
    position, found = file.tail(lambda line: line.startswith(b"a"), 1)
    file.seek(position)
    assert found == 1
    assert read_all(file) == ([b"a2", b"b2", b"b3"], 0)
    file.close()


def test_a_line_is_read_when_its_newline_has_come(path: Path) -> None:
    path.write_bytes(b"one\ntw")
    file = LogFile(str(path))
    assert read_all(file) == ([b"one"], 0)
    with path.open("ab") as more:
        more.write(b"o\n")
    assert read_all(file) == ([b"two"], 0)
    file.close()


def test_a_line_without_end_is_dropped_once(path: Path) -> None:
    path.write_bytes(b"x" * (5 * LINE_LIMIT_BYTES) + b"\nnext\n")
    file = LogFile(str(path))
    assert read_all(file) == ([b"next"], 1)
    file.close()


def test_nothing_beyond_the_limit_is_read(path: Path) -> None:
    path.write_bytes(b"one\ntwo\n")
    file = LogFile(str(path))
    block = file.read(4)
    assert block is not None
    assert block.lines == [b"one"]
    assert file.read(4) is None
    file.close()


def test_an_emptied_file_is_read_from_its_beginning(path: Path) -> None:
    path.write_bytes(b"one\n")
    file = LogFile(str(path))
    read_all(file)
    assert not file.cut_short()
    os.truncate(path, 0)
    assert file.cut_short()
    path.write_bytes(b"new\n")
    assert read_all(file) == ([b"new"], 0)
    file.close()


def test_what_is_no_file_is_refused_at_once(path: Path) -> None:
    os.mkfifo(path)
    with pytest.raises(OSError, match="regular"):
        LogFile(str(path))
