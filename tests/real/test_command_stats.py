"""``stats`` and ``top``: what containers use, once and live."""

from __future__ import annotations

import itertools
import json
import signal
import subprocess

import pytest

from tests.bed.clients.command import Command
from tests.bed.clients.terminal import on_terminal, seen
from tests.bed.hosts.leaks import LIMIT_S, until
from tests.bed.services.service import Service

_UP = "\x1b[1A"
_SHOW_CURSOR = "\x1b[?25h"


@pytest.fixture
def command(service: Service) -> Command:
    return Command(service)


def test_one_look_at_all_that_live(service: Service, command: Command) -> None:
    service.run(name="web")
    service.run(name="db")
    service.wait(service.run("exit 0", name="ended"))
    title, *lines = command.lines("stats", "--no-stream")
    assert title.split("  ")[0] == "CONTAINER ID"
    assert [line.split()[1] for line in lines] == ["web", "db"]
    assert all("%" in line and "/ unlimited" in line for line in lines)


def test_cpu_is_what_is_used_between_two_looks(service: Service, command: Command) -> None:
    service.run("while :; do :; done", name="busy")
    service.run(name="idle")
    found = map(json.loads, command.lines("stats", "--no-stream", "-o", "json"))
    percent = {each["name"]: each["cpu_percent"] for each in found}
    assert 1 < percent["busy"] < 150
    assert percent["idle"] < 1


def test_only_the_containers_that_are_named(service: Service, command: Command) -> None:
    service.run(name="web")
    service.run(name="db")
    service.wait(service.run("exit 0", name="ended"))
    _, line = command.lines("stats", "--no-stream", "db")
    assert line.split()[1] == "db"
    assert "'ended' has stopped" in command.refusal("stats", "--no-stream", "ended")


def test_all_are_those_that_have_stopped_as_well_and_use_nothing(
    service: Service, command: Command
) -> None:
    service.run(name="web")
    service.wait(service.run("exit 0", name="ended"))
    service.run(name="db")
    _, *lines = command.lines("stats", "--no-stream", "-a")
    assert [line.split()[1] for line in lines] == ["web", "ended", "db"]
    assert lines[1].split()[2:] == "-- -- / -- -- -- --".split()
    found = list(map(json.loads, command.lines("stats", "--no-stream", "-a", "-o", "json")))
    assert [each["name"] for each in found] == ["web", "ended", "db"]
    assert [each["cpu_percent"] is None for each in found] == [False, True, False]
    assert "memory" not in found[1]
    assert "--all" in command.refusal("stats", "-a", "web", status=2)


def test_one_that_ends_meanwhile_stays_in_sight_of_all(service: Service, command: Command) -> None:
    container_id = service.run(name="web")
    with on_terminal(command.argv("stats", "-a", "-i", "0.1"), columns=120) as terminal:
        terminal.read_until(_UP, "%", "web")
        service.kill(container_id)
        terminal.read_until("web  ", "--  ", "-- / --")
        terminal.process.send_signal(signal.SIGINT)
        assert _SHOW_CURSOR in terminal.read_all()


def test_a_stream_of_json_has_a_line_for_each_look(service: Service, command: Command) -> None:
    service.run(name="web")
    argv = command.argv("stats", "--interval", "0.1", "--output", "json")
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        looks = [json.loads(line) for line in itertools.islice(process.stdout, 3)]
        process.send_signal(signal.SIGINT)
        assert process.wait(LIMIT_S) == 128 + signal.SIGINT
    assert [each["cpu_percent"] is None for each in looks] == [True, False, False]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_terminal_shows_each_look_in_place_and_gets_its_cursor_back(
    service: Service, command: Command, number: signal.Signals
) -> None:
    service.run(name="web")
    with on_terminal(command.argv("stats", "-i", "0.1"), columns=120) as terminal:
        terminal.read_until("web", " -- ")
        terminal.read_until(_UP, "%", "web")
        terminal.process.send_signal(number)
        assert _SHOW_CURSOR in terminal.read_all()
        assert terminal.process.returncode == 128 + number


def test_top_lists_the_processes(service: Service, command: Command) -> None:
    container_id = service.run("sleep 1000 & exec sleep 2000")
    title, *lines = command.lines("top", container_id)
    assert title.split() == ["USER", "PID", "PPID", "TIME", "RSS", "COMMAND"]
    assert {line.split(maxsplit=6)[-1] for line in lines} == {"sleep 1000", "sleep 2000"}
    assert all(line.startswith("root ") for line in lines)
    found = json.loads("\n".join(command.lines("top", "-o", "json", container_id)))
    first = str(service.status(container_id).pid)
    assert first in {line.split()[1] for line in lines}
    assert first in {str(each["pid"]) for each in found}


def test_top_on_a_terminal_is_live_until_nothing_lives(service: Service, command: Command) -> None:
    container_id = service.run()
    with on_terminal(command.argv("top", container_id)) as terminal:
        terminal.read_until("PPID", "sleep 1000", _UP)
        service.kill(container_id)
        assert _SHOW_CURSOR in terminal.read_all()
        assert terminal.process.returncode == 0


def test_top_shows_a_process_that_comes_at_its_next_look(
    service: Service, command: Command
) -> None:
    script = "trap 'sleep $((1000+2000)) &' USR1; echo ready; while :; do sleep 0.1; done"
    container_id = service.run(script)
    until(lambda: service.output(container_id) == ["ready"])
    with on_terminal(command.argv("top", "-i", "0.1", container_id)) as terminal:
        terminal.read_until("PPID", _UP)
        service.kill(container_id, "USR1")
        terminal.read_until("sleep 3000")
        terminal.type("\x03")
        assert _SHOW_CURSOR in terminal.read_all()
        assert terminal.process.returncode == 128 + signal.SIGINT


def test_top_of_a_container_that_has_stopped_says_so(service: Service, command: Command) -> None:
    service.wait(service.run("exit 0", name="ended"))
    assert "'ended' has no processes" in command.refusal("top", "ended")


@pytest.mark.parametrize("words", [["stats", "--no-stream"], ["top", "--no-stream", "web"]])
def test_one_look_on_a_terminal_is_printed_once(
    service: Service, command: Command, words: list[str]
) -> None:
    service.run(name="web")
    text = seen(command.argv(*words), columns=120, NO_COLOR="1")
    assert "\x1b" not in text
    assert len(text.splitlines()) == 2
