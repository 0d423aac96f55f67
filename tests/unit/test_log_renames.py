"""What the files of a log are called, by the events of their directory."""

from __future__ import annotations

from pathlib import Path

import pytest

from ocigrpc.conmon.log_renames import LogRenames
from ocigrpc.host.files.inotify import CREATE, DELETE, MOVED_FROM, MOVED_TO, OVERFLOW, Event


def renamed(before: str, after: str, cookie: int) -> list[Event]:
    return [Event(1, MOVED_FROM, cookie, before), Event(1, MOVED_TO, cookie, after)]


def reopened(cookie: int) -> list[Event]:
    return [Event(1, CREATE, 0, "log.tmp"), *renamed("log.tmp", "log", cookie)]


def apply(renames: LogRenames, events: list[Event]) -> None:
    for event in events:
        renames.apply(event)


def test_nothing_follows_until_something_does() -> None:
    renames = LogRenames("/nowhere", "log")
    apply(renames, [Event(1, CREATE, 0, "log.gz"), *renamed("log", "log.1", 7)])
    assert not renames.has_next


def test_a_new_log_follows_the_one_renamed_away() -> None:
    renames = LogRenames("/nowhere", "log")
    apply(renames, [*renamed("log", "log.2026", 1), *reopened(2)])
    assert renames.has_next
    assert renames.next_name == "log"
    renames.advance()
    assert not renames.has_next


def test_a_log_that_waits_is_found_under_its_later_names() -> None:
    renames = LogRenames("/nowhere", "log")
    apply(renames, [*renamed("log", "log.1", 1), *reopened(2)])
    apply(renames, [*renamed("log.1", "log.2", 3), *renamed("log", "log.1", 4), *reopened(5)])
    assert renames.next_name == "log.1"
    renames.advance()
    assert renames.next_name == "log"


def test_a_log_that_is_replaced_before_it_was_read_is_lost() -> None:
    renames = LogRenames("/nowhere", "log")
    apply(renames, [*reopened(1), *reopened(2)])
    assert renames.next_name is None
    renames.advance()
    assert renames.next_name == "log"


def test_a_log_that_is_deleted_before_it_was_read_is_lost() -> None:
    renames = LogRenames("/nowhere", "log")
    apply(renames, [*renamed("log", "log.1", 1), *reopened(2), *renamed("log", "log.0", 3)])
    apply(renames, [*reopened(4), Event(1, DELETE, 0, "log.0")])
    assert renames.next_name is None
    renames.advance()
    assert renames.next_name == "log"


def test_a_log_that_leaves_the_directory_before_it_was_read_is_lost() -> None:
    renames = LogRenames("/nowhere", "log")
    apply(renames, [*reopened(1), Event(1, MOVED_FROM, 2, "log"), *reopened(3)])
    assert renames.next_name is None


def test_a_log_that_is_renamed_back_is_the_same() -> None:
    renames = LogRenames("/nowhere", "log")
    apply(renames, [*renamed("log", "log.1", 1), *renamed("log.1", "log", 2)])
    assert not renames.has_next
    assert not renames.removed


def test_a_deleted_log_is_removed_until_there_is_another() -> None:
    renames = LogRenames("/nowhere", "log")
    apply(renames, [Event(1, DELETE, 0, "log.1")])
    assert not renames.removed
    apply(renames, [Event(1, DELETE, 0, "log")])
    assert renames.removed
    apply(renames, reopened(1))
    assert not renames.removed
    assert renames.next_name == "log"


def test_after_lost_events_only_the_log_itself_is_known() -> None:
    renames = LogRenames("/nowhere", "log")
    apply(renames, [*renamed("log", "log.1", 1), *reopened(2)])
    apply(renames, [Event(-1, OVERFLOW, 0, "")])
    assert renames.next_name is None
    renames.advance()
    assert renames.next_name == "log"


def test_what_is_read_already_does_not_follow() -> None:
    renames = LogRenames("/nowhere", "log")
    apply(renames, [*renamed("log", "log.1", 1), *reopened(2), *renamed("log", "log.0", 3)])
    apply(renames, reopened(4))
    renames.skip_to(lambda name: name == "log.0")
    assert renames.next_name == "log"
    renames.skip_to(lambda name: name == "log")
    assert not renames.has_next


def test_far_too_many_files_are_lost_and_not_kept() -> None:
    renames = LogRenames("/nowhere", "log")
    for cookie in range(3000):
        apply(renames, reopened(cookie))
    passed = 0
    while renames.has_next:
        last = renames.next_name
        renames.advance()
        passed += 1
    assert last == "log"
    assert passed < 1100


def test_what_somebody_else_puts_in_its_place_is_not_the_next_log() -> None:
    renames = LogRenames("/nowhere", "log")
    apply(renames, [*renamed("log", "log.1", 1), Event(1, CREATE, 0, "log")])
    assert not renames.has_next
    apply(renames, renamed("other", "log", 2))
    assert not renames.has_next
    apply(renames, reopened(3))
    assert renames.next_name == "log"


def test_only_what_is_about_the_log_wakes() -> None:
    renames = LogRenames("/nowhere", "log")
    assert not renames.apply(Event(1, CREATE, 0, "log.tmp"))
    assert renames.apply(Event(1, MOVED_FROM, 1, "log"))
    renames.apply(Event(1, MOVED_TO, 1, "other"))
    assert renames.apply(Event(1, DELETE, 0, "other"))
    assert not renames.apply(Event(1, DELETE, 0, "other"))


@pytest.mark.parametrize(("position", "is_held"), [(20, True), (39, True), (40, False)])
def test_a_file_that_was_opened_after_the_next_had_come_is_not_taken_for_the_one_before(
    tmp_path: Path, position: int, is_held: bool
) -> None:
    renames = LogRenames(str(tmp_path), "log", 4, lambda: position)
    (tmp_path / "log").touch()
    for cookie, end in ((1, 20), (2, 40)):
        renames.apply(Event(0, MOVED_FROM, cookie, "log.tmp", end - 10))
        renames.apply(Event(0, MOVED_TO, cookie, "log", end))
    held = renames.take_held()
    assert (held is not None) is is_held
    assert renames.next_name is None
    if held is not None:
        held.close()
    renames.close()
