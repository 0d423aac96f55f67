"""OCI runtimes that outlive SIGKILL, as one does that the kernel waits with for a disk."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.bed.clients.refusal import refused
from tests.bed.faults.runtimes import Switches
from tests.bed.hosts.host import native
from tests.bed.hosts.leaks import LIMIT_S, children, until
from tests.bed.services.service import Service
from tests.real.conftest import serving, used
from tests.real.test_hanging_runtimes import (
    ONE,
    REASONS,
    begin_hastily,
    expect_well,
    live_beside,
    prepare,
)

HANGS_IN_TWO_THREADS = f"""exec {sys.executable} -c "
import threading, time
threading.Thread(target=time.sleep, args=(1000,)).start()
open('$begun', 'w').write('begun')
time.sleep(1000)"
"""
VERB_TIMEOUT_S = 5.0

_PTRACE_SEIZE = 0x4206
_WALL = 0x40000000


@pytest.fixture(scope="module")
def _service(switches: Switches, rootfs: Path) -> Iterator[Service]:
    path = str(switches.path)
    runtimes: dict[str, dict[str, object]] = {
        "switched": {"path": path},
        "hasty": {"path": path, "create_timeout_s": VERB_TIMEOUT_S},
    }
    with (
        native() as host,
        serving(host, rootfs, runtimes=runtimes, timeouts_verb_s=VERB_TIMEOUT_S) as service,
    ):
        yield service


@pytest.fixture
def service(_service: Service) -> Iterator[Service]:
    with used(_service):
        yield _service


@contextmanager
def undying(pid: int) -> Iterator[None]:
    """A process of two threads can't end in the block, not even by SIGKILL.

    ptrace(2): a thread that is traced is there until its tracer has waited for it, and the
    process as long as one of its threads.
    """
    (thread,) = {int(task) for task in os.listdir(f"/proc/{pid}/task")} - {pid}
    if ctypes.CDLL(None, use_errno=True).ptrace(_PTRACE_SEIZE, thread, None, None):
        raise OSError(ctypes.get_errno(), "ptrace")
    try:
        yield
    finally:
        os.waitpid(thread, _WALL)


@pytest.mark.parametrize("verb", ["start", "pause", "exec", "update", "delete"])
def test_a_call_does_not_wait_for_a_runtime_that_outlives_sigkill(
    service: Service, switches: Switches, verb: str
) -> None:
    prepare(service, verb)
    with switches.on(verb, HANGS_IN_TWO_THREADS):
        call = begin_hastily(service, verb)
        switches.wait()
        (pid,) = map(int, children(service.pid))
        with undying(pid):
            with refused("DEADLINE_EXCEEDED", REASONS.get(verb, "RUNTIME_TIMEOUT")):
                call.result()
            assert pid in map(int, children(service.pid))
            logged = [each for each in service.events() if each["event"] == "child.outlives_kill"]
            assert logged[-1]["pid"] == pid
            assert service.status(ONE).container_id == ONE
            live_beside(service)
        until(lambda: list(children(service.pid)) == [], LIMIT_S)
    expect_well(service)
