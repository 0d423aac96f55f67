"""Where processes come from: marks in the environment of programs that the service starts.

The kernel shows the environment that a program was started with, and a child inherits it unless
it is given another. A container's processes are given another, but they descend from a process
with the mark, as long as that lives.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TypeAlias

from ocigrpc.host.processes.child import ENVIRONMENT
from ocigrpc.host.processes.process import Identity, Process, stat_fields
from ocigrpc.log import get_logger
from ocigrpc.waiting import Deadline

# Whether the arguments of a program are those of one that is meant.
IsOne: TypeAlias = Callable[[Sequence[str]], bool]

log = get_logger()

_BUNDLE = "_OCIGRPC_BUNDLE"
_RUN_DIR = "_OCIGRPC_RUNTIME_OF"

# The most ancestors that are examined.
_GENERATIONS = 64


def bundle_mark(bundle: str) -> dict[str, str]:
    """The variable in the environment of programs that work for the container of a bundle."""
    return {_BUNDLE: bundle}


def comes_from(pid: int, bundle: str, known: Collection[Identity] = ()) -> bool:
    """Whether a process, or one of its ancestors, has the mark or is one of ``known``."""
    marked = f"{_BUNDLE}={bundle}".encode()
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
    with suppress(ProcessLookupError), Process(pid) as process:
        return process.identity
    return None


def has_ended(pid: int) -> bool:
    """Whether there is no such process, or only its zombie."""
    try:
        return stat_fields(f"/proc/{pid}")[0] in (b"Z", b"X")
    except OSError:
        return True


def marked(run_dir: str) -> Mapping[str, str]:
    """The environment of programs that the service of this directory runs and waits for."""
    return ENVIRONMENT | {_RUN_DIR: run_dir}


def end_leftovers(
    run_dir: str, is_one: IsOne, deadline: Deadline, more: Mapping[str, str] | None = None
) -> None:
    """Kill the programs that outlived what the service of this directory had started.

    A program that hangs and continues later would act on whatever container has the name then.
    ``is_one`` knows those by their arguments: the mark alone proves nothing, since others inherit
    it, such as what a hook has started. ``more`` are further variables that they were started with.
    Raises ``Timeout`` or ``Cancelled``.
    """
    variables = {_RUN_DIR: run_dir, **(more or {})}
    marks = frozenset(f"{name}={value}".encode() for name, value in variables.items())
    while True:
        with ExitStack() as held:
            found = list(_leftovers(marks, is_one, held))
            for process in found:
                log.info("leftover.killed", pid=process.pid)
                process.send_signal(signal.SIGKILL)
            for process in found:
                process.wait(deadline)
        if not found:
            return


def _leftovers(marks: frozenset[bytes], is_one: IsOne, held: ExitStack) -> Iterator[Process]:
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal() or not _is_one(entry, marks, is_one):
            continue
        with suppress(ProcessLookupError):
            process = held.enter_context(Process(int(entry.name)))
            # Once more, now that it is held: the number may have been another's before.
            if _is_one(entry, marks, is_one) and process.alive():
                yield process


def _is_one(entry: Path, marks: frozenset[bytes], is_one: IsOne) -> bool:
    try:
        environment = (entry / "environ").read_bytes().split(b"\0")
        arguments = (entry / "cmdline").read_bytes().rstrip(b"\0").split(b"\0")
    except OSError:
        return False
    return marks.issubset(environment) and is_one(
        [each.decode(errors="replace") for each in arguments]
    )
