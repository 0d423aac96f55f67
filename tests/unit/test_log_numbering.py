"""The files of a log that conmon rotates are kept, wherever the keeping was cut off."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from ocigrpc.conmon.log_chain import LogChain
from ocigrpc.conmon.log_numbering import keep_log, tidy_log

FILES = 4


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "c1.log"
    path.write_bytes(b"1\n")
    keep_log(str(path), FILES)
    return path


def begin_new_log(log: Path, number: int) -> None:
    """As conmon does when the log is full, with one line in the new one."""
    spare = log.with_name(f"{log.name}.tmp")
    with spare.open("wb") as file:
        spare.rename(log)
        file.write(b"%d\n" % number)


def read(log: Path) -> list[int]:
    """The numbers that a reader gets, in the order in which it does."""
    with LogChain(str(log), True, None) as chain:
        blocks = [file.read() for file in chain.files]
    return [int(line) for block in blocks if block for line in block.lines]


def names(log: Path) -> list[str]:
    return sorted(each.name.removeprefix(f"{log.name}.") for each in log.parent.iterdir())


def test_what_conmon_replaces_is_kept_under_a_number(log: Path) -> None:
    for number in (2, 3):
        begin_new_log(log, number)
        assert keep_log(str(log), FILES) == 1
    assert read(log) == [1, 2, 3]
    assert names(log) == ["1", "2", "c1.log", "held", "next", "tmp"]


def test_two_files_are_kept_without_a_further_call(log: Path) -> None:
    begin_new_log(log, 2)
    begin_new_log(log, 3)
    assert read(log) == [1, 2, 3]
    assert keep_log(str(log), FILES) == 2
    assert read(log) == [1, 2, 3]
    begin_new_log(log, 4)
    assert keep_log(str(log), FILES) == 1
    assert read(log) == [1, 2, 3, 4]


def test_of_three_the_first_two_are_kept(log: Path) -> None:
    for number in (2, 3, 4):
        begin_new_log(log, number)
    assert keep_log(str(log), FILES) == 2
    assert read(log) == [1, 2, 4]


def test_a_log_that_is_replaced_as_its_first_names_are_made_is_not_counted_as_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, link = tmp_path / "c1.log", os.link
    log.write_bytes(b"1\n")
    late = iter([2])

    def link_late(source: str, name: str) -> None:
        for number in late:
            begin_new_log(log, number)
        link(source, name)

    with monkeypatch.context() as patch:
        patch.setattr(os, "link", link_late)
        assert keep_log(str(log), FILES) == 0
    assert names(log) == ["c1.log", "held", "next", "tmp"]
    begin_new_log(log, 3)
    assert keep_log(str(log), FILES) == 1
    assert read(log) == [2, 3]


def test_no_more_files_are_kept_than_are_wanted(log: Path) -> None:
    for number in range(2, 9):
        begin_new_log(log, number)
        keep_log(str(log), FILES)
    assert read(log) == [5, 6, 7, 8]


def test_without_a_rotation_nothing_changes(log: Path) -> None:
    before = {each.name: each.stat().st_ino for each in log.parent.iterdir()}
    assert keep_log(str(log), FILES) == 0
    assert {each.name: each.stat().st_ino for each in log.parent.iterdir()} == before


def test_the_next_file_is_there_before_conmon_wants_it(log: Path) -> None:
    spare = log.with_name("c1.log.tmp").stat()
    begin_new_log(log, 2)
    assert os.path.samestat(log.stat(), spare)


def test_what_somebody_has_renamed_is_theirs(log: Path) -> None:
    log.rename(log.with_name("c1.log.old"))
    begin_new_log(log, 2)
    keep_log(str(log), FILES)
    assert read(log) == [2]
    assert names(log) == ["c1.log", "held", "next", "old", "tmp"]


def test_a_log_that_is_gone_is_not_made(log: Path) -> None:
    log.unlink()
    assert keep_log(str(log), FILES) == 0
    assert not log.exists()


@pytest.mark.parametrize("rotations", [0, 1, 2])
def test_of_an_ended_container_only_what_there_is_to_read_is_left(
    log: Path, rotations: int
) -> None:
    for number in range(2, rotations + 2):
        begin_new_log(log, number)
    tidy_log(str(log), FILES)
    assert read(log) == list(range(1, rotations + 2))
    assert names(log) == [str(number + 1) for number in range(rotations)] + ["c1.log"]


class _CutOff(BaseException):
    pass


@pytest.mark.parametrize(("rotations", "more"), [(1, 0), (1, 1), (2, 0)])
@pytest.mark.parametrize("step", range(8))
def test_cut_off_anywhere_it_is_finished_by_the_next_call(
    log: Path, monkeypatch: pytest.MonkeyPatch, step: int, more: int, rotations: int
) -> None:
    begin_new_log(log, 2)
    keep_log(str(log), 9)
    for number in range(3, 3 + rotations):
        begin_new_log(log, number)
    left = [step]

    def cut_off(function: Callable[..., object]) -> Callable[..., object]:
        def step_or_end(*arguments: object) -> object:
            if not left[0]:
                raise _CutOff
            left[0] -= 1
            return function(*arguments)

        return step_or_end

    with monkeypatch.context() as patch:
        for name in ("rename", "replace", "link"):
            patch.setattr(os, name, cut_off(getattr(os, name)))
        try:
            keep_log(str(log), 9)
        except _CutOff:
            assert read(log) == list(range(1, 3 + rotations))
    last = 2 + rotations
    for number in range(last + 1, last + 1 + more):
        begin_new_log(log, number)
    keep_log(str(log), 9)
    assert read(log) == list(range(1, last + 1 + more))
