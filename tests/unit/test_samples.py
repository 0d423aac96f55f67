"""What ``scripts/soak`` makes of the samples that it takes."""

from __future__ import annotations

import pytest

from tests.bed.commands.samples import Sample
from tests.bed.commands.soak import too_much

FIRST = Sample(fds=20, threads=20, rss=60_000, zombies=0, cgroups=0, mounts=0, files=0)


@pytest.mark.parametrize("what", ["zombies", "cgroups", "mounts", "files"])
@pytest.mark.parametrize("when", [0, 1, 2])
def test_whatever_is_left_at_any_time_is_too_much(what: str, when: int) -> None:
    taken = [("before", FIRST), ("first", FIRST), ("last", FIRST)]
    taken[when] = ("then", FIRST._replace(**{what: 1}))
    assert too_much(taken) == [f"{what} then"]


@pytest.mark.parametrize(("what", "most"), [("fds", 22), ("threads", 22), ("rss", 66_000)])
def test_a_tenth_more_than_after_the_first_lives_is_the_most(what: str, most: int) -> None:
    last = FIRST._replace(**{what: most})
    assert too_much([("before", FIRST), ("first", FIRST), ("last", last)]) == []
    last = FIRST._replace(**{what: most + 1})
    assert too_much([("before", FIRST), ("first", FIRST), ("last", last)]) == [f"{what} last"]


def test_how_much_the_service_grows_in_the_first_lives_does_not_count() -> None:
    before = FIRST._replace(fds=1, threads=1, rss=1)
    assert too_much([("before", before), ("first", FIRST)]) == []
    assert too_much([("before", before), ("first", FIRST), ("last", FIRST)]) == []
