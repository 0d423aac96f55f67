"""What a process is and uses, as the kernel shows it in /proc; see proc(5)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from msgspec import Struct

_COMMAND_LIMIT_BYTES = 4096

_TICK_NS = 1_000_000_000 // os.sysconf("SC_CLK_TCK")


class ProcessUsage(Struct, frozen=True):
    """One process. ``container_pid`` is its id in its own pid namespace."""

    pid: int
    container_pid: int
    parent_pid: int
    uid: int
    cpu_ns: int
    rss_bytes: int
    command: tuple[str, ...]


def process_usage(pid: int) -> ProcessUsage | None:
    """The process that has this id now; None when there is none."""
    directory = Path(f"/proc/{pid}")
    try:
        stat = (directory / "stat").read_bytes()
        status = (directory / "status").read_bytes()
        # A program may have any part of its memory taken for its arguments.
        with (directory / "cmdline").open("rb") as file:
            command = file.read(_COMMAND_LIMIT_BYTES)
    except OSError:
        return None
    # The second field is in parentheses and may hold anything.
    name, _, rest = stat.partition(b"(")[2].rpartition(b")")
    fields = rest.split()
    lines = dict(line.partition(b":")[::2] for line in status.split(b"\n"))
    # A program may write over its arguments, and then anything is there.
    text = command.removesuffix(b"\0").decode(errors="replace")
    return ProcessUsage(
        pid=pid,
        container_pid=int(lines[b"NSpid"].split()[-1]),
        parent_pid=int(fields[1]),
        uid=int(lines[b"Uid"].split()[1]),
        cpu_ns=(int(fields[11]) + int(fields[12])) * _TICK_NS,
        # A zombie has no memory.
        rss_bytes=int(lines.get(b"VmRSS", b"0 kB").split()[0]) << 10,
        command=tuple(text.split("\0")) if text else (f"[{name.decode(errors='replace')}]",),
    )


def uid_ranges(pid: int) -> Iterator[tuple[int, int, int]]:
    """The uids of a process's user namespace: the first there, the first here, how many.

    See user_namespaces(7). Raises ``OSError``.
    """
    return _ranges(pid, "uid_map")


def gid_ranges(pid: int) -> Iterator[tuple[int, int, int]]:
    """The same of its gids."""
    return _ranges(pid, "gid_map")


def _ranges(pid: int, kind: str) -> Iterator[tuple[int, int, int]]:
    if os.path.samefile(f"/proc/{pid}/ns/user", "/proc/self/ns/user"):
        # Here the kernel shows numbers of the namespace above.
        yield 0, 0, 1 << 32
        return
    for line in Path(f"/proc/{pid}/{kind}").read_text().splitlines():
        first, here, count = map(int, line.split())
        yield first, here, count
