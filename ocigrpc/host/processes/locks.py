"""The locks of files that processes wait for; see proc_locks(5)."""

from __future__ import annotations

from contextlib import suppress

from ocigrpc.host.processes.process import read_proc

_WAITS = b"->"


def lock_holder(pid: int) -> int | None:
    """The process that has a lock which a process waits for; None if it waits for none.

    0 if that can't be known: some locks are of no process, or of one in another pid namespace.
    Raises ``OSError``.
    """
    holder = 0
    for line in read_proc("/proc/locks").splitlines():
        # Behind a lock are those that wait for it.
        _, *fields = line.split()
        if fields[0] != _WAITS:
            holder = max(int(fields[3]), 0)
        elif int(fields[4]) == pid:
            return holder
    return None


def program_name(pid: int) -> str:
    """What the kernel calls the program of a process; empty if there is none."""
    with suppress(OSError):
        return read_proc(f"/proc/{pid}/comm").decode(errors="replace").strip()
    return ""
