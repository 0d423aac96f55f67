"""Processes that are nobody's container, and that must outlive every test."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def stranger() -> Iterator[int]:
    """The pid of a process to which no signal may go in the block."""
    with subprocess.Popen(["sleep", "1000"]) as process:
        try:
            yield process.pid
            assert process.poll() is None
        finally:
            process.kill()
