"""What a process takes of the machine."""

from __future__ import annotations

import os
import time
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


def processor_s(pid: int) -> float:
    """The processor time of all threads of a process, ended ones too; clock_getcpuclockid(3)."""
    # Its clock's number, as the C library makes it: the scheduler's clock of the whole process.
    return time.clock_gettime((~pid << 3) | 2)
