"""The scripts: what they run, and how they are refused to users who can't do what they need."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.bed import REPOSITORY
from tests.bed.hosts.leaks import LIMIT_S

_SETUP = """
set -euo pipefail
top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
root=(env)
say() { echo "say $*" >>"$top/calls"; }
want_root() { :; }
environment() { :; }
"""
_NOTE = '#!/bin/sh\necho "$(basename "$0") $*" >>"{calls}"\n'


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """The repository as ``scripts/test`` sees it, whose programs only note how they are called."""
    note = _NOTE.format(calls=tmp_path / "calls")
    for name in ("scripts/lint", "scripts/protos", ".venv/bin/python"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(note)
        path.chmod(0o755)
    (tmp_path / ".cache").mkdir()
    (tmp_path / "scripts/setup").write_text(_SETUP)
    shutil.copy(REPOSITORY / "scripts/test", tmp_path / "scripts")
    return tmp_path


def calls(tree: Path, *arguments: str) -> list[list[str]]:
    """What ``scripts/test`` calls, each without the options of pytest."""
    subprocess.run([tree / "scripts/test", *arguments], check=True, timeout=LIMIT_S)
    lines = (tree / "calls").read_text().splitlines()
    (tree / "calls").unlink()
    return [[word for word in line.split() if "--durations" not in word] for line in lines]


def test_the_tests_are_all_run_after_the_checks_and_say_how_long_they_take(tree: Path) -> None:
    announced, *called = calls(tree)
    assert "30" in announced
    assert called == [
        ["lint"],
        ["protos", "--check"],
        ["python", "-m", "tests.bed.commands.go_program", "grpcurl"],
        ["python", "-m", "pytest"],
    ]
    announced, *_ = calls(tree)
    assert "1" in announced


def test_quickly_only_one_real_life_is_run(tree: Path) -> None:
    lint, tests = calls(tree, "quick")
    assert lint == ["lint"]
    assert tests[:-1] == ["python", "-m", "pytest", "tests/unit", "tests/rpc"]
    collect = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--collect-only"]
    plain = {**os.environ, "PYTEST_ADDOPTS": ""}
    found = subprocess.check_output([*collect, tests[-1]], cwd=REPOSITORY, env=plain, text=True)
    assert found.splitlines()[0] == tests[-1]


def test_what_is_asked_for_is_run_by_itself(tree: Path) -> None:
    *_, tests = calls(tree, "-k", "quick", "tests/unit")
    assert tests == ["python", "-m", "pytest", "-k", "quick", "tests/unit"]


@pytest.mark.parametrize("name", ["bench", "demo", "fuzz", "pictures", "serve", "soak", "test"])
def test_without_root_or_sudo_a_script_says_so_at_once_and_makes_nothing(name: str) -> None:
    # Another user, who may read the same files; a sudo in there has no rights.
    ended = subprocess.run(
        ["unshare", "--user", f"scripts/{name}"],
        cwd=REPOSITORY,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert ended.returncode == 1
    assert ended.stdout == ""
    assert ended.stderr.splitlines()[-1] == (
        f"scripts/{name} has to run programs as root: run it as root, or as a user whom sudo lets"
    )
