"""The scripts, as users start them who can't do what those need."""

from __future__ import annotations

import subprocess

import pytest

from tests.bed.hosts.leaks import LIMIT_S
from tests.bed.services.process import REPOSITORY


@pytest.mark.parametrize("name", ["bench", "demo", "fuzz", "serve", "soak", "test"])
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
