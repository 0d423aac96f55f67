"""Where processes come from: a mark in the environment of all programs that work for a container.

The kernel shows the environment that a program was started with, and a child inherits it unless
it is given another. A container's processes are given another, but they descend from a process
with the mark, as long as that lives.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from ocigrpc.host.processes.process import Identity, Process, stat_fields

_VARIABLE = "_OCIGRPC_BUNDLE"

# The most ancestors that are examined.
_GENERATIONS = 64


def bundle_mark(bundle: str) -> dict[str, str]:
    """The variable in the environment of programs that work for the container of a bundle."""
    return {_VARIABLE: bundle}


def comes_from(pid: int, bundle: str, known: Collection[Identity] = ()) -> bool:
    """Whether a process, or one of its ancestors, has the mark or is one of ``known``."""
    marked = f"{_VARIABLE}={bundle}".encode()
    for _ in range(_GENERATIONS):
        if pid <= 1:
            return False
        try:
            if marked in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
                return True
        except PermissionError:
            # It is hidden if the process has changed its user; its ancestors may show it.
            pass
        except OSError:
            return False
        if known and _identity(pid) in known:
            return True
        try:
            pid = int(stat_fields(f"/proc/{pid}")[1])
        except OSError:
            return False
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
    try:
        return stat_fields(f"/proc/{pid}")[0] in (b"Z", b"X")
    except OSError:
        return True
