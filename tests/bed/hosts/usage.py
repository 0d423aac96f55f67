"""What a process takes of the machine."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple


class Usage(NamedTuple):
    """What a process takes: descriptors, threads, and resident memory in KiB."""

    fds: int
    threads: int
    rss: int


def usage_of(pid: int) -> Usage:
    process = Path(f"/proc/{pid}")
    status = dict(line.split(":", 1) for line in (process / "status").read_text().splitlines())
    return Usage(
        fds=len(os.listdir(process / "fd")),
        threads=int(status["Threads"]),
        rss=int(status["VmRSS"].split()[0]),
    )
