"""``pull``: as users of podman know it, on a terminal, in a pipe, with their logins."""

from __future__ import annotations

import base64
import json
import signal
from pathlib import Path

import pytest

from tests.bed.clients.command import Command
from tests.bed.clients.terminal import on_terminal, seen
from tests.bed.hosts.leaks import until
from tests.bed.images.faulty_registry import FaultyRegistry, Stall
from tests.bed.images.layers import file
from tests.bed.images.layout import OWN_PLATFORM, Image, image, image_list, write_layout
from tests.bed.images.pulling import Puller
from tests.bed.images.registry import PASSWORD, USER, Registry
from tests.real.images.conftest import StartPulling

_MIB = 1 << 20


@pytest.fixture
def command(puller: Puller) -> Command:
    return Command(puller.service)


@pytest.fixture
def large() -> Image:
    """An image of two layers, of which the second one is worth a bar."""
    return image([file("small")], [file("large", bytes(range(256)) * (_MIB // 64))])


def short(image: Image, number: int) -> str:
    return image.layers[number].digest.removeprefix("sha256:")[:12]


def test_the_id_is_printed_and_a_line_for_each_layer_on_standard_error(
    large: Image, faulty_registry: FaultyRegistry, command: Command
) -> None:
    done = command("pull", faulty_registry.push(large, "large"))
    assert (done.returncode, done.stdout) == (0, f"{large.image_id}\n")
    lines = sorted(line.partition(" (")[0] for line in done.stderr.splitlines())
    assert lines == sorted(f"Copying blob {short(large, at)} done" for at in (0, 1))


def test_a_layer_that_is_there_already_is_skipped(
    large: Image, faulty_registry: FaultyRegistry, command: Command
) -> None:
    command("pull", faulty_registry.push(large, "large"))
    more = image(*large.layers, [file("more")])
    done = command("pull", faulty_registry.push(more, "more"))
    skipped = f"Copying blob {short(large, 0)} skipped: already exists"
    assert skipped in done.stderr.splitlines()


def test_quiet_prints_ids_alone_of_several_images(
    large: Image, small: str, small_image: Image, faulty_registry: FaultyRegistry, command: Command
) -> None:
    name = faulty_registry.push(large, "large")
    assert command.lines("pull", "--quiet", name, small) == [large.image_id, small_image.image_id]


def test_an_image_that_is_nowhere_is_complained_about_and_the_others_are_pulled(
    small: str, small_image: Image, faulty_registry: FaultyRegistry, command: Command
) -> None:
    missing = f"{faulty_registry.host}/missing"
    done = command("pull", "-q", missing, small)
    assert (done.returncode, done.stdout) == (1, f"{small_image.image_id}\n")
    (line,) = done.stderr.splitlines()
    # What there is here is no help.
    assert "ocigrpc images" not in line
    assert missing in line


def test_a_bar_stands_on_the_terminal_while_a_layer_comes(
    large: Image, faulty_registry: FaultyRegistry, command: Command
) -> None:
    stall = Stall(after_bytes=len(large.layers[1].data) // 2)
    faulty_registry.goes_wrong(stall, large.layers[1].digest)
    name = faulty_registry.push(large, "large")
    with on_terminal(command.argv("pull", name), columns=120) as terminal:
        terminal.read_until(f"Copying blob {short(large, 1)}", "KiB")
        stall.go_on()
        left = terminal.read_all()
        assert terminal.wait() == 0
    assert f"Copying blob {short(large, 1)} done" in left
    assert large.image_id in left


def test_quiet_shows_no_bar(
    large: Image, faulty_registry: FaultyRegistry, command: Command
) -> None:
    name = faulty_registry.push(large, "large")
    assert seen(command.argv("pull", "-q", name)).split() == [large.image_id]


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_pull_gives_the_terminal_back_and_leaves_nothing(
    large: Image,
    faulty_registry: FaultyRegistry,
    command: Command,
    puller: Puller,
    number: int,
    status: int,
) -> None:
    stall = Stall(after_bytes=len(large.layers[1].data) // 2)
    faulty_registry.goes_wrong(stall, large.layers[1].digest)
    with on_terminal(command.argv("pull", faulty_registry.push(large, "large"))) as terminal:
        terminal.read_until("KiB")
        terminal.process.send_signal(number)
        left = terminal.read_all()
        assert terminal.wait() == status
        assert terminal.modes_now() == terminal.modes
    # The cursor is shown again.
    assert "\x1b[?25h" in left
    assert command.lines("images", "-q") == []
    # The service undoes it when nobody waits any more.
    until(lambda: puller.leaks() == [])


def test_the_platform_is_the_nodes_own_unless_another_one_is_wanted(
    faulty_registry: FaultyRegistry, command: Command
) -> None:
    other = image([file("other")], platform={"architecture": "arm", "variant": "v7", "os": "linux"})
    own = image([file("own")], platform=OWN_PLATFORM)
    name = faulty_registry.push(image_list(other, own), "list")
    assert command.lines("pull", "-q", name) == [own.image_id]
    assert command.lines("pull", "-q", "--platform", "linux/arm/v7", name) == [other.image_id]
    assert "is no platform" in command.refusal("pull", "--platform", "arm", name, status=2)


def test_an_archive_on_the_node_is_pulled_by_its_path(
    large: Image, command: Command, tmp_path: Path
) -> None:
    layout = write_layout(tmp_path / "layout", {"a": large})
    source = f"oci:{layout}:a"
    assert command.lines("pull", "-q", source) == [large.image_id]
    assert command.lines("images", "-o", "name") == [large.image_id]
    command.lines("pull", "-q", "--name", "localhost/large", source)
    assert command.lines("images", "-o", "name") == ["localhost/large:latest"]
    command.refusal("pull", "--name", "localhost/large", source, source, status=2)


@pytest.fixture
def mirrored(small_image: Image, registry: Registry, start_pulling: StartPulling) -> Command:
    """The command, where docker.io is the registry of the tests."""
    registry.push(small_image, "library/alpine", "3.20")
    mirror = f'[[registry]]\nprefix = "docker.io"\nlocation = "{registry.host}"\ninsecure = true\n'
    return Command(start_pulling(more=mirror).service)


def test_a_name_of_docker_io_is_pulled_from_its_mirror(
    small_image: Image, mirrored: Command
) -> None:
    name = "docker.io/library/alpine:3.20"
    assert mirrored.lines("pull", "--quiet", name) == [small_image.image_id]
    assert mirrored.lines("images", "-o", "name", "alpine") == [name]


@pytest.fixture
def closed(large: Image, faulty_registry: FaultyRegistry) -> str:
    """An image that is not for everybody."""
    faulty_registry.wants_token = True
    return faulty_registry.push(large, "large")


def logins(host: str, password: str = PASSWORD) -> str:
    auth = base64.b64encode(f"{USER}:{password}".encode()).decode()
    return json.dumps({"auths": {host: {"auth": auth}}, "credsStore": "none"})


def test_a_registry_that_is_not_for_everybody_asks_for_a_login(
    closed: str, large: Image, command: Command
) -> None:
    assert "--creds" in command.refusal("pull", "-q", closed)
    command.refusal("pull", "-q", "--creds", f"{USER}:wrong", closed)
    assert command.lines("pull", "-q", "--creds", f"{USER}:{PASSWORD}", closed) == [large.image_id]


def test_a_password_is_asked_for_on_the_terminal_alone(
    closed: str, large: Image, command: Command
) -> None:
    pull = ("pull", "-q", "--creds", USER, closed)
    assert "USER:PASSWORD" in command.refusal(*pull, status=2)
    with on_terminal(command.argv(*pull)) as terminal:
        terminal.read_until(f"Password of {USER}:")
        terminal.type(f"{PASSWORD}\n")
        left = terminal.read_all()
    assert PASSWORD not in left
    assert large.image_id in left


def test_logins_are_those_of_the_file_that_podman_and_docker_write(
    closed: str,
    large: Image,
    faulty_registry: FaultyRegistry,
    command: Command,
    tmp_path: Path,
) -> None:
    path = tmp_path / "auth.json"
    path.write_text(logins(faulty_registry.host))
    pull = ("pull", "-q", closed)
    assert command.lines(*pull, "--authfile", str(path)) == [large.image_id]
    done = command(*pull, REGISTRY_AUTH_FILE=str(path))
    assert (done.returncode, done.stdout.strip()) == (0, large.image_id)
    for place in (".docker/config.json", "run/containers/auth.json"):
        home = tmp_path / place.replace("/", "-")
        (home / place).parent.mkdir(parents=True)
        (home / place).write_text(logins(faulty_registry.host))
        done = command(*pull, HOME=str(home), XDG_RUNTIME_DIR=str(home / "run"))
        assert (done.returncode, done.stdout.strip()) == (0, large.image_id)


def test_a_file_that_has_no_logins_is_named(closed: str, command: Command, tmp_path: Path) -> None:
    path = tmp_path / "auth.json"
    for text in ("no JSON", "[]", '{"auths": 3}'):
        path.write_text(text)
        assert str(path) in command.refusal("pull", "-q", "--authfile", str(path), closed)
    both = ("--creds", "a:b", "--authfile", str(path))
    assert "exclude" in command.refusal("pull", *both, closed, status=2)
