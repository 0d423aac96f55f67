"""Searching and removing files, where the disk fails."""

from __future__ import annotations

import errno
import os
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from ocigrpc.host.files import tree, walk
from ocigrpc.host.files.statx import Statx, statx


def test_no_descriptor_stays_open_when_a_directory_cannot_be_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(name: str, directory: int) -> Statx:
        if os.readlink(f"/proc/self/fd/{directory}") == str(tmp_path / "a"):
            raise OSError(errno.EIO, os.strerror(errno.EIO), name)
        return statx(name, directory)

    (tmp_path / "a/b").mkdir(parents=True)
    monkeypatch.setattr(tree, "statx", fail)
    before = os.listdir("/proc/self/fd")
    with pytest.raises(OSError, match="Input/output error"):
        tree.mounts_at(str(tmp_path), str(tmp_path / "a/b"))
    assert os.listdir("/proc/self/fd") == before


def make_deep(path: Path, name: str, levels: int, files: int = 1) -> None:
    """Directories in each other, with files in each."""
    fd = os.open(path, os.O_RDONLY)
    for _ in range(levels):
        os.mkdir(name, dir_fd=fd)
        for number in range(files):
            os.close(os.open(f"f{number or ''}", os.O_CREAT | os.O_WRONLY, 0o600, dir_fd=fd))
        below = os.open(name, os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(fd)


@pytest.mark.parametrize("can_rename", [True, False])
def test_a_tree_deeper_than_the_limit_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, can_rename: bool
) -> None:
    (tmp_path / "top").mkdir()
    make_deep(tmp_path / "top", "d", 60)
    make_deep(tmp_path / "top/d/d/d", "e", 60)
    monkeypatch.setattr(walk, "LEVELS_LIMIT", 7)
    if not can_rename:
        # As between projects of a quota.
        monkeypatch.setattr(os, "rename", failing(errno.EXDEV))
    before = os.listdir("/proc/self/fd")
    assert tree.mounts_at(str(tmp_path), str(tmp_path / "top")) == []
    tree.remove_tree(str(tmp_path), str(tmp_path / "top"))
    assert os.listdir(tmp_path) == []
    assert os.listdir("/proc/self/fd") == before


def test_how_deep_a_tree_is_decides_not_how_much_memory_its_removal_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "top").mkdir()
    make_deep(tmp_path / "top", "d" * 250, 1000, files=0)
    monkeypatch.setattr(walk, "LEVELS_LIMIT", 100)
    tracemalloc.start()
    try:
        tree.remove_tree(str(tmp_path), str(tmp_path / "top"))
        assert tracemalloc.get_traced_memory()[1] < 200_000
    finally:
        tracemalloc.stop()
    assert os.listdir(tmp_path) == []


def test_the_path_of_a_failure_is_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_deep(tmp_path, "d" * 250, 100)
    with monkeypatch.context() as changed:
        changed.setattr(os, "unlink", failing(errno.EIO))
        with pytest.raises(OSError, match="Input/output error") as failed:
            tree.remove_tree(str(tmp_path), str(tmp_path / ("d" * 250)))
    assert len(failed.value.filename) <= 4096 + len("...")
    assert failed.value.filename.startswith(f"{tmp_path}/{'d' * 250}/{'d' * 250}/")
    tree.remove_tree(str(tmp_path), str(tmp_path / ("d" * 250)))


def failing(number: int) -> Callable[..., None]:
    def fail(*arguments: object, **named: object) -> None:
        raise OSError(number, os.strerror(number))

    return fail


def test_a_tree_of_any_depth_is_removed(tmp_path: Path) -> None:
    make_deep(tmp_path, "d", 5000)
    before = os.listdir("/proc/self/fd")
    tree.remove_tree(str(tmp_path), str(tmp_path / "d"))
    assert os.listdir(tmp_path) == ["f"]
    assert os.listdir("/proc/self/fd") == before


def test_each_entry_of_a_wide_directory_is_found_once_and_removed(tmp_path: Path) -> None:
    for number in range(400):
        (tmp_path / f"top/{number}/below").mkdir(parents=True)
    found = [entry.name for entry in tree.entries(str(tmp_path / "top"))]
    assert sorted(found) == sorted([*map(str, range(400)), *["below"] * 400, "top"])
    tree.remove_tree(str(tmp_path), str(tmp_path / "top"))
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("at", [".", "a/b"])
def test_few_names_of_a_large_directory_are_held_at_a_time(tmp_path: Path, at: str) -> None:
    large = tmp_path / "top" / at
    large.mkdir(parents=True)
    for number in range(2000):
        (large / f"{number:0200}").touch()
    tracemalloc.start()
    try:
        tree.remove_tree(str(tmp_path), str(tmp_path / "top"))
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()
    assert os.listdir(tmp_path) == []


def test_as_much_as_possible_is_removed_and_the_first_failure_is_raised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(name: str, directory: int) -> Statx:
        if name == "broken":
            raise OSError(errno.EIO, os.strerror(errno.EIO), name)
        return statx(name, directory)

    for each in ("a/broken/x", "a/b/c", "d"):
        (tmp_path / "top" / each).mkdir(parents=True)
    monkeypatch.setattr(tree, "_find", lambda *arguments: None)
    monkeypatch.setattr(walk, "statx", fail)
    with pytest.raises(OSError, match="Input/output error") as failed:
        tree.remove_tree(str(tmp_path), str(tmp_path / "top"))
    assert failed.value.filename == str(tmp_path / "top/a/broken")
    assert [str(each.relative_to(tmp_path)) for each in sorted(tmp_path.rglob("*"))] == [
        "top",
        "top/a",
        "top/a/broken",
        "top/a/broken/x",
    ]
