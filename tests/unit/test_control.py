"""conmon's control FIFO."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from ocigrpc.conmon.control import ControlFifo
from ocigrpc.errors import Timeout
from ocigrpc.waiting import Deadline


@pytest.fixture
def path(tmp_path: Path) -> Path:
    os.mkfifo(tmp_path / "ctl")
    return tmp_path / "ctl"


@pytest.fixture
def conmon(path: Path) -> Iterator[int]:
    """conmon's end of it."""
    fd = os.open(path, os.O_RDWR | os.O_NONBLOCK)
    yield fd
    os.close(fd)


@pytest.mark.usefixtures("conmon")
def test_a_second_line_waits_until_the_first_is_read(path: Path, conmon: int) -> None:
    with ControlFifo(str(path)) as control:
        control.resize(24, 80)
        with pytest.raises(Timeout):
            control.reopen_log(Deadline(0.05))
        assert os.read(conmon, 100) == b"1 24 80\n"
        control.reopen_log(Deadline(5))
        assert os.read(conmon, 100) == b"2 0 0\n"


def test_a_line_that_has_not_been_read_is_taken_back(path: Path, conmon: int) -> None:
    with ControlFifo(str(path)) as control:
        control.reopen_log(Deadline(5))
        assert control.take_back()
        with pytest.raises(BlockingIOError):
            os.read(conmon, 100)


def test_a_line_that_was_read_is_not(path: Path, conmon: int) -> None:
    with ControlFifo(str(path)) as control:
        control.reopen_log(Deadline(5))
        os.read(conmon, 100)
        assert not control.take_back()


def test_a_conmon_that_is_dead_is_reported_at_once(path: Path) -> None:
    with pytest.raises(ConnectionError):
        ControlFifo(str(path))


def test_a_missing_fifo_is_that_of_no_conmon(tmp_path: Path) -> None:
    with pytest.raises(ConnectionError):
        ControlFifo(str(tmp_path / "ctl"))
