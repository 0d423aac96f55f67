"""Further programs that the command runs in a container."""

from __future__ import annotations

import os
import signal
import subprocess

import pytest

from tests.bed.clients.command import Command
from tests.bed.clients.exec import nothing_runs_but
from tests.bed.hosts.leaks import LIMIT_S, until
from tests.bed.services.service import Service


@pytest.fixture
def command(service: Service) -> Command:
    service.run(name="web")
    return Command(service)


def test_the_exit_code_and_both_streams_are_those_of_the_program(command: Command) -> None:
    done = command("exec", "web", "sh", "-c", "echo good; echo bad >&2; exit 3")
    assert (done.returncode, done.stdout, done.stderr) == (3, "good\n", "bad\n")
    assert command("exec", "web", "sh", "-c", "kill -KILL $$").returncode == 128 + 9


def test_the_options_of_the_program_are_its_own(command: Command) -> None:
    assert command.lines("exec", "web", "echo", "-t", "--help") == ["-t --help"]


def test_what_can_not_be_run(service: Service, command: Command) -> None:
    for words, status in (
        (["web", "/missing"], 127),
        (["web", "missing"], 127),
        (["-w", "/missing", "web", "true"], 125),
        (["web", "/etc/passwd"], 126),
        (["nobody", "true"], 125),
        (["web"], 125),
    ):
        assert command.refusal("exec", *words, status=status)
    service.pause("web")
    assert "paused" in command.refusal("exec", "web", "true", status=125)


def test_a_detached_program_runs_on_by_itself(service: Service, command: Command) -> None:
    for options in (["-d"], ["-dit"]):
        assert command.lines("exec", *options, "web", "sh", "-c", "touch /tmp/on; sleep 1000") == []
        until(lambda: command("exec", "web", "rm", "/tmp/on").returncode == 0)
    assert sum("sleep 1000" in line for line in command.lines("top", "web")) >= 2


def test_a_detached_program_that_can_not_be_run(service: Service, command: Command) -> None:
    for words, status in (
        (["web", "/missing"], 127),
        (["web", "/etc/passwd"], 126),
        (["-w", "/missing", "web", "true"], 125),
        (["nobody", "true"], 125),
    ):
        assert command.refusal("exec", "-d", *words, status=status)
    assert nothing_runs_but(service, service.status("web").container_id)


def test_environment_place_and_account(command: Command) -> None:
    words = ["-e", "A=word", "-e", "THEIRS", "-w", "/tmp", "-u", "alice"]
    done = command(
        "exec", *words, "web", "sh", "-c", "echo $A:$THEIRS; pwd; id -u", THEIRS="theirs"
    )
    assert done.stdout.splitlines() == ["word:theirs", "/tmp", "1001"]


def test_input_ends_with_ours(command: Command) -> None:
    script = "cat; echo over"
    assert command.feed(b"typed\n", "exec", "-i", "web", "sh", "-c", script) == b"typed\nover\n"
    assert command.feed(b"typed\n", "exec", "web", "sh", "-c", script) == b"over\n"


def test_ten_megabytes_pass_as_they_are(command: Command) -> None:
    data = os.urandom(1 << 20) * 10
    with command.start("exec", "-i", "web", "cat") as process:
        assert process.communicate(data, timeout=LIMIT_S) == (data, b"")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_command_and_its_program(
    service: Service, command: Command, number: int
) -> None:
    with command.start("exec", "web", "sh", "-c", "echo ready; exec sleep 1000") as process:
        _ready(process)
        process.send_signal(number)
        assert process.wait(LIMIT_S) == 128 + number
    until(lambda: nothing_runs_but(service, service.status("web").container_id))


def test_a_reader_that_goes_ends_the_command_and_its_program(
    service: Service, command: Command
) -> None:
    with command.start("exec", "web", "yes") as process:
        assert process.stdout is not None
        assert process.stdout.read(2) == b"y\n"
        process.stdout.close()
        assert process.wait(LIMIT_S) == 128 + signal.SIGPIPE
    until(lambda: nothing_runs_but(service, service.status("web").container_id))


def _ready(process: subprocess.Popen[bytes]) -> None:
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
