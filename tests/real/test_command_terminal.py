"""The command at a terminal, which is as before however the command ends."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.bed.clients.command import Command
from tests.bed.clients.terminal import Terminal, on_terminal
from tests.bed.hosts.leaks import until
from tests.bed.services.service import Service

_DETACH = "\x10\x11"


@pytest.fixture
def command(service: Service) -> Command:
    return Command(service)


@contextmanager
def _at_a_terminal(command: Command, *words: str) -> Iterator[Terminal]:
    with on_terminal(command.argv(*words), rows=33, columns=99) as terminal:
        yield terminal


@contextmanager
def running(
    service: Service, command: Command, *options: str, script: str = "exec sh"
) -> Iterator[Terminal]:
    """A run of a shell at a terminal, that has written "ready"."""
    words = ["run", "-it", "--name", "web", *options, "--rootfs", str(service.rootfs)]
    with _at_a_terminal(command, *words, "sh", "-c", f"echo ready; {script}") as terminal:
        terminal.read_until("ready\r\n")
        yield terminal


def test_keys_reach_the_program_as_they_are(service: Service, command: Command) -> None:
    script = "trap 'echo interrupted' INT; while :; do sleep 0.1; done"
    with running(service, command, "--rm", script=script) as terminal:
        assert terminal.is_raw()
        terminal.type("\x03")
        terminal.read_until("interrupted\r\n")
        service.kill("web")
        assert terminal.wait() == 128 + signal.SIGKILL
        assert terminal.modes_now() == terminal.modes
    assert service.ids() == []


def test_the_exit_code_of_a_shell(service: Service, command: Command) -> None:
    with running(service, command, "--rm") as terminal:
        terminal.type("exit 3\r")
        assert terminal.wait() == 3
        assert terminal.modes_now() == terminal.modes


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT])
def test_a_signal_ends_the_command_alone(service: Service, command: Command, number: int) -> None:
    with running(service, command) as terminal:
        terminal.process.send_signal(number)
        assert terminal.wait() == 128 + number
        assert terminal.modes_now() == terminal.modes
    assert service.state("web") == "running"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_command_even_if_nobody_reads_the_terminal(
    service: Service, command: Command, number: int
) -> None:
    with running(service, command, "--rm", script="yes") as terminal:
        until(terminal.is_full)
        terminal.process.send_signal(number)
        assert terminal.wait() == 128 + number
        assert terminal.modes_now() == terminal.modes
    assert service.ids() == []


def test_a_failure_of_the_service_leaves_the_terminal_as_it_was(
    service: Service, command: Command
) -> None:
    with running(service, command) as terminal:
        service.die()
        assert terminal.wait() == 125
        assert terminal.modes_now() == terminal.modes
    service.start()
    assert service.state("web") == "running"


def test_a_program_that_is_not_there_leaves_the_terminal_as_it_was(
    service: Service, command: Command
) -> None:
    words = ["run", "-it", "--rm", "--rootfs", str(service.rootfs), "/missing"]
    with _at_a_terminal(command, *words) as terminal:
        assert terminal.wait() == 127
        assert terminal.modes_now() == terminal.modes


@pytest.mark.parametrize(
    "words",
    [
        ["exec", "web", "missing"],
        ["exec", "-it", "web", "missing"],
        ["run", "--rm", "--rootfs", "", "missing"],
        ["run", "-it", "--rm", "--rootfs", "", "missing"],
    ],
)
def test_a_program_that_is_not_there_is_one_line(
    service: Service, command: Command, words: list[str]
) -> None:
    service.run(name="web")
    with _at_a_terminal(command, *(word or str(service.rootfs) for word in words)) as terminal:
        (line,) = terminal.read_all().splitlines()
        assert line.startswith("ocigrpc: ")
        assert "missing" in line


def test_the_detach_keys_leave_the_container_running(service: Service, command: Command) -> None:
    with running(service, command, "--rm") as terminal:
        terminal.type(_DETACH)
        assert terminal.wait() == 0
        terminal.read_until("not removed")
        assert terminal.modes_now() == terminal.modes
    assert service.state("web") == "running"


def test_a_container_is_attached_to_again(service: Service, command: Command) -> None:
    with running(service, command) as terminal:
        terminal.type(_DETACH)
        assert terminal.wait() == 0
    with _at_a_terminal(command, "attach", "--detach-keys", "ctrl-x,q", "web") as terminal:
        until(terminal.is_raw)
        terminal.type("stty size; echo $((6 * 7))\r")
        terminal.read_until("33 99\r\n42\r\n")
        terminal.type("\x18q")
        assert terminal.wait() == 0
    with _at_a_terminal(command, "attach", "web") as terminal:
        until(terminal.is_raw)
        terminal.type("exit 5\r")
        assert terminal.wait() == 5
        assert terminal.modes_now() == terminal.modes


def test_the_beginning_of_the_detach_keys_is_for_the_program(
    service: Service, command: Command
) -> None:
    with running(service, command, script="stty raw -echo; echo; exec od -c -N 2") as terminal:
        terminal.read_until("\n")
        terminal.type("\x10x")
        terminal.read_until("020   x")
        assert terminal.wait() == 0


def test_the_size_of_the_window_is_that_of_the_terminal(service: Service, command: Command) -> None:
    script = "trap 'stty size' WINCH; stty size; while :; do sleep 0.1; done"
    with running(service, command, script=script) as terminal:
        terminal.read_until("33 99\r\n")
        terminal.resize(44, 111)
        terminal.read_until("44 111\r\n")


def test_exec_at_a_terminal(service: Service, command: Command) -> None:
    service.run(name="web")
    script = "trap 'stty size; exit 6' WINCH; stty size; while :; do sleep 0.1; done"
    with _at_a_terminal(command, "exec", "-it", "web", "sh", "-c", script) as terminal:
        terminal.read_until("33 99\r\n")
        assert terminal.is_raw()
        terminal.resize(44, 111)
        terminal.read_until("44 111\r\n")
        assert terminal.wait() == 6
        assert terminal.modes_now() == terminal.modes


def test_the_end_of_piped_input_is_typed(service: Service, command: Command) -> None:
    words = ["run", "--rm", "-it", "--rootfs", str(service.rootfs), "cat"]
    assert command.feed(b"typed\n", *words).endswith(b"typed\r\n")


def test_interrupt_at_the_keyboard_ends_a_program_without_a_terminal(
    service: Service, command: Command
) -> None:
    words = ["run", "--rm", "--rootfs", str(service.rootfs)]
    script = "trap 'exit 4' INT; echo ready; while :; do sleep 0.1; done"
    with _at_a_terminal(command, *words, "sh", "-c", script) as terminal:
        terminal.read_until("ready")
        terminal.type("\x03")
        assert terminal.wait() == 4
    assert service.ids() == []
