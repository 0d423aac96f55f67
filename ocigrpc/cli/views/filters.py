"""The filters of ``ps``, as podman has them, and what filters of other commands share."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

import click

from ocigrpc.errors import InvalidArgument
from ocigrpc.image_errors import ImageNotFound

if TYPE_CHECKING:
    from ocigrpc.client import Client
    from ocigrpc.v1.container_pb2 import ContainerSummary

ALGORITHM = "sha256:"
"""What may stand before the id of an image."""

_KEYS = ("id", "name", "status", "label", "ancestor")
# The word of podman and docker for what the OCI runtime spec calls stopped.
_EXITED = "exited"


class Filters:
    """Which containers are wanted: those that match each key, by any of its values.

    Of labels all must match, as with podman.
    """

    def __init__(self, given: Iterable[str]) -> None:
        self._given = by_key(given, _KEYS)
        self._image_ids = set[str]()
        for pattern in (*self._given["id"], *self._given["name"]):
            try:
                re.compile(pattern)
            except re.error as error:
                raise click.UsageError(f"--filter: {pattern!r} is no pattern: {error}.") from None

    def states(self) -> Sequence[str]:
        """The names of the states that are wanted; none for any. Raises a usage error."""
        from ocigrpc.v1.container_pb2 import ContainerState

        words = ("stopped" if word == _EXITED else word for word in self._given["status"])
        return [enum_name(word, ContainerState.keys(), "status") for word in words]

    def look_up(self, client: Client) -> None:
        """Learn which images are meant by the names that they have now."""
        for name in self._given["ancestor"]:
            # One that is gone, or a pattern.
            with suppress(ImageNotFound, InvalidArgument):
                self._image_ids.add(client.image_status(name).image.image_id)

    def matches(self, container: ContainerSummary) -> bool:
        """Whether a container of the right state is wanted."""
        ids, names = self._given["id"], self._given["name"]
        return (
            (not ids or any(re.match(each, container.container_id) for each in ids))
            and (not names or any(re.search(each, container.name) for each in names))
            and all(_has(container.labels, each) for each in self._given["label"])
            and self._is_of_image(container)
        )

    def _is_of_image(self, container: ContainerSummary) -> bool:
        names = self._given["ancestor"]
        return (
            not names
            or container.image_id in self._image_ids
            or any(
                begins(container.image_id, each) or is_meant(container.image_name, each)
                for each in names
            )
        )


def by_key(given: Iterable[str], keys: Sequence[str]) -> Mapping[str, Sequence[str]]:
    """The values of each ``KEY=VALUE``, by the keys that may be. Raises a usage error."""
    found: dict[str, list[str]] = {key: [] for key in keys}
    for text in given:
        key, separator, value = text.partition("=")
        if key not in found or not separator:
            raise click.UsageError(
                f"--filter: {text!r} is not KEY=VALUE with one of the keys {', '.join(keys)}."
            )
        found[key].append(value)
    return found


def labels_of(given: Sequence[str]) -> Mapping[str, str]:
    """The labels in ``KEY=VALUE`` of label=. Raises a usage error."""
    if without := [each for each in given if "=" not in each]:
        raise click.UsageError(
            f"--filter: label={without[0]} lacks a value, as in label=KEY=VALUE."
        )
    return dict(each.split("=", 1) for each in given)


def is_meant(name: str, pattern: str) -> bool:
    """Whether a pattern is for a name, with or without its tag, registry and directories.

    As with podman and docker, "alpine" is every tag of docker.io/library/alpine.
    """
    for whole in (name, repository_of(name)):
        parts = whole.split("/")
        if any(fnmatchcase("/".join(parts[at:]), pattern) for at in range(len(parts))):
            return bool(whole)
    return False


def repository_of(name: str) -> str:
    """The name without its tag or digest."""
    before, is_digested, _ = name.partition("@")
    return before if is_digested else before.rpartition(":")[0]


def begins(image_id: str, text: str) -> bool:
    """Whether a text is the beginning of an id."""
    beginning = text.removeprefix(ALGORITHM)
    return bool(beginning) and image_id.startswith(beginning)


def enum_name(word: str, names: Iterable[str], what: str) -> str:
    """The name that a word is short for, among all of an enum. Raises a usage error."""
    # The first one is never sent, and has what all begin with.
    unspecified, *known = names
    prefix = unspecified.removesuffix("UNSPECIFIED")
    words = {name.removeprefix(prefix).lower(): name for name in known}
    if word not in words:
        raise click.UsageError(f"--filter: {word!r} is no {what}. There are: {', '.join(words)}.")
    return words[word]


def _has(labels: Mapping[str, str], wanted: str) -> bool:
    key, separator, value = wanted.partition("=")
    return key in labels and (not separator or labels[key] == value)
