"""From exit files to exit statuses that never pretend."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocigrpc.conmon.exit_file import ExitFile, read_exit_file
from ocigrpc.engine.containers.ending import exit_of, unknown_exit
from ocigrpc.engine.model.signals import exit_signal
from ocigrpc.engine.model.values import Provenance


@given(st.integers(min_value=0, max_value=255))
def test_every_exit_code_is_reported_as_it_is(exit_code: int) -> None:
    status = exit_of(ExitFile(str(exit_code), 7), oom=False)
    assert status.exit_code == exit_code
    assert status.finished_ns == 7
    assert status.provenance is Provenance.EXIT_FILE
    assert not status.oom_killed


@given(st.text().filter(lambda text: not (text.isascii() and text.isdigit() and text)))
def test_what_is_no_number_is_no_exit_code(text: str) -> None:
    status = exit_of(ExitFile(text, 7), oom=True)
    assert status.exit_code is None
    assert status.signal is None
    assert not status.oom_killed
    assert status.provenance is (Provenance.FILE_INVALID if text else Provenance.FILE_EMPTY)
    assert status.message


@pytest.mark.parametrize("text", ["256", "999", "-1", "0137", "1 2", "٣"])
def test_what_is_no_exit_code_from_0_to_255_is_invalid(text: str) -> None:
    assert exit_of(ExitFile(text, 7), oom=False).provenance is Provenance.FILE_INVALID


@pytest.mark.parametrize(
    ("exit_code", "signal"), [(0, None), (128, None), (129, 1), (137, 9), (192, 64), (193, None)]
)
def test_signal_is_what_128_and_n_stands_for(exit_code: int, signal: int | None) -> None:
    assert exit_signal(exit_code) == signal


@pytest.mark.parametrize(("exit_code", "oom_killed"), [("137", True), ("0", False), ("1", False)])
def test_out_of_memory_ended_it_only_if_it_ended_by_sigkill(
    exit_code: str, oom_killed: bool
) -> None:
    assert exit_of(ExitFile(exit_code, 7), oom=True).oom_killed is oom_killed


def test_an_unknown_exit_has_a_reason_and_no_number() -> None:
    status = unknown_exit(Provenance.MONITOR_LOST, 7)
    assert (status.exit_code, status.signal, status.finished_ns) == (None, None, 7)
    assert status.message


def test_the_first_exit_file_that_is_there_counts(tmp_path: Path) -> None:
    (tmp_path / "copy").write_text("3\n")
    found = read_exit_file(str(tmp_path / "none"), str(tmp_path / "copy"))
    assert found is not None
    assert found.exit_code == 3
    assert read_exit_file(str(tmp_path / "none")) is None


def test_a_long_exit_file_is_read_no_further_than_its_limit(tmp_path: Path) -> None:
    (tmp_path / "exit").write_text("1" * 10_000)
    found = read_exit_file(str(tmp_path / "exit"))
    assert found is not None
    assert len(found.text) == 64
    assert found.exit_code is None
