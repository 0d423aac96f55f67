"""What a service and its containers have left behind on a host."""

from __future__ import annotations

import errno
import fnmatch
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from ocigrpc.host.cgroups.hierarchy import Hierarchies
from ocigrpc.waiting import Deadline
from tests.bed.hosts.host import Host

# Longest that a test waits for what comes at once, but for hosts that are slow by design.
LIMIT_S = 20.0 * float(os.environ.get("TEST_PATIENCE", "1"))

_PAUSE_S = 0.005


def until(condition: Callable[[], bool], limit_s: float = LIMIT_S) -> float:
    """Wait for what the kernel sends no event for; how long it took, in seconds."""
    began_s = time.monotonic()
    deadline = Deadline(limit_s)
    while not condition():
        deadline.wait(timeout_s=_PAUSE_S)
    return time.monotonic() - began_s


def children(pid: int) -> Iterator[str]:
    """The process ids of the children of a process; none when it is gone."""
    for task in Path("/proc").glob(f"{pid}/task/*/children"):
        # Threads may end meanwhile.
        with suppress(FileNotFoundError, ProcessLookupError):
            yield from task.read_text().split()


def suspend(pid: int) -> None:
    """Stop a process by SIGSTOP, and wait until none of its threads runs any more."""
    os.kill(pid, signal.SIGSTOP)

    def states() -> set[bytes]:
        stats = (path.read_bytes() for path in Path(f"/proc/{pid}/task").glob("*/stat"))
        return {stat.rpartition(b")")[2].split()[0] for stat in stats}

    until(lambda: states() <= {b"T"})


def below(group: Path, pattern: str) -> list[Path]:
    """What is below a cgroup by a name like ``pattern``: groups and their files."""
    # Unlike rglob, a walk goes on when groups go meanwhile.
    return [
        Path(directory, name)
        for directory, groups, files in os.walk(group)
        for name in fnmatch.filter([*groups, *files], pattern)
    ]


def pids_in(group: Path) -> list[int]:
    """The processes in a cgroup, none in one that is gone, or goes while it is read."""
    try:
        return [int(pid) for pid in (group / "cgroup.procs").read_text().split()]
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENODEV):
            raise
        return []


def mounts_below(*directories: str) -> Iterator[str]:
    """Mounts whose lines name one of the directories, in any mount namespace."""
    seen = set()
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            namespace = (entry / "ns/mnt").readlink()
            if namespace in seen:
                continue
            seen.add(namespace)
            lines = (entry / "mountinfo").read_text().splitlines()
        except OSError:
            continue
        for line in lines:
            if any(directory in line for directory in directories):
                yield f"mount {line}"


class Leaks:
    """The traces of the service whose files are in ``directory`` and groups below ``parent``.

    ``parent`` is the last part of its cgroup parent, a name that is used only here; ``state`` is
    where its run directory and the roots of runtimes are.
    """

    def __init__(self, host: Host, directory: Path, parent: str, state: Path) -> None:
        self._host = host
        self._directory = directory
        self._state = state
        self._parent = parent

    def all(self) -> list[str]:
        """All traces but the service's own process, empty directories and store."""
        return [*self.processes(), *self.groups(), *self.mounts(), *self.files()]

    def purge(self) -> None:
        """Kill what a failed test has left, on any host: they share the real one's groups."""
        group = Hierarchies.detect().group(f"/{self._parent}")
        group.kill(Deadline(LIMIT_S))
        group.remove(Deadline(LIMIT_S))

    def processes(self) -> Iterator[str]:
        """Those of the containers and of the service's children, as the real host sees them."""
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                argv = (entry / "cmdline").read_bytes().split(b"\0")
                groups = (entry / "cgroup").read_text()
                stands = str((entry / "cwd").readlink())
            except OSError:
                continue
            if argv == [b""]:
                # A zombie: whether it is reaped is its parent's affair, often init's.
                continue
            group = next((line for line in groups.splitlines() if self._parent in line), "")
            line = f"{b' '.join(argv).decode(errors='replace')} in {stands} of {group}"
            ours = group or self._is_below(line)
            if ours and not (b"-m" in argv and b"serve" in argv):
                yield f"process {entry.name}: {line}"

    def groups(self) -> Iterator[str]:
        for parent in self.parents():
            yield from (str(each) for each in below(parent, "*") if each.is_dir())

    def parents(self) -> Iterator[Path]:
        """The parent itself, which may be there as long as the service is."""
        for root in self._host.cgroup_roots:
            yield from below(root, self._parent)

    def mounts(self) -> Iterator[str]:
        return mounts_below(str(self._directory), str(self._state))

    def files(self) -> Iterator[str]:
        """What was made for containers, and a runtime's notes of them."""
        for name in ("run/containers", "run/exits", "run/sockets", "log", "runc", "crun"):
            directory = (self._directory if name == "log" else self._state) / name
            if directory.is_dir():
                # Newer versions of crun keep there what they have compiled, for all containers.
                ours = (path for path in directory.iterdir() if path.name != ".cache")
                yield from map(str, ours)

    def _is_below(self, line: str) -> bool:
        return str(self._directory) in line or str(self._state) in line
