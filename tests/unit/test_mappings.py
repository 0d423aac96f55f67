"""Users and groups of a user namespace: which they are on the host, and where they may go."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ocigrpc.host.mappings.owners import Owners
from ocigrpc.host.mappings.searching import first_closed

OWNERS = Owners(((0, 100_000, 10),), ((0, 200_000, 10),))


@pytest.fixture
def below(tmp_path: Path) -> Path:
    """A directory that everybody comes to."""
    for each in (tmp_path, *tmp_path.parents):
        if not each.stat().st_mode & 0o1:
            each.chmod(each.stat().st_mode | 0o1)
    return tmp_path


@pytest.mark.parametrize(
    ("owner", "mode", "is_open"),
    [
        ((0, 0), 0o700, False),
        ((0, 0), 0o710, False),
        ((0, 0), 0o701, True),
        ((100_000, 0), 0o677, False),
        ((100_000, 0), 0o100, True),
        ((0, 200_000), 0o710, True),
        ((0, 200_000), 0o701, False),
        ((100_001, 0), 0o700, False),
        # Root there has power over what belongs to two of its own.
        ((100_001, 200_009), 0o700, True),
        ((100_001, 200_010), 0o700, False),
    ],
)
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
def test_a_directory_is_open_as_its_owner_and_mode_say(
    below: Path, owner: tuple[int, int], mode: int, is_open: bool
) -> None:
    (below / "a/b").mkdir(parents=True)
    os.chown(below / "a", *owner)
    (below / "a").chmod(mode)
    found = first_closed(f"{below}/a/b", OWNERS)
    assert found == ("" if is_open else f"{below}/a")
    assert first_closed(str(below), OWNERS) == ""


def test_links_are_followed(below: Path) -> None:
    (below / "closed/in").mkdir(parents=True)
    (below / "closed").chmod(0o700)
    (below / "link").symlink_to("closed/in")
    assert first_closed(f"{below}/link", OWNERS) == f"{below}/closed"
