"""``ps`` and ``inspect`` of containers that are made of images."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from ocigrpc.v1.config_pb2 import ContainerConfig
from ocigrpc.v1.runtime_pb2 import CreateContainerRequest
from tests.bed.clients.command import Command
from tests.bed.clients.terminal import seen
from tests.bed.images.layers import file
from tests.bed.images.layout import Image, image
from tests.bed.services.service import Service
from tests.real.images.conftest import ImagesOf

WEB = "registry.example/team/web:1"
NEW = "registry.example/team/web:2"


@pytest.fixture
def command(service: Service) -> Command:
    return Command(service)


@pytest.fixture
def web(images_of_service: ImagesOf, service: Service, small_image: Image) -> Iterator[Image]:
    """An image with a container of its name, beside a container without an image."""
    images_of_service.put(small_image, WEB)
    create(service, WEB, "web")
    service.create(name="bare")
    yield small_image
    service.remove_all()


def create(service: Service, image_name: str, name: str) -> None:
    config = ContainerConfig(image=image_name)
    service.client.create_container(CreateContainerRequest(config=config, name=name))


def names(command: Command, *words: str) -> list[str]:
    return command.lines("ps", "--all", "--output", "name", *words)


def test_the_table_has_the_image_if_there_is_one(web: Image, command: Command) -> None:
    title, of_web, bare = command.lines("ps", "--all")
    assert title.split()[2:4] == ["IMAGE", "COMMAND"]
    place = title.index("IMAGE")
    assert of_web[place:].startswith(f"{WEB}  ")
    assert bare[place : title.index("COMMAND")].strip() == ""


def test_a_container_has_the_name_that_its_image_had_then_else_its_id(
    web: Image, images_of_service: ImagesOf, service: Service, command: Command
) -> None:
    images_of_service.put(image(*web.layers, [file("new")], config={"Cmd": ["sh"]}), WEB)
    create(service, web.image_id, "nameless")
    template = "{{.Names}} {{.Image}} {{.ImageID}}"
    short = web.image_id[:12]
    found = command.lines("ps", "--all", "--format", template)
    assert found == [f"web {WEB} {short}", "bare  ", f"nameless {short} {short}"]
    whole = command.lines("inspect", "--format", template, "nameless")
    assert whole == [f"nameless {web.image_id} {web.image_id}"]
    [inspected] = json.loads("\n".join(command.lines("inspect", "web")))
    assert inspected["status"]["image_name"] == WEB
    assert inspected["status"]["image_id"] == web.image_id


@pytest.mark.parametrize(
    "ancestor",
    [WEB, "web:1", "team/web", "registry.example/*", "localhost/own:1", "own:1"],
)
def test_ancestor_is_an_image_by_any_of_its_names(
    web: Image, command: Command, ancestor: str
) -> None:
    command.lines("tag", WEB, "localhost/own:1")
    assert names(command, "--filter", f"ancestor={ancestor}") == ["web"]


def test_ancestor_is_an_image_by_its_id_or_the_beginning(web: Image, command: Command) -> None:
    for text in (web.image_id, f"sha256:{web.image_id}", web.image_id[:8]):
        assert names(command, "--filter", f"ancestor={text}") == ["web"]


def test_nothing_is_of_an_image_that_is_not_there(web: Image, command: Command) -> None:
    for text in ("nobody", "NO NAME", "eb:1", ""):
        assert names(command, "-f", f"ancestor={text}") == []
    assert names(command, "-f", "ancestor=nobody", "-f", "ancestor=web") == ["web"]
    assert names(command, "-f", "ancestor=web", "-f", "name=bare") == []


def test_a_narrow_terminal_cuts_the_command_before_the_image(web: Image, command: Command) -> None:
    for columns, whole in ((200, True), (72, False)):
        text = seen(command.argv("ps", "--all"), columns=columns, NO_COLOR="1")
        assert (WEB in text) == whole
        assert all(len(line) <= columns for line in text.splitlines())
        assert text.splitlines()[1].endswith("web")
