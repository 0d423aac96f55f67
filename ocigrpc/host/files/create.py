"""New files and directories that only their owner may use."""

from __future__ import annotations

import os
from pathlib import Path

from ocigrpc.errors import host_failing


def make_directory(path: Path) -> None:
    """Make a directory that only its owner may read; raises ``HostFailed`` with the path."""
    with host_failing("make", path):
        path.mkdir(mode=0o700)


def write_new_file(path: Path | str, content: bytes = b"") -> None:
    """Make a file that only its owner may read; raises ``HostFailed`` with the path.

    Whatever has the name already is refused, even a dangling link.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    with host_failing("make", path), open(os.open(path, flags, 0o600), "wb") as file:
        file.write(content)
