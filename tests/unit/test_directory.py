"""Directories that one process has for itself."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ocigrpc.errors import HostFailed
from ocigrpc.host.files.directory import locked

_HOLD = (
    "import sys\n"
    "from ocigrpc.host.files.directory import locked\n"
    "with locked(sys.argv[1]):\n"
    "    print(flush=True)\n"
    "    sys.stdin.read()\n"
)


def test_a_directory_is_locked_for_as_long_as_the_block_lasts(tmp_path: Path) -> None:
    with locked(str(tmp_path)):
        with pytest.raises(HostFailed) as caught, locked(str(tmp_path)):
            pass
        assert caught.value.reason == "DIRECTORY_IN_USE"
        assert caught.value.metadata["path"] == str(tmp_path)
    with locked(str(tmp_path)):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_lock_ends_with_its_process_however_that_ends(tmp_path: Path) -> None:
    argv = [sys.executable, "-c", _HOLD, str(tmp_path)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"\n"
        with pytest.raises(HostFailed) as caught, locked(str(tmp_path)):
            pass
        assert caught.value.metadata.get("pid", str(holder.pid)) == str(holder.pid)
        holder.kill()
    with locked(str(tmp_path)):
        pass


def test_a_lock_is_not_inherited(tmp_path: Path) -> None:
    with locked(str(tmp_path)):
        child = subprocess.Popen(["sleep", "1000"], close_fds=False)
    try:
        with locked(str(tmp_path)):
            pass
    finally:
        child.kill()
        child.wait()


@pytest.mark.parametrize("name", ["missing", "file", "link"])
def test_what_is_no_directory_is_not_locked(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").touch()
    os.symlink("/tmp", tmp_path / "link")
    with pytest.raises(HostFailed) as caught, locked(str(tmp_path / name)):
        pass
    assert caught.value.metadata["path"] == str(tmp_path / name)
