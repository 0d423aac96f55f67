"""What is shown of images: a line for each name, and the filters that choose among them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, NamedTuple

import click

from ocigrpc.cli.container_names import SHORT_ID
from ocigrpc.cli.images.image_names import ALGORITHM
from ocigrpc.cli.views.containers import moment, seconds
from ocigrpc.cli.views.filters import by_key
from ocigrpc.cli.views.words import ago, size

if TYPE_CHECKING:
    from ocigrpc.v1.image_pb2 import ImageFilter, ImageSummary, Platform

TITLES: Mapping[str, str] = {
    "ID": "IMAGE ID",
    "Created": "CREATED",
    "CreatedAt": "CREATED AT",
    "CreatedSince": "CREATED",
    "Digest": "DIGEST",
    "Labels": "LABELS",
    "Names": "NAMES",
    "Pinned": "PINNED",
    "Platform": "PLATFORM",
    "PulledAt": "PULLED AT",
    "Repository": "REPOSITORY",
    "SharedSize": "SHARED SIZE",
    "Size": "SIZE",
    "Tag": "TAG",
    "UniqueSize": "UNIQUE SIZE",
    "User": "USER",
}
"""The fields, by the names that podman and docker have for them."""

_ABSENT = "<none>"


class Entry(NamedTuple):
    """An image by one of its names; by none, if it has none."""

    image: ImageSummary
    name: str

    @property
    def repository(self) -> str:
        """The name without its tag or digest."""
        before, is_digested, _ = self.name.partition("@")
        return before if is_digested else before.rpartition(":")[0]

    @property
    def tag(self) -> str:
        """The tag of the name; "" if it has a digest instead."""
        return "" if "@" in self.name else self.name.rpartition(":")[2]

    @property
    def digest(self) -> str:
        """Of the manifest, by which the name stands for the image in its registry."""
        found = (each.partition("@") for each in self.image.digests)
        return next((digest for name, _, digest in found if name == self.repository), "")

    def is_meant(self, pattern: str) -> bool:
        """Whether a pattern is for the name, with or without its tag, registry and directories.

        As with podman and docker, "alpine" is every tag of docker.io/library/alpine.
        """
        for whole in (self.name, self.repository):
            parts = whole.split("/")
            if any(fnmatchcase("/".join(parts[at:]), pattern) for at in range(len(parts))):
                return bool(whole)
        return False

    def fields(self, now_s: float, *, whole: bool) -> Mapping[str, object]:
        """The fields that templates have; ``whole`` leaves long ids as they are."""
        image = self.image
        created = image.created_at if image.HasField("created_at") else None
        since = ago(now_s - seconds(created)) if created else _ABSENT
        return {
            "ID": ALGORITHM + image.image_id if whole else image.image_id[:SHORT_ID],
            "Created": since,
            "CreatedAt": moment(created) if created else None,
            "CreatedSince": since,
            "Digest": self.digest or _ABSENT,
            "Labels": dict(image.labels),
            "Names": list(image.names),
            "Pinned": image.pinned,
            "Platform": platform_words(image.platform),
            "PulledAt": moment(image.pulled_at) if image.HasField("pulled_at") else None,
            "Repository": self.repository or _ABSENT,
            "SharedSize": size(image.size_bytes - image.unique_bytes),
            "Size": size(image.size_bytes),
            "Tag": self.tag or _ABSENT,
            "UniqueSize": size(image.unique_bytes),
            "User": image.user,
        }


def entries(images: Iterable[ImageSummary], patterns: Sequence[str] = ()) -> Iterator[Entry]:
    """The images by each of their names, or by those that a pattern stands for."""
    for image in images:
        named = [Entry(image, name) for name in image.names or [""]]
        by_id = not patterns or any(_begins(image.image_id, each) for each in patterns)
        yield from (
            each for each in named if by_id or any(each.is_meant(text) for text in patterns)
        )


def _begins(image_id: str, text: str) -> bool:
    beginning = text.removeprefix(ALGORITHM)
    return bool(beginning) and image_id.startswith(beginning)


class Filters:
    """Which images are wanted, as podman has it: any reference, all labels. Raises usage errors."""

    def __init__(self, given: Iterable[str]) -> None:
        found = by_key(given, ("reference", "label", "dangling"))
        self.references = found["reference"]
        self._labels = [each.partition("=") for each in found["label"]]
        self._dangling = {_truth(each) for each in found["dangling"]}

    def asked(self) -> ImageFilter:
        """What the service can choose by."""
        from ocigrpc.v1.image_pb2 import ImageFilter

        labels = {key: value for key, separator, value in self._labels if separator}
        return ImageFilter(label_selector=labels, dangling=True in self._dangling)

    def matches(self, image: ImageSummary) -> bool:
        """Whether an image that the service has chosen is wanted."""
        return all(key in image.labels for key, _, _ in self._labels) and (
            False not in self._dangling or bool(image.names)
        )


def _truth(word: str) -> bool:
    if word not in ("true", "false"):
        raise click.UsageError(f"--filter: dangling={word} is neither true nor false.")
    return word == "true"


def platform_words(platform: Platform) -> str:
    """A platform as people write it, as in "linux/arm/v7"."""
    return "/".join(filter(None, (platform.os, platform.architecture, platform.variant)))
