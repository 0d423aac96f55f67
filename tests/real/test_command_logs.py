"""``logs``: the bytes of each stream, from where one wants them, to the end of the container."""

from __future__ import annotations

import re
import subprocess

import pytest

from tests.bed.clients.command import Command
from tests.bed.hosts.leaks import LIMIT_S
from tests.bed.services.service import Service

# conmon's parts of a line are about 8 KiB long.
_LONG = 20000


@pytest.fixture
def command(service: Service) -> Command:
    return Command(service)


def raw(command: Command, *words: str) -> tuple[bytes, bytes]:
    """The bytes that a command prints that succeeds."""
    done = subprocess.run(command.argv(*words), capture_output=True, timeout=LIMIT_S, check=True)
    return done.stdout, done.stderr


def ended(service: Service, script: str) -> str:
    """A container that has run a script to its end."""
    container_id = service.run(script)
    service.wait(container_id)
    return container_id


def test_each_stream_is_printed_to_the_same_one(service: Service, command: Command) -> None:
    container_id = ended(service, "echo one; echo two >&2; echo three")
    assert raw(command, "logs", container_id) == (b"one\nthree\n", b"two\n")


def test_bytes_are_those_that_were_written(service: Service, command: Command) -> None:
    container_id = ended(service, r"printf '\377\000\033[31m\r\n\nend'")
    assert raw(command, "logs", container_id)[0] == b"\xff\x00\x1b[31m\r\n\nend"


def test_the_parts_of_a_long_line_are_one_line(service: Service, command: Command) -> None:
    script = f"head -c {_LONG} /dev/zero | tr '\\0' x; echo; echo end"
    container_id = ended(service, script)
    assert raw(command, "logs", container_id)[0] == b"x" * _LONG + b"\nend\n"
    first, end = raw(command, "logs", "--timestamps", container_id)[0].splitlines()
    assert first.endswith(b"Z " + b"x" * _LONG)
    assert re.fullmatch(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z end", end)


def test_the_last_lines_and_those_of_a_time(service: Service, command: Command) -> None:
    container_id = ended(service, "for each in 1 2 3 4; do echo $each; done")
    assert command.lines("logs", "--tail", "2", container_id) == ["3", "4"]
    assert command.lines("logs", "-n", "0", container_id) == []
    assert len(command.lines("logs", "-n", "9" * 30, container_id)) == 4
    stamps = [line.split()[0] for line in command.lines("logs", "-t", container_id)]
    since = ["logs", "--since", stamps[2], container_id]
    assert command.lines(*since) == [str(n + 1) for n in range(4) if stamps[n] >= stamps[2]]
    assert command.lines("logs", "--until", stamps[0], container_id) == []
    assert command.lines("logs", "--since", "1h30m", container_id) == ["1", "2", "3", "4"]
    assert command.lines("logs", "--until", "1h", container_id) == []


def test_a_time_that_is_none_is_refused(command: Command) -> None:
    assert "1h30m" in command.refusal("logs", "--since", "yesterday", "web", status=2)


def test_follow_prints_each_line_as_it_comes_until_the_end(
    service: Service, command: Command
) -> None:
    container_id = service.run("echo begun; read line; echo $line", stdin=True)
    with subprocess.Popen(
        command.argv("logs", "--follow", container_id), stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        service.kill(container_id)
        assert process.stdout.read() == ""
        assert process.wait(LIMIT_S) == 0


def test_an_unknown_container_is_a_failure(command: Command) -> None:
    assert "nobody" in command.refusal("logs", "nobody")


def test_all_lines_are_printed_on_demand_as_by_default(service: Service, command: Command) -> None:
    container_id = ended(service, "echo one; echo two")
    for words in ([], ["--tail", "all"], ["-n", "-1"]):
        assert command.lines("logs", *words, container_id) == ["one", "two"]
