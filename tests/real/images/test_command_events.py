"""``events`` of images, beside those of containers."""

from __future__ import annotations

import json

import pytest

from tests.bed.clients.command import Command
from tests.bed.images.layout import Image
from tests.bed.images.pulling import Puller

OWN = "localhost/own:1"
Seen = list[tuple[str, str]]


@pytest.fixture
def command(puller: Puller) -> Command:
    return Command(puller.service)


@pytest.fixture
def happened(puller: Puller, small: str, command: Command) -> None:
    """An image is pulled, and gets and loses names; a container comes and goes."""
    command.lines("pull", "-q", small)
    command.lines("tag", small, OWN)
    puller.service.create(name="web")
    puller.service.remove("web")
    command.lines("rmi", small)
    command.lines("rmi", OWN)


def events(command: Command, *filters: str) -> Seen:
    words = [word for each in filters for word in ("--filter", each)]
    lines = map(json.loads, command.lines("events", "--no-stream", "-o", "json", *words))
    return [
        (each["kind"].removeprefix("EVENT_KIND_").lower(), each["name"])
        for each in lines
        if "kind" in each
    ]


def test_those_of_both_come_in_their_order_or_of_one_type_alone(
    happened: None, small: str, command: Command
) -> None:
    of_image = [
        *(("pulled", small), ("tagged", OWN), ("untagged", small), ("untagged", OWN)),
        ("removed", ""),
    ]
    of_container = [("created", "web"), ("exited", "web"), ("removed", "web")]
    assert events(command) == [*of_image[:2], *of_container, *of_image[2:]]
    assert events(command, "type=image") == of_image
    assert events(command, "type=container") == of_container
    assert events(command, "type=image", "type=container", "event=removed") == [
        ("removed", "web"),
        ("removed", ""),
    ]


def test_an_image_is_meant_by_a_name_it_had_then_or_by_its_id(
    happened: None, small: str, small_image: Image, command: Command
) -> None:
    gone = ("removed", "")
    assert events(command, f"image={small}") == [("pulled", small), ("untagged", small), gone]
    assert events(command, "image=own") == [("tagged", OWN), ("untagged", OWN), gone]
    assert len(events(command, f"image={small_image.image_id[:12]}")) == 5
    assert events(command, "image=own", "event=untagged") == [("untagged", OWN)]
    assert events(command, "image=nobody") == []


def test_the_table_says_what_has_happened_to_what(
    happened: None, small: str, small_image: Image, command: Command
) -> None:
    title, *lines = command.lines("events", "--no-stream")
    assert title.split() == ["TIME", "TYPE", "ID", "EVENT", "NAME"]
    rows = [line[title.index("TYPE") :].split() for line in lines]
    assert rows[0] == ["image", small_image.image_id[:12], "pulled", small]
    assert [rows[2][0], *rows[2][2:]] == ["container", "created", "web"]
    assert rows[-1] == ["image", small_image.image_id[:12], "removed"]


def test_filters_that_exclude_each_other_are_usage_errors(command: Command) -> None:
    for filters in (
        ("container=web", "image=own"),
        ("container=web", "type=image"),
        ("image=own", "type=container"),
        ("type=volume",),
    ):
        words = [word for each in filters for word in ("-f", each)]
        assert "--filter" in command.refusal("events", *words, status=2)
