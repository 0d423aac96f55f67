"""Programs that have outlived the service which ran them, found by a mark in their environment."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Mapping, Set
from contextlib import ExitStack
from pathlib import Path

from ocigrpc.host.processes.child import ENVIRONMENT
from ocigrpc.host.processes.process import Process
from ocigrpc.log import get_logger
from ocigrpc.waiting import Deadline

log = get_logger()

_VARIABLE = "_OCIGRPC_RUNTIME_OF"


def marked(run_dir: str) -> Mapping[str, str]:
    """The environment of programs that the service of this directory runs and waits for."""
    return ENVIRONMENT | {_VARIABLE: run_dir}


def end_leftovers(run_dir: str, container_ids: Set[str], deadline: Deadline) -> None:
    """Kill the programs that outlived an earlier service of this directory.

    A program that hangs and continues later would act on whatever container has the name then.
    The last argument of each is one of ``container_ids``: the mark alone proves nothing, since
    others inherit it, such as what a hook has started. Raises ``Timeout`` or ``Cancelled``.
    """
    while True:
        with ExitStack() as held:
            found = list(_leftovers(run_dir, container_ids, held))
            for process in found:
                log.warning("leftover.killed", pid=process.pid)
                process.send_signal(signal.SIGKILL)
            for process in found:
                process.wait(deadline)
        if not found:
            return


def _leftovers(run_dir: str, container_ids: Set[str], held: ExitStack) -> Iterator[Process]:
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal() or not _is_one(entry, run_dir, container_ids):
            continue
        try:
            process = held.enter_context(Process(int(entry.name)))
        except ProcessLookupError:
            continue
        # Once more, now that it is held: the number may have been another's before.
        if _is_one(entry, run_dir, container_ids) and process.alive():
            yield process


def _is_one(entry: Path, run_dir: str, container_ids: Set[str]) -> bool:
    try:
        environment = (entry / "environ").read_bytes().split(b"\0")
        arguments = (entry / "cmdline").read_bytes().rstrip(b"\0").split(b"\0")
    except OSError:
        return False
    marked_so = f"{_VARIABLE}={run_dir}".encode() in environment
    return marked_so and arguments[-1].decode(errors="replace") in container_ids
