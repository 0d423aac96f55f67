"""A terminal is right from its birth, whatever its program does first, and however soon."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from ocigrpc.errors import OcigrpcError
from ocigrpc.v1 import exec_pb2
from ocigrpc.v1.terminal_pb2 import TerminalSize
from tests.bed.clients.error_info import error_details
from tests.bed.clients.exec import Talk, exec_groups, exec_sync, nothing_made_is_left, process
from tests.bed.clients.logs import joined, lines
from tests.bed.hosts.leaks import LIMIT_S, until
from tests.bed.services.service import Service
from tests.real.conftest import StartService

RUNS = 120
SIZE = TerminalSize(rows=33, columns=44)


@contextmanager
def busy_host() -> Iterator[None]:
    """A host whose CPUs all have something else to do."""
    busy = [
        subprocess.Popen([sys.executable, "-c", "while True: pass"])
        for _ in range(2 * (os.cpu_count() or 1))
    ]
    try:
        yield
    finally:
        for each in busy:
            each.kill()
            each.wait()


def printed(service: Service, container_id: str, script: str) -> tuple[bytes, int]:
    talk = Talk(service, container_id, script, terminal=True, terminal_size=SIZE)
    talk.read_all()
    assert talk.exit is not None
    return talk.stdout, talk.exit.exit_code


def test_a_terminal_writes_its_first_line_as_terminals_do(any_service: Service) -> None:
    container_id = any_service.run()
    with busy_host(), ThreadPoolExecutor(4) as pool:
        ran = pool.map(lambda _: printed(any_service, container_id, "echo hi; exit 7"), range(RUNS))
        assert Counter(ran) == {(b"hi\r\n", 7): RUNS}
    assert until(lambda: nothing_made_is_left(any_service, container_id)) < 5


def test_a_terminal_has_its_size_when_the_program_begins(service: Service) -> None:
    container_id = service.run()
    with busy_host(), ThreadPoolExecutor(4) as pool:
        ran = pool.map(lambda _: printed(service, container_id, "stty size"), range(RUNS))
        assert Counter(ran) == {(b"33 44\r\n", 0): RUNS}


def test_a_containers_own_terminal_writes_its_lines_so(any_service: Service) -> None:
    for _ in range(20):
        container_id = any_service.run("echo 33; echo hi", terminal=True)
        any_service.wait(container_id)
        # conmon writes what it reads, which may be a part of a line.
        assert joined(lines(any_service, container_id)) == b"33\r\nhi\r\n"
        any_service.remove(container_id)


def test_a_program_that_wants_its_bytes_unchanged_gets_that(any_service: Service) -> None:
    written, _ = printed(any_service, any_service.run(), "stty -opost; printf 'a\\nb\\n'")
    assert written == b"a\nb\n"


def test_a_terminal_is_the_programs_own(any_service: Service) -> None:
    written, _ = printed(
        any_service,
        any_service.run(),
        "[ -t 0 ] && [ -t 1 ] && [ -t 2 ] && echo yes >/dev/tty; tty; "
        "cut -d' ' -f6-8 /proc/$$/stat",
    )
    yes, name, ids = written.split(b"\r\n")[:3]
    session, terminal, foreground = ids.split()
    assert yes == b"yes"
    assert name.startswith(b"/dev/pts/")
    assert int(terminal) > 0
    assert session == foreground


def test_an_interrupt_is_typed(any_service: Service) -> None:
    script = "trap 'echo caught; exit 5' INT; echo up; while :; do sleep 0.05; done"
    talk = Talk(any_service, any_service.run(), script, terminal=True, stdin=True)
    talk.read(lambda: b"up" in talk.stdout)
    talk.type(b"\x03")
    talk.read_all()
    assert b"caught\r\n" in talk.stdout
    assert talk.exit is not None
    assert talk.exit.exit_code == 5


def test_input_that_comes_before_the_terminal_waits_for_it(any_service: Service) -> None:
    talk = Talk(
        any_service,
        any_service.run(),
        "stty -echo; read line; echo got $line; stty size",
        terminal=True,
        stdin=True,
    )
    talk.resize(10, 20)
    talk.type(b"early\n")
    talk.read_all()
    assert talk.stdout.endswith(b"got early\r\n10 20\r\n")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGUSR1])
def test_the_end_by_a_signal_is_told(any_service: Service, number: int) -> None:
    written, code = printed(any_service, any_service.run(), f"kill -{int(number)} $$")
    assert (written, code) == (b"", 128 + number)


def test_a_program_that_is_not_there_is_told(any_service: Service) -> None:
    container_id = any_service.run()
    start = exec_pb2.ExecStart(
        container_id=container_id, process=process("/not/there"), terminal=True
    )
    with pytest.raises(OcigrpcError) as caught:
        list(any_service.client.exec([exec_pb2.ExecRequest(start=start)], timeout_s=LIMIT_S))
    info, _ = error_details(caught.value)
    assert "/not/there" in info.metadata["output"]
    assert nothing_made_is_left(any_service, container_id)


def test_a_terminal_that_is_kept_outlives_the_service(start_service: StartService) -> None:
    service = start_service()
    container_id = service.run()
    # Hung up, its program would end.
    go = "/tmp/go"
    script = f"echo up; while [ ! -e {go} ]; do sleep 0.05; done; touch {go}ne"
    talk = Talk(service, container_id, script, terminal=True, keep_running=True)
    talk.read(lambda: b"up" in talk.stdout)
    service.die()
    service.start()
    assert len(exec_groups(service)) > 0
    exec_sync(service, container_id, process("touch", go))
    until(lambda: exec_sync(service, container_id, process("ls", f"{go}ne")).exit.exit_code == 0)
