"""``events``: as they happen, from a cursor or a time on, and what is missing."""

from __future__ import annotations

import json
import secrets
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

import pytest

from tests.bed.clients.command import Command
from tests.bed.clients.terminal import on_terminal
from tests.bed.hosts.leaks import LIMIT_S
from tests.bed.services.service import Service


@pytest.fixture
def command(service: Service) -> Command:
    return Command(service)


@contextmanager
def following(command: Command, *words: str) -> Iterator[IO[str]]:
    """What the command prints as it comes; SIGINT ends it."""
    argv = command.argv("events", "--output", "json", *words)
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield process.stdout
        process.send_signal(signal.SIGINT)
        assert process.wait(LIMIT_S) == 128 + signal.SIGINT


def kinds(lines: list[str]) -> list[str]:
    """The kinds of events in lines of JSON, in a word each."""
    found = [json.loads(line).get("kind", "") for line in lines]
    return [kind.removeprefix("EVENT_KIND_").lower() for kind in found if kind]


def test_a_client_goes_on_after_its_cursor_and_misses_nothing(
    service: Service, command: Command
) -> None:
    with following(command) as stream:
        cursor = json.loads(stream.readline())["cursor"]
        service.create(container_id="web")
        created = json.loads(stream.readline())
    assert created["kind"] == "EVENT_KIND_CREATED"
    service.start_container("web")
    service.kill("web")
    service.wait("web")
    with following(command, "--since", created["cursor"]) as stream:
        assert "kind" not in json.loads(stream.readline())
        assert kinds([stream.readline(), stream.readline()]) == ["started", "exited"]
    for since in (cursor, created["cursor"]):
        lines = command.lines("events", "--no-stream", "-o", "json", "--since", since)
        assert kinds(lines)[-2:] == ["started", "exited"]


def test_events_of_a_time(service: Service, command: Command) -> None:
    service.create(container_id="web")
    since = ["events", "--no-stream", "-o", "json", "-f", "container=web", "--since"]
    assert "created" in kinds(command.lines(*since, "1h"))
    assert kinds(command.lines(*since, "2100-01-01T00:00:00Z")) == []
    assert "created" in kinds(command.lines(*since, "1000000000"))
    assert kinds(command.lines(*since, "4102444800")) == []


def test_a_table_has_a_line_for_each(service: Service, command: Command) -> None:
    service.wait(service.run("exit 3", container_id="web", name="shop"))
    title, *lines = command.lines("events", "--no-stream", "--filter", "container=shop")
    assert title.split("  ")[0] == "TIME"
    assert [line[title.index("EVENT") :].split("  ")[0] for line in lines[-3:]] == [
        "created",
        "started",
        "exited (3)",
    ]
    assert all(line.endswith("shop") for line in lines)


def test_filters_by_container_event_and_label(service: Service, command: Command) -> None:
    app = secrets.token_hex(4)
    first = service.run("exit 0", labels={"app": app})
    service.wait(first)
    second = service.run("exit 0")
    service.wait(second)
    service.remove(first)

    def of(*filters: str) -> list[str]:
        words = [word for each in filters for word in ("-f", each)]
        return kinds(command.lines("events", "--no-stream", "-o", "json", *words))

    assert of(f"container={second[:20]}") == ["created", "started", "exited"]
    assert of(f"container={first}", "event=exited") == ["exited"]
    assert of(f"container={first}", f"container={second}", "event=exited") == ["exited", "exited"]
    assert of("event=started", "event=removed", f"label=app={app}") == ["started", "removed"]
    assert "paused" in command.refusal("events", "-f", "event=dance", status=2)
    assert "KEY=VALUE" in command.refusal("events", "-f", "label=app", status=2)


def test_what_is_missing_is_said_on_standard_error(service: Service, command: Command) -> None:
    service.create(container_id="web")
    done = command("events", "--no-stream", "-o", "json", "--since", "1")
    assert (done.returncode, len(done.stderr.splitlines())) == (0, 1)
    assert "gone" in done.stderr
    assert "created" in kinds(done.stdout.splitlines())
    done = command("events", "--no-stream", "-o", "json", "--since", str(1 << 62))
    assert "no cursor" in done.stderr
    assert "no cursor" in command.refusal("events", "--since", str(1 << 63), status=2)


def test_a_terminal_shows_events_until_it_is_interrupted(
    service: Service, command: Command
) -> None:
    with on_terminal(command.argv("events", "--since", "0")) as terminal:
        terminal.read_until("EVENT")
        service.create(container_id="new-one")
        terminal.read_until("new-one")
        terminal.process.send_signal(signal.SIGINT)
        assert terminal.read_all().count("\n") <= 1
