"""What the files of a log are called, by what the directory tells."""

from __future__ import annotations

from pathlib import Path

import pytest

from ocigrpc.conmon.log_names import LogNames, kept_logs, remove_rotated, rotated_path
from ocigrpc.host.files.inotify import CREATE, DELETE, MOVED_FROM, MOVED_TO, OVERFLOW, Event


def renamed(before: str, after: str, cookie: int) -> list[Event]:
    return [Event(1, MOVED_FROM, cookie, before), Event(1, MOVED_TO, cookie, after)]


def reopened(cookie: int) -> list[Event]:
    return [Event(1, CREATE, 0, "log.tmp"), *renamed("log.tmp", "log", cookie)]


def learn(names: LogNames, events: list[Event]) -> None:
    for event in events:
        names.learn(event)


def test_nothing_follows_until_something_does() -> None:
    names = LogNames("/nowhere", "log")
    learn(names, [Event(1, CREATE, 0, "log.gz"), *renamed("log", "log.1", 7)])
    assert not names.waiting


def test_a_new_log_follows_the_one_renamed_away() -> None:
    names = LogNames("/nowhere", "log")
    learn(names, [*renamed("log", "log.2026", 1), *reopened(2)])
    assert names.waiting
    assert names.following == "log"
    names.go_on()
    assert not names.waiting


def test_a_log_that_waits_is_found_under_its_later_names() -> None:
    names = LogNames("/nowhere", "log")
    learn(names, [*renamed("log", "log.1", 1), *reopened(2)])
    learn(names, [*renamed("log.1", "log.2", 3), *renamed("log", "log.1", 4), *reopened(5)])
    assert names.following == "log.1"
    names.go_on()
    assert names.following == "log"


def test_a_log_that_is_replaced_before_it_was_read_is_lost() -> None:
    names = LogNames("/nowhere", "log")
    learn(names, [*reopened(1), *reopened(2)])
    assert names.following is None
    names.go_on()
    assert names.following == "log"


def test_a_log_that_is_deleted_before_it_was_read_is_lost() -> None:
    names = LogNames("/nowhere", "log")
    learn(names, [*renamed("log", "log.1", 1), *reopened(2), *renamed("log", "log.0", 3)])
    learn(names, [*reopened(4), Event(1, DELETE, 0, "log.0")])
    assert names.following is None
    names.go_on()
    assert names.following == "log"


def test_a_log_that_leaves_the_directory_before_it_was_read_is_lost() -> None:
    names = LogNames("/nowhere", "log")
    learn(names, [*reopened(1), Event(1, MOVED_FROM, 2, "log"), *reopened(3)])
    assert names.following is None


def test_a_log_that_is_renamed_back_is_the_same() -> None:
    names = LogNames("/nowhere", "log")
    learn(names, [*renamed("log", "log.1", 1), *renamed("log.1", "log", 2)])
    assert not names.waiting
    assert not names.removed


def test_a_deleted_log_is_removed_until_there_is_another() -> None:
    names = LogNames("/nowhere", "log")
    learn(names, [Event(1, DELETE, 0, "log.1")])
    assert not names.removed
    learn(names, [Event(1, DELETE, 0, "log")])
    assert names.removed
    learn(names, reopened(1))
    assert not names.removed
    assert names.following == "log"


def test_after_lost_events_only_the_log_itself_is_known() -> None:
    names = LogNames("/nowhere", "log")
    learn(names, [*renamed("log", "log.1", 1), *reopened(2)])
    learn(names, [Event(-1, OVERFLOW, 0, "")])
    assert names.following is None
    names.go_on()
    assert names.following == "log"


def test_what_is_read_already_does_not_follow() -> None:
    names = LogNames("/nowhere", "log")
    learn(names, [*renamed("log", "log.1", 1), *reopened(2), *renamed("log", "log.0", 3)])
    learn(names, reopened(4))
    names.skip_to(lambda name: name == "log.0")
    assert names.following == "log"
    names.skip_to(lambda name: name == "log")
    assert not names.waiting


def test_far_too_many_files_are_lost_and_not_kept() -> None:
    names = LogNames("/nowhere", "log")
    for cookie in range(3000):
        learn(names, reopened(cookie))
    passed = 0
    while names.waiting:
        last = names.following
        names.go_on()
        passed += 1
    assert last == "log"
    assert passed < 1100


def test_what_somebody_else_puts_in_its_place_is_not_the_next_log() -> None:
    names = LogNames("/nowhere", "log")
    learn(names, [*renamed("log", "log.1", 1), Event(1, CREATE, 0, "log")])
    assert not names.waiting
    learn(names, renamed("other", "log", 2))
    assert not names.waiting
    learn(names, reopened(3))
    assert names.following == "log"


def test_only_what_is_about_the_log_wakes() -> None:
    names = LogNames("/nowhere", "log")
    assert not names.learn(Event(1, CREATE, 0, "log.tmp"))
    assert names.learn(Event(1, MOVED_FROM, 1, "log"))
    names.learn(Event(1, MOVED_TO, 1, "other"))
    assert names.learn(Event(1, DELETE, 0, "other"))
    assert not names.learn(Event(1, DELETE, 0, "other"))


def test_what_belongs_to_a_log_is_known_by_its_name(tmp_path: Path) -> None:
    log = tmp_path / "c1.log"
    for number in (0, 1, 3, 63):
        Path(rotated_path(str(log), number)).touch()
    for suffix in ("tmp", "held", "next"):
        (tmp_path / f"c1.log.{suffix}").touch()
    other = tmp_path / "c1.log.old"
    other.touch()
    kept = kept_logs(str(log))
    assert {Path(path) for path in kept} == set(tmp_path.iterdir()) - {other}
    remove_rotated(str(log), 2)
    assert set(kept) - set(kept_logs(str(log))) == {f"{log}.3", f"{log}.63"}


@pytest.mark.parametrize(("position", "is_held"), [(20, True), (39, True), (40, False)])
def test_a_file_that_was_opened_after_the_next_had_come_is_not_taken_for_the_one_before(
    tmp_path: Path, position: int, is_held: bool
) -> None:
    names = LogNames(str(tmp_path), "log", 4, lambda: position)
    (tmp_path / "log").touch()
    for cookie, end in ((1, 20), (2, 40)):
        names.learn(Event(0, MOVED_FROM, cookie, "log.tmp", end - 10))
        names.learn(Event(0, MOVED_TO, cookie, "log", end))
    held = names.claim()
    assert (held is not None) is is_held
    assert names.following is None
    if held is not None:
        held.close()
    names.close()
