"""``run`` and ``create`` of an image: as users of podman know them."""

from __future__ import annotations

import pytest

from tests.bed.clients.command import Command
from tests.bed.images.containers import left_by
from tests.bed.images.faulty_registry import FaultyRegistry, status
from tests.bed.images.layout import OWN_PLATFORM, Image, image, image_list
from tests.bed.images.pulling import Puller
from tests.real.images.conftest import StartPulling


@pytest.fixture
def command(puller: Puller) -> Command:
    return Command(puller.service)


@pytest.fixture
def greeting(small_image: Image) -> Image:
    """One whose entrypoint gets words."""
    config = {"Entrypoint": ["/bin/echo", "hello"], "Cmd": ["world"], "Env": ["PATH=/bin"]}
    return image(*small_image.layers, config=config)


def test_an_image_that_is_missing_is_pulled_and_then_is_there(
    greeting: Image, faulty_registry: FaultyRegistry, command: Command, puller: Puller
) -> None:
    name = faulty_registry.push(greeting, "greeting")
    first = command("run", "--rm", name)
    assert (first.returncode, first.stdout) == (0, "hello world\n")
    assert "Copying blob" in first.stderr
    assert command.lines("run", "--rm", name, "you") == ["hello you"]
    assert command.lines("run", "--rm", greeting.image_id[:12], "you") == ["hello you"]
    assert left_by(puller.service) == []


def test_the_entrypoint_is_the_images_unless_there_is_another(
    greeting: Image, faulty_registry: FaultyRegistry, command: Command
) -> None:
    name = faulty_registry.push(greeting, "greeting")
    command("pull", "-q", name)
    words = ("run", "--rm", "--entrypoint", "/bin/sh", name, "-c", "echo mine")
    assert command.lines(*words) == ["mine"]


def test_it_is_pulled_only_when_it_may_be(
    greeting: Image, small_image: Image, faulty_registry: FaultyRegistry, command: Command
) -> None:
    name = faulty_registry.push(greeting, "greeting")
    assert "no image" in command.refusal("run", "--pull", "never", name, status=125)
    assert command.lines("images", "-q") == []
    command("pull", "-q", name)
    moved = image(*small_image.layers, config={"Cmd": ["/bin/echo", "moved"]})
    faulty_registry.push(moved, "greeting")
    assert command.lines("run", "--rm", name) == ["hello world"]
    assert command("run", "--rm", "--pull", "always", name).stdout == "moved\n"


def test_a_short_name_finds_what_it_has_pulled(
    greeting: Image, faulty_registry: FaultyRegistry, start_pulling: StartPulling
) -> None:
    name = faulty_registry.push(greeting, "team/greeting")
    puller = start_pulling(f'[aliases]\n"hi" = "{name.removesuffix(":latest")}"')
    command = Command(puller.service)
    assert command("run", "--rm", "hi").stdout == "hello world\n"
    asked = faulty_registry.count("/team/")
    assert command.lines("run", "--rm", "--pull", "never", "hi") == ["hello world"]
    assert command.lines("run", "--rm", "hi", "again") == ["hello again"]
    assert command.lines("rmi", "hi")[0] == f"Untagged: {name}"
    assert faulty_registry.count("/team/") == asked


def test_without_an_entrypoint_the_command_has_the_program(
    greeting: Image, faulty_registry: FaultyRegistry, command: Command
) -> None:
    name = faulty_registry.push(greeting, "greeting")
    command("pull", "-q", name)
    run = ("run", "--rm", "--entrypoint", "", name)
    assert command.lines(*run, "/bin/sh", "-c", "echo mine") == ["mine"]
    assert "command" in command.refusal(*run, status=125)


def test_newer_is_what_the_registry_has_or_else_what_is_there(
    greeting: Image, small_image: Image, faulty_registry: FaultyRegistry, command: Command
) -> None:
    name = faulty_registry.push(greeting, "greeting")
    newer = ("run", "--rm", "--quiet", "--pull", "newer")
    assert command.lines(*newer, name) == ["hello world"]
    moved = image(*small_image.layers, config={"Cmd": ["/bin/echo", "moved"]})
    faulty_registry.push(moved, "greeting")
    assert command.lines(*newer, name) == ["moved"]
    faulty_registry.goes_wrong(status(404), "/manifests/")
    done = command(*newer, name)
    assert (done.returncode, done.stdout) == (0, "moved\n")
    assert "the image that is there is used" in done.stderr
    assert "missing:1" in command.refusal(*newer, f"{faulty_registry.host}/missing:1", status=125)


def test_an_image_is_for_the_platform_that_is_wanted(
    small_image: Image, faulty_registry: FaultyRegistry, command: Command
) -> None:
    other = {"os": "linux", "architecture": "s390x"}
    own, foreign = (
        image(*small_image.layers, config={"Cmd": ["/bin/echo", word]}, platform=platform)
        for word, platform in (("own", OWN_PLATFORM), ("foreign", other))
    )
    name = faulty_registry.push(image_list(own, foreign), "both")
    assert command("run", "--rm", name).stdout == "own\n"
    wanted = ("run", "--rm", "-q", "--platform", "linux/s390x")
    assert "is for linux/" in command.refusal(*wanted, "--pull", "never", name, status=125)
    # Its program is the node's own, whatever the image says.
    assert command.lines(*wanted, name) == ["foreign"]
    assert command.lines(*wanted, "--pull", "never", name) == ["foreign"]
    assert "is no platform" in command.refusal("run", "--platform", "s390x", name, status=125)


def test_an_image_that_is_nowhere_is_not_found(
    faulty_registry: FaultyRegistry, command: Command
) -> None:
    missing = f"{faulty_registry.host}/missing:1"
    assert "missing:1" in command.refusal("run", missing, status=125)
    assert "missing:1" in command.refusal("create", missing)


def test_a_container_is_created_of_an_image_and_started(
    greeting: Image, faulty_registry: FaultyRegistry, command: Command, puller: Puller
) -> None:
    name = faulty_registry.push(greeting, "greeting")
    done = command("create", "--name", "web", name)
    assert (done.returncode, len(done.stdout.strip())) == (0, 64)
    command.lines("start", "web")
    assert command.lines("wait", "web") == ["0"]
    assert puller.service.status("web").image_name == name
    puller.service.remove("web")


def test_the_size_of_what_is_written_is_limited_as_podman_has_it(
    greeting: Image, faulty_registry: FaultyRegistry, command: Command, puller: Puller
) -> None:
    name = faulty_registry.push(greeting, "greeting")
    command("pull", "-q", name)
    for verb in ("run", "create"):
        status = 125 if verb == "run" else 1
        refusal = command.refusal(verb, "--storage-opt", "size=1k", name, status=status)
        assert "config.rootfs_limit_bytes: 1024 is not in 1048576 to" in refusal
    assert command("run", "--rm", "--storage-opt", "size=0", name).stdout == "hello world\n"
    for wrong in ("inodes=5", "size=many"):
        assert wrong.split("=")[1] in command.refusal(
            "create", "--storage-opt", wrong, name, status=2
        )
    assert left_by(puller.service) == []
