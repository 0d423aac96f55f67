"""What trees of files take."""

from __future__ import annotations

import errno
import os
import subprocess
from pathlib import Path

import pytest

from ocigrpc.host.files import walk
from ocigrpc.host.files.usage import Usage, usage_of


def usage(path: Path) -> Usage:
    return usage_of(str(path), lambda: None)


def test_it_is_what_du_says(tmp_path: Path) -> None:
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "a/file").write_bytes(b"x" * 100_000)
    with open(tmp_path / "a/holes", "wb") as holes:
        holes.truncate(1 << 30)
    (tmp_path / "a/link").symlink_to("/usr")
    os.mkfifo(tmp_path / "a/b/fifo")
    counted = {
        option: int(
            subprocess.check_output(["du", "-s", *option.split(), tmp_path / "a"]).split()[0]
        )
        for option in ("--block-size=1", "--inodes")
    }
    assert usage(tmp_path / "a") == tuple(counted.values())


def test_a_file_with_several_names_counts_once(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a/file").write_bytes(b"x" * 100_000)
    before = usage(tmp_path / "a")
    os.link(tmp_path / "a/file", tmp_path / "a/other")
    assert usage(tmp_path / "a") == before


def test_of_a_tree_deeper_than_the_limit_it_is_not_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(walk, "LEVELS_LIMIT", 4)
    (tmp_path / "a/b/c").mkdir(parents=True)
    assert usage(tmp_path).inodes == 4
    (tmp_path / "a/b/c/d").mkdir()
    before = os.listdir("/proc/self/fd")
    with pytest.raises(OSError, match="deeper") as caught:
        usage(tmp_path)
    assert caught.value.errno == errno.ENAMETOOLONG
    assert os.listdir("/proc/self/fd") == before


def test_it_pauses_and_can_be_ended(tmp_path: Path) -> None:
    for number in range(1100):
        (tmp_path / str(number)).touch()
    pauses = list[int]()
    assert usage_of(str(tmp_path), lambda: pauses.append(1)).inodes == 1101
    assert len(pauses) == 2

    def end() -> None:
        raise TimeoutError

    before = os.listdir("/proc/self/fd")
    with pytest.raises(TimeoutError):
        usage_of(str(tmp_path), end)
    assert os.listdir("/proc/self/fd") == before


def test_what_is_not_there_is_no_usage(tmp_path: Path) -> None:
    assert usage(tmp_path / "no") == (0, 0)
