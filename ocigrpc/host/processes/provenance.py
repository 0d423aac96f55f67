"""Where processes come from: a mark that all have which a program of ours has started.

The environment that a program was started with is the kernel's to tell, and what it starts has
the same unless it is given another. A container's processes are given another; but they, too,
descend from what has the mark, for as long as that lives.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from ocigrpc.host.processes.process import Identity, Process

_VARIABLE = "_OCIGRPC_BUNDLE"

_GENERATIONS = 64
"""Most ancestors that are looked at."""


def bundle_mark(bundle: str) -> dict[str, str]:
    """What the environment has of a program that works for the container of a bundle."""
    return {_VARIABLE: bundle}


def comes_from(pid: int, bundle: str, known: Collection[Identity] = ()) -> bool:
    """Whether a process, or one that it descends from, has the mark or is a known one."""
    marked = f"{_VARIABLE}={bundle}".encode()
    for _ in range(_GENERATIONS):
        if pid <= 1:
            return False
        try:
            if marked in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
                return True
        except PermissionError:
            # Of one that has changed who it is; its ancestors may tell.
            pass
        except OSError:
            return False
        if known and _identity(pid) in known:
            return True
        pid = _parent_of(pid)
    return False


def _identity(pid: int) -> Identity | None:
    try:
        process = Process(pid)
    except ProcessLookupError:
        return None
    process.close()
    return process.identity


def has_ended(pid: int) -> bool:
    """Whether there is no such process, or only its zombie."""
    state, *_ = _stat(pid)
    return state in (b"", b"Z", b"X")


def _parent_of(pid: int) -> int:
    """0 when it has ended."""
    _, parent, *_ = _stat(pid)
    return int(parent)


def _stat(pid: int) -> list[bytes]:
    """The state, the parent and what follows of /proc/PID/stat, see proc(5)."""
    try:
        text = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return [b"", b"0"]
    # The second field is in parentheses and may hold anything.
    return text[text.rindex(b")") + 2 :].split()
