"""The ``ocigrpc`` command as a client of a service."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.bed.hosts.leaks import LIMIT_S
from tests.bed.services.service import Service

_REPOSITORY = Path(__file__).parents[3]


def argv_of(address: str, *words: str) -> list[str]:
    """The command line of a client command for the service at an address.

    It has the default of every signal: background jobs of a shell, which tests may be, ignore two.
    """
    plain = ["env", "--default-signal"]
    return [*plain, sys.executable, "-m", "ocigrpc", "--address", address, *words]


class Command:
    """Runs the command against one service."""

    def __init__(self, service: Service) -> None:
        self.address = str(service.directory / "socket")

    def argv(self, *words: str) -> list[str]:
        """The command line of a client command."""
        return argv_of(self.address, *words)

    def __call__(self, *words: str, **environ: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end, with ``environ`` besides the plainest environment."""
        return subprocess.run(
            self.argv(*words),
            cwd=_REPOSITORY,
            env={"PATH": os.environ["PATH"], "LANG": "C.UTF-8", **environ},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )

    def start(self, *words: str, **environ: str) -> subprocess.Popen[bytes]:
        """Start a command, with pipes on its streams."""
        return subprocess.Popen(
            self.argv(*words),
            cwd=_REPOSITORY,
            env={"PATH": os.environ["PATH"], "LANG": "C.UTF-8", **environ},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def feed(self, data: bytes, *words: str) -> bytes:
        """What a command prints that reads ``data`` and succeeds."""
        with self.start(*words) as process:
            out, err = process.communicate(data, timeout=LIMIT_S)
        assert (process.returncode, err) == (0, b"")
        return out

    def lines(self, *words: str) -> list[str]:
        """What a command prints that succeeds."""
        done = self(*words)
        assert (done.returncode, done.stderr) == (0, ""), done
        return done.stdout.splitlines()

    def refusal(self, *words: str, status: int = 1) -> str:
        """The one line with which a command fails."""
        done = self(*words)
        assert done.returncode == status, done
        (line,) = done.stderr.splitlines()
        assert line.startswith("ocigrpc: ")
        return line
