"""The commands that change containers: how they name them, what they print, how they fail."""

from __future__ import annotations

import grp
import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.bed.clients.command import Command, argv_of
from tests.bed.hosts.leaks import LIMIT_S
from tests.bed.services.service import Service


@pytest.fixture
def command(service: Service) -> Command:
    return Command(service)


def test_a_life_by_commands(service: Service, command: Command) -> None:
    service.create(container_id="web")
    assert command.lines("start", "web") == ["web"]
    assert command.lines("pause", "web") == ["web"]
    assert service.state("web") == "paused"
    assert command.lines("resume", "web") == ["web"]
    assert command.lines("stop", "--time", "0", "web") == ["web"]
    assert service.state("web") == "stopped"
    assert command.lines("rm", "web") == ["web"]
    assert service.ids() == []


def test_a_container_is_named_by_its_name_its_id_or_the_beginning_of_its_id(
    service: Service, command: Command
) -> None:
    container_id = service.run(name="web")
    for name, verb in (("web", "pause"), (container_id, "resume"), (container_id[:7], "pause")):
        assert command.lines(verb, name) == [name]
    assert service.state("web") == "paused"


def test_the_beginning_of_several_ids_names_none(service: Service, command: Command) -> None:
    for container_id in ("alpha-1", "alpha-2"):
        service.create(container_id=container_id)
    line = command.refusal("rm", "alpha")
    assert "alpha-1" in line
    assert "alpha-2" in line
    assert len(service.ids()) == 2


def test_that_there_are_more_ids_is_shown(service: Service, command: Command) -> None:
    for number in range(5):
        service.create(container_id=f"alpha-{number}")
    assert command.refusal("rm", "alpha").endswith(", ...")


@pytest.mark.parametrize("encoding", [{}, {"LC_ALL": "C", "PYTHONUTF8": "0"}])
def test_words_are_utf_8_in_any_locale(
    service: Service, command: Command, encoding: dict[str, str]
) -> None:
    service.create(container_id="web")
    environ = {"PYTHONCOERCECLOCALE": "0", **encoding}
    assert len(command("rm", "é", **environ).stderr.splitlines()) == 1
    for words, status in (
        (["run", "--rootfs", str(service.rootfs), "echo", "\udcff"], 125),
        (["run", "--name", "\udcff", "--rootfs", str(service.rootfs), "true"], 125),
        (["exec", "web", "echo", "\udcff"], 125),
        (["inspect", "\udcff"], 2),
        (["kill", "-s", "\udcff", "web"], 2),
    ):
        done = command(*words, **environ)
        assert done.returncode == status, done
        (line,) = done.stderr.splitlines()
        assert "is not UTF-8" in line


def test_all_containers_in_the_right_state(service: Service, command: Command) -> None:
    running = {service.run(), service.run()}
    created = service.create().container_id
    assert set(command.lines("pause", "--all")) == running
    assert set(command.lines("resume", "-a")) == running
    assert set(command.lines("kill", "--all")) == running
    for each in running:
        service.wait(each)
    assert set(command.lines("rm", "--all")) == running | {created}


def test_the_others_get_their_turn_when_one_fails(service: Service, command: Command) -> None:
    service.run(container_id="web")
    done = command("pause", "nobody", "web")
    assert (done.returncode, done.stdout) == (1, "web\n")
    assert "nobody" in done.stderr


def test_no_container_and_all_containers_are_refused_alike(command: Command) -> None:
    for words in (["rm"], ["rm", "--all", "web"]):
        assert "--all" in command.refusal(*words, status=2)


def test_wait_prints_exit_codes_and_ends_with_the_last(service: Service, command: Command) -> None:
    first, second = service.run("exit 3"), service.run("exit 7")
    done = command("wait", first, second)
    assert (done.returncode, done.stdout) == (7, "3\n7\n")


def test_a_failure_of_wait_is_no_exit_code_of_a_program(command: Command) -> None:
    assert "nobody" in command.refusal("wait", "nobody", status=125)
    assert "CONTAINERS" in command.refusal("wait", status=125)


def test_a_wrong_state_says_what_to_do(service: Service, command: Command) -> None:
    service.create(container_id="web")
    line = command.refusal("pause", "web")
    assert "is created, not running" in line
    assert "ps -a" in line


def test_a_failure_calls_a_container_as_the_user_does(service: Service, command: Command) -> None:
    container_id = service.create(name="web").container_id
    for name in ("web", container_id[:6]):
        line = command.refusal("pause", name)
        assert f"container '{name}' is created" in line
        assert container_id not in line


def test_an_id_that_is_a_word_leaves_the_message_alone(service: Service, command: Command) -> None:
    service.create(container_id="run", name="web")
    assert "container 'web' is created, not running" in command.refusal("pause", "web")


@pytest.mark.parametrize("words", ["ps", "stats --no-stream", "logs web", "--debug pause nobody"])
@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-"])
def test_streams_that_are_closed_are_no_failure(
    service: Service, command: Command, words: str, closed: str
) -> None:
    service.wait(service.run("echo out; echo err >&2", container_id="web"))
    done = subprocess.run(
        ["sh", "-c", f'exec "$@" {closed}', "sh", *command.argv(*words.split())],
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert done.returncode == ("nobody" in words)
    assert "Traceback" not in done.stdout
    if "nobody" not in words:
        assert done.stderr in ("", "err\n")


def test_debug_shows_reason_and_metadata(service: Service, command: Command) -> None:
    service.create(container_id="web")
    done = command("--debug", "pause", "web")
    assert "WRONG_STATE" in done.stderr
    assert "state: created" in done.stderr


def test_a_service_that_is_not_running_is_said_so_at_once(tmp_path: Path) -> None:
    done = subprocess.run(
        argv_of(str(tmp_path / "socket"), "rm", "web"),
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert done.returncode == 1
    assert "not running" in done.stderr
    assert "systemctl start ocigrpc" in done.stderr


# Other users may not be able to read the interpreter's files, so all is imported before.
_AS_NOBODY = """
import os, sys
import ocigrpc.cli.programs.run, ocigrpc.cli.verbs, ocigrpc.client
from ocigrpc.cli.main import main
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
sys.exit(main(["--address", *sys.argv[1:]]))
"""


def as_nobody(*words: str) -> subprocess.CompletedProcess[str]:
    """The command with an address and more words, run by a user without rights."""
    return subprocess.run(
        [sys.executable, "-c", _AS_NOBODY, *words],
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )


def test_whether_a_directory_can_be_used_is_the_service_s_to_say() -> None:
    with tempfile.TemporaryDirectory(dir="/var/tmp") as directory:
        assert os.stat(directory).st_mode & 0o777 == 0o700
        for option in ("--rootfs", "--bundle"):
            done = as_nobody("/nonexistent", "run", option, directory)
            assert done.returncode == 125
            assert directory not in done.stderr


def test_who_may_not_connect_is_told_the_group() -> None:
    with (
        tempfile.TemporaryDirectory(dir="/var/tmp") as directory,
        socket.socket(socket.AF_UNIX) as listener,
    ):
        os.chmod(directory, 0o755)
        path = f"{directory}/socket"
        listener.bind(path)
        listener.listen()
        os.chown(path, 0, grp.getgrnam("games").gr_gid)
        os.chmod(path, 0o660)
        done = as_nobody(path, "rm", "web")
    assert done.returncode == 1
    assert "permission denied" in done.stderr
    assert "you are not in group games" in done.stderr
