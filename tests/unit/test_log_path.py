"""Paths that clients choose for logs: what conmon must not be let loose on."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from ocigrpc.conmon.log_path import check_log_path
from ocigrpc.errors import InvalidArgument


def test_a_new_name_and_a_file_that_is_there_are_taken(tmp_path: Path) -> None:
    check_log_path(str(tmp_path / "new.log"))
    (tmp_path / "old.log").write_text("kept")
    check_log_path(str(tmp_path / "old.log"))


def link(path: Path) -> None:
    path.with_name("target").write_text("")
    path.symlink_to("target")


@pytest.mark.parametrize(
    "make", [link, lambda path: path.symlink_to("nowhere"), os.mkfifo, os.mkdir]
)
def test_what_is_there_and_is_no_file_is_refused(
    tmp_path: Path, make: Callable[[Path], object]
) -> None:
    make(tmp_path / "log")
    assert reason_of(str(tmp_path / "log")) == "INVALID_LOG_PATH"


@pytest.mark.parametrize(
    "path",
    [
        *("/proc/sysrq-trigger", "/proc/self/comm", "/sys/kernel/x", "/dev/null", "/dev/pts/9"),
        *("/proc/self/cwd/log", "/proc/self/cwd/../log", "/proc/self/root/etc/log"),
        *("/etc/", "/etc/.", "/etc/..", f"/etc/{'x' * 252}"),
    ],
)
def test_a_path_that_is_no_place_for_a_file_is_refused(path: str) -> None:
    assert reason_of(path) == "INVALID_LOG_PATH"


@pytest.mark.parametrize("path", ["/no/such/log", "/etc/passwd/log", f"/{'x' * 300}/log"])
def test_a_directory_that_is_missing_is_refused(path: str) -> None:
    assert reason_of(path) == "LOG_DIRECTORY_MISSING"


@pytest.mark.parametrize("mode", [0o777, 0o1777, 0o703])
def test_a_directory_that_everybody_can_write_to_is_refused(tmp_path: Path, mode: int) -> None:
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs").chmod(mode)
    assert reason_of(str(tmp_path / "theirs/log")) == "INVALID_LOG_PATH"
    (tmp_path / "theirs").chmod(mode & ~0o002)
    check_log_path(str(tmp_path / "theirs/log"))


def reason_of(path: str) -> str:
    with pytest.raises(InvalidArgument) as caught:
        check_log_path(path)
    assert [each.field for each in caught.value.violations] == ["log_path"]
    return caught.value.reason
