"""How programs that the command runs end when something comes in between."""

from __future__ import annotations

import fcntl
import signal
import subprocess
import termios
from functools import partial
from pathlib import Path
from typing import IO

import pytest

from tests.bed.clients.command import Command
from tests.bed.hosts.leaks import LIMIT_S, until
from tests.bed.services.service import Service


@pytest.fixture
def command(service: Service) -> Command:
    return Command(service)


def _is_ready(process: subprocess.Popen[bytes]) -> None:
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"


def _is_hit(process: subprocess.Popen[bytes]) -> bool:
    """Send a signal, and whether the process has ended."""
    process.terminate()
    return process.poll() is not None


def _is_read(pipe: IO[bytes]) -> bool:
    """Whether the other side of a pipe has read all that it has."""
    return fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)) == bytes(4)


def test_signals_during_the_removal_do_not_keep_the_container(
    service: Service, command: Command
) -> None:
    words = ["run", "--rm", "--no-sig-proxy", "--rootfs", str(service.rootfs)]
    with command.start(*words, "sh", "-c", "echo ready; exec sleep 1000") as process:
        _is_ready(process)
        until(lambda: _is_hit(process))
    assert process.returncode == 128 + signal.SIGTERM
    assert service.ids() == []


def test_interrupt_leaves_a_container_that_is_not_started(
    service: Service, command: Command
) -> None:
    container_id = service.create(stdin=True).container_id
    with command.start("attach", container_id) as process:
        assert process.stdin is not None
        process.stdin.write(b"typed")
        process.stdin.flush()
        until(partial(_is_read, process.stdin))
        process.send_signal(signal.SIGINT)
        assert process.wait(LIMIT_S) == 128 + signal.SIGINT
    assert service.state(container_id) == "created"


@pytest.mark.parametrize("dies", [False, True])
def test_a_restart_of_the_service_does_not_end_a_run(
    service: Service, command: Command, tmp_path: Path, dies: bool
) -> None:
    words = ["run", "--rm", "-v", f"{tmp_path}:/given", "--rootfs", str(service.rootfs)]
    script = "echo ready; until [ -e /given/end ]; do echo more; sleep 0.1; done; exit 3"
    with command.start(*words, "sh", "-c", script) as process:
        _is_ready(process)
        service.die() if dies else service.end()
        service.start()
        assert process.stderr is not None
        assert b"output may be missing" in process.stderr.readline()
        (tmp_path / "end").touch()
        assert process.wait(LIMIT_S) == 3
    assert service.ids() == []


def test_what_is_not_removed_is_named(service: Service, command: Command) -> None:
    words = ["run", "--rm", "--no-sig-proxy", "--name", "web", "--rootfs", str(service.rootfs)]
    with command.start(*words, "sh", "-c", "echo ready; exec sleep 1000") as process:
        _is_ready(process)
        service.die()
        process.terminate()
        _, err = process.communicate(timeout=2 * LIMIT_S)
    service.start()
    assert b"web is not removed" in err
    assert process.returncode == 128 + signal.SIGTERM
