"""Files and directories watched by many, with one inotify instance."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ocigrpc.deadline import Deadline
from ocigrpc.errors import HostFailed
from ocigrpc.host.file_watch import EVENTS_LIMIT, FileWatch, Waiter
from ocigrpc.host.inotify import CREATE, MOVED_FROM, MOVED_TO

LIMIT_S = 10.0


@pytest.fixture
def file_watch() -> Iterator[FileWatch]:
    watch = FileWatch()
    yield watch
    watch.close()


def woken(waiter: Waiter, timeout_s: float = LIMIT_S) -> bool:
    return bool(Deadline().wait(waiter, timeout_s=timeout_s))


def test_a_rename_is_told_with_both_names(file_watch: FileWatch, tmp_path: Path) -> None:
    with file_watch.waiter(str(tmp_path), "log") as waiter:
        (tmp_path / "log").touch()
        (tmp_path / "log").rename(tmp_path / "log.1")
        assert woken(waiter)
        events, lost = waiter.take()
    assert [(event.mask, event.name) for event in events] == [
        (CREATE, "log"),
        (MOVED_FROM, "log"),
        (MOVED_TO, "log.1"),
    ]
    assert events[1].cookie == events[2].cookie != 0
    assert not lost


def test_other_files_of_the_directory_wake_nobody(file_watch: FileWatch, tmp_path: Path) -> None:
    with file_watch.waiter(str(tmp_path), "log") as waiter:
        (tmp_path / "logs").touch()
        (tmp_path / "blog").touch()
        assert waiter.take() == ([], False)
        assert not woken(waiter, 0)


def test_a_change_wakes_all_who_expect_it_once(file_watch: FileWatch, tmp_path: Path) -> None:
    with (
        (tmp_path / "log").open("wb", buffering=0) as file,
        file_watch.waiter(str(tmp_path), "log") as one,
        file_watch.waiter(str(tmp_path), "log") as other,
    ):
        file.write(b"before")
        for waiter in (one, other):
            waiter.expect_change(file.fileno())
            assert waiter.take() == ([], False)
            assert not woken(waiter, 0)
        file.write(b"x")
        for waiter in (one, other):
            assert woken(waiter)
            waiter.take()
        file.write(b"x")
        assert not woken(one, 0.05)
        one.expect_change(file.fileno())
        file.write(b"x")
        assert woken(one)
        assert not woken(other, 0.05)


def test_who_has_left_takes_nothing_from_others(file_watch: FileWatch, tmp_path: Path) -> None:
    with file_watch.waiter(str(tmp_path), "log") as stays:
        with file_watch.waiter(str(tmp_path), "log"):
            pass
        (tmp_path / "log").touch()
        assert woken(stays)


def test_who_does_not_take_is_told_that_events_are_lost(
    file_watch: FileWatch, tmp_path: Path
) -> None:
    with file_watch.waiter(str(tmp_path), "log") as waiter:
        for number in range(EVENTS_LIMIT + 1):
            (tmp_path / f"log.{number}").touch()
        events, lost = waiter.take()
        assert lost
        assert len(events) < EVENTS_LIMIT
        (tmp_path / "log").touch()
        assert waiter.take()[1] is False


def test_a_missing_directory_can_not_be_watched(file_watch: FileWatch, tmp_path: Path) -> None:
    with pytest.raises(HostFailed):
        file_watch.waiter(str(tmp_path / "no"), "log")
