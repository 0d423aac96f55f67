"""What the service writes for itself: for nobody else, and over nobody else's."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from ocigrpc.errors import HostFailed
from ocigrpc.host.files.directory import make_directory, write_new_file


def test_only_the_owner_may_use_what_is_made(tmp_path: Path) -> None:
    umask = os.umask(0)
    try:
        make_directory(tmp_path / "made")
        write_new_file(tmp_path / "made/file", b"text")
    finally:
        os.umask(umask)
    assert stat.S_IMODE((tmp_path / "made").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "made/file").stat().st_mode) == 0o600
    assert (tmp_path / "made/file").read_bytes() == b"text"


@pytest.mark.parametrize("target", ["there", "nowhere"])
def test_a_link_in_its_place_is_not_followed(tmp_path: Path, target: str) -> None:
    (tmp_path / "there").write_text("theirs")
    (tmp_path / "file").symlink_to(target)
    with pytest.raises(HostFailed) as caught:
        write_new_file(tmp_path / "file", b"ours")
    assert caught.value.metadata["path"] == str(tmp_path / "file")
    assert (tmp_path / "there").read_text() == "theirs"
    assert not (tmp_path / "nowhere").exists()


def test_what_is_there_already_is_not_written_to(tmp_path: Path) -> None:
    write_new_file(tmp_path / "file", b"first")
    with pytest.raises(HostFailed):
        write_new_file(tmp_path / "file", b"second")
    with pytest.raises(HostFailed):
        make_directory(tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == b"first"
