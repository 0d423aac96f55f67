"""``ps`` and ``inspect``: which containers, in which form, on a terminal and in a pipe."""

from __future__ import annotations

import json
import re

import pytest
import yaml

from tests.bed.clients.command import Command
from tests.bed.clients.terminal import seen
from tests.bed.services.service import Service


@pytest.fixture
def command(service: Service) -> Command:
    return Command(service)


def names(command: Command, *words: str) -> list[str]:
    return command.lines("ps", "--output", "name", *words)


@pytest.fixture
def one_of_each(service: Service) -> None:
    service.run(name="runs", labels={"app": "web", "tier": "front"})
    service.pause(service.run(name="rests", labels={"app": "db"}))
    service.wait(service.run("exit 3", name="ended", labels={"app": "web"}))
    service.create(name="waits")


def test_the_living_by_default_and_all_oldest_first(one_of_each: None, command: Command) -> None:
    assert names(command) == ["runs", "rests"]
    assert names(command, "--all") == ["runs", "rests", "ended", "waits"]


def test_the_table_has_states_in_words(one_of_each: None, command: Command) -> None:
    title, runs, rests, ended, waits = command.lines("ps", "-a")
    assert title.split("  ")[:3] == ["CONTAINER ID", "IMAGE", "COMMAND"]
    assert title.endswith("NAMES")
    assert " Up " in runs
    assert "(Paused)" in rests
    assert " Exited (3) " in ended
    assert " ago " in ended
    assert " Created" in waits
    columns = {line.index(name) for line, name in ((runs, "runs"), (rests, "rests"))}
    assert columns == {title.index("NAMES")}


def test_a_container_without_memory_says_so(service: Service, command: Command) -> None:
    limit = ["--memory", "16m", "--memory-swap", "16m", "--rootfs", str(service.rootfs)]
    command.lines("run", "-d", "--name", "hungry", *limit, "tail", "/dev/zero")
    service.wait("hungry")
    _, line = command.lines("ps", "--all")
    assert re.search(r" Exited \(137\) .* ago, OOM  hungry$", line)
    assert command.lines("ps", "-a", "--format", "{{.ExitCode}}") == ["137"]


def test_quiet_prints_ids_alone_whole_on_demand(service: Service, command: Command) -> None:
    container_id = service.run()
    assert command.lines("ps", "-q") == [container_id[:12]]
    assert command.lines("ps", "--quiet", "--no-trunc") == [container_id]


def test_a_long_command_is_cut_unless_it_is_wanted_whole(
    service: Service, command: Command
) -> None:
    service.run(f"exec sleep 1000 # {'x' * 60}")
    assert "…" in command.lines("ps")[1]
    assert "x" * 60 in command.lines("ps", "--no-trunc")[1]


def test_any_value_of_one_key_and_every_key(one_of_each: None, command: Command) -> None:
    status = ["--filter", "status=exited", "-f", "status=paused"]
    assert names(command, *status) == ["rests", "ended"]
    assert names(command, *status, "-f", "label=app=web") == ["ended"]
    assert names(command, "-f", "label=app", "-f", "name=^r") == ["runs", "rests"]
    assert names(command, "-a", "-f", "name=nd", "-f", "name=it") == ["ended", "waits"]
    assert names(command, "-f", "label=app=web", "-f", "label=tier") == ["runs"]
    (first, _) = command.lines("ps", "-q")
    assert names(command, "-f", f"id={first}") == ["runs"]


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["-f", "status=dancing"], "paused"),
        (["-f", "colour=red"], "label"),
        (["-f", "name"], "KEY=VALUE"),
        (["-f", "name=("], "pattern"),
        (["--format", "{{.Colour}}"], "Runtime"),
        (["--format", "{{if .ID}}"], "{{.ID}}"),
        (["-q", "-o", "json"], "exclude"),
    ],
)
def test_what_is_not_understood_is_said_with_what_would_be(
    command: Command, words: list[str], named: str
) -> None:
    assert named in command.refusal("ps", *words, status=2)


def test_templates_print_fields(one_of_each: None, command: Command) -> None:
    assert command.lines("ps", "-a", "--format", "{{.Name}} {{.State}} {{.ExitCode}}") == [
        "runs running ",
        "rests paused ",
        "ended stopped 3",
        "waits created ",
    ]
    labels = command.lines(
        "ps", "-f", "name=rests", "--format", r"{{.Labels.app}}\t{{json .Labels}}"
    )
    assert labels == ['db\t{"app": "db"}']
    table = command.lines("ps", "--format", r"table {{.Names}}\t{{.State}}")
    assert table == ["NAMES  STATE", "runs   running", "rests  paused"]


def test_json_and_yaml_are_the_messages_of_the_contract(
    one_of_each: None, command: Command
) -> None:
    found = json.loads("\n".join(command.lines("ps", "--format", "json")))
    assert [each["name"] for each in found] == ["runs", "rests"]
    assert found[0]["state"] == "CONTAINER_STATE_RUNNING"
    assert found[0]["monitor_lost"] is False
    assert yaml.safe_load("\n".join(command.lines("ps", "-o", "yaml"))) == found


def test_without_containers_there_are_titles_alone_or_nothing(command: Command) -> None:
    (title,) = command.lines("ps")
    assert title.startswith("CONTAINER ID")
    assert command.lines("ps", "--format", "table") == [title]
    assert command.lines("ps", "-q") == []
    assert json.loads("\n".join(command.lines("ps", "-o", "json"))) == []


def test_a_pipe_gets_the_whole_table_without_colours(service: Service, command: Command) -> None:
    name = "x" * 100
    service.pause(service.run(name=name))
    (_, line) = command.lines("ps")
    assert line.endswith(name)
    assert "\x1b" not in line


def test_an_encoding_that_lacks_a_character_gets_its_escape(
    service: Service, command: Command
) -> None:
    service.run("exec sleep 1000 # and very much more of it", name="web")
    done = command("ps", PYTHONIOENCODING="latin-1")
    assert (done.returncode, done.stderr) == (0, "")
    assert "\\u2026" in done.stdout.splitlines()[1]


def test_a_narrow_terminal_cuts_the_command_and_not_the_name(
    service: Service, command: Command
) -> None:
    service.run("exec sleep 1000 # and more of it", name="web")
    narrow, wide = (seen(command.argv("ps"), columns=each) for each in (84, 200))
    assert "sleep" in wide
    assert "sleep" not in narrow
    for text in (narrow, wide):
        assert text.splitlines()[1].endswith("web")
    assert all(len(line) <= 84 for line in narrow.splitlines()[1:])


def test_colours_are_for_terminals_that_want_them(service: Service, command: Command) -> None:
    service.pause(service.run(name="web"))
    assert "\x1b[33m" in seen(command.argv("ps"))
    assert "\x1b" not in seen(command.argv("ps"), NO_COLOR="1")
    assert "\x1b" not in seen(command.argv("ps"), TERM="dumb")
    for words in (["-q"], ["-o", "json"], ["-o", "yaml"], ["--format", "{{.Status}}"]):
        assert "\x1b" not in seen(command.argv("ps", *words), columns=20)


def test_inspect_prints_a_list_of_all_that_is_known(one_of_each: None, command: Command) -> None:
    printed = "\n".join(command.lines("inspect", "runs", "ended"))
    runs, ended = json.loads(printed)
    assert runs["status"]["labels"] == {"app": "web", "tier": "front"}
    assert runs["spec"]["command"][0] == "/bin/sh"
    assert ended["status"]["exit_status"]["exit_code"] == 3
    assert yaml.safe_load("\n".join(command.lines("inspect", "ended", "-o", "yaml"))) == [ended]


def test_inspect_has_templates_of_the_fields_of_ps_and_of_the_answer(
    one_of_each: None, service: Service, command: Command
) -> None:
    template = "{{.State}} {{.ExitCode}} {{.status.exit_status.provenance}} {{.status.stdin}}"
    assert command.lines("inspect", "-f", template, "ended") == [
        "stopped 3 EXIT_PROVENANCE_EXIT_FILE false"
    ]
    (path,) = command.lines("inspect", "--format", "{{.status.log_path}}", "runs")
    assert path == service.status("runs").log_path
    assert "log_path" in command.refusal("inspect", "-f", "{{.status.log}}", "runs", status=2)


def test_inspect_prints_the_others_when_one_is_unknown(one_of_each: None, command: Command) -> None:
    done = command("inspect", "nobody", "runs")
    assert done.returncode == 1
    assert "nobody" in done.stderr
    assert [each["status"]["name"] for each in json.loads(done.stdout)] == ["runs"]


def test_it_loads_nothing_that_it_does_not_use(one_of_each: None, command: Command) -> None:
    done = command("ps", PYTHONPROFILEIMPORTTIME="1")
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "grpc" in loaded
    unused = {"asyncio.events", "google.protobuf.text_format", "grpc.aio._channel", "ssl"}
    assert not unused & loaded
