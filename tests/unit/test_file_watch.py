"""Files and directories watched by many, with one inotify instance."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ocigrpc.errors import HostFailed
from ocigrpc.host.files.inotify import CREATE, MOVED_FROM, MOVED_TO, Event
from ocigrpc.host.files.watch import FileWatch, Waiter
from ocigrpc.waiting import Deadline

LIMIT_S = 10.0


@pytest.fixture
def file_watch() -> Iterator[FileWatch]:
    watch = FileWatch()
    yield watch
    watch.close()


def woken(waiter: Waiter, timeout_s: float = LIMIT_S) -> bool:
    return bool(Deadline().wait(waiter, timeout_s=timeout_s))


def test_a_rename_is_told_with_both_names(file_watch: FileWatch, tmp_path: Path) -> None:
    events: list[Event] = []

    def hear(event: Event) -> bool:
        events.append(event)
        return True

    with file_watch.waiter(str(tmp_path), hear) as waiter:
        (tmp_path / "log").touch()
        (tmp_path / "log").rename(tmp_path / "log.1")
        assert woken(waiter)
        waiter.take()
    assert [(event.mask, event.name) for event in events] == [
        (CREATE, "log"),
        (MOVED_FROM, "log"),
        (MOVED_TO, "log.1"),
    ]
    assert events[1].cookie == events[2].cookie != 0


def test_what_is_of_no_interest_wakes_nobody(file_watch: FileWatch, tmp_path: Path) -> None:
    with file_watch.waiter(str(tmp_path), of_log) as waiter:
        (tmp_path / "logs").touch()
        waiter.take()
        assert not woken(waiter, 0)
        (tmp_path / "log").touch()
        assert woken(waiter)
        waiter.take()
        assert not woken(waiter, 0)


def of_log(event: Event) -> bool:
    return event.name == "log"


def test_a_change_wakes_all_who_expect_it_once(file_watch: FileWatch, tmp_path: Path) -> None:
    with (
        (tmp_path / "log").open("wb", buffering=0) as file,
        file_watch.waiter(str(tmp_path), of_log) as one,
        file_watch.waiter(str(tmp_path), of_log) as other,
    ):
        file.write(b"before")
        for waiter in (one, other):
            waiter.expect_change(file.fileno())
            waiter.take()
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
    with file_watch.waiter(str(tmp_path), of_log) as stays:
        with file_watch.waiter(str(tmp_path), of_log):
            pass
        (tmp_path / "log").touch()
        assert woken(stays)


def test_a_missing_directory_can_not_be_watched(file_watch: FileWatch, tmp_path: Path) -> None:
    with pytest.raises(HostFailed):
        file_watch.waiter(str(tmp_path / "no"), of_log)
