"""Searching and removing files, where the disk fails."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from ocigrpc.host.files import tree
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
