"""Where the programs of the host are found."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ocigrpc.host.processes.programs import find_program


def make_program(directory: Path, mode: int = 0o755) -> str:
    directory.mkdir(exist_ok=True)
    path = directory / "a-program"
    path.touch()
    path.chmod(mode)
    return str(path)


def test_the_first_of_path_is_found_as_soon_as_it_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    monkeypatch.setenv("PATH", f"relative::{first}:{first}:{second}")
    assert find_program("a-program") is None
    later = make_program(second)
    assert find_program("a-program") == later
    sooner = make_program(first)
    assert find_program("a-program") == sooner
    os.unlink(sooner)
    assert find_program("a-program") == later


def test_directories_of_system_programs_need_not_be_on_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in (str(tmp_path), ""):
        monkeypatch.setenv("PATH", path)
        assert find_program("sh") in ("/usr/bin/sh", "/bin/sh")
    monkeypatch.delenv("PATH")
    assert find_program("sh") in ("/usr/bin/sh", "/bin/sh")


def test_what_can_not_be_executed_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    path = make_program(tmp_path, 0o644)
    (tmp_path / "a-directory").mkdir()
    for each in ("a-program", path, "a-directory", str(tmp_path / "a-directory"), ""):
        assert find_program(each) is None
    os.chmod(path, 0o755)
    for each in ("a-program", path):
        assert find_program(each) == path
    assert find_program("./a-program") == "./a-program"
