"""Mounts that last as long as a block."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def mounted(path: Path, *options: str) -> Iterator[None]:
    """Something is mounted at a path in the block."""
    subprocess.run(["mount", *options, str(path)], check=True)
    try:
        yield
    finally:
        # The next test must not find it, even if a process of a failed one still uses it.
        if subprocess.run(["umount", str(path)], check=False).returncode:
            subprocess.run(["umount", "--lazy", str(path)], check=True)
