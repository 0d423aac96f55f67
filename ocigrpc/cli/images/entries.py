"""What is shown of images: a line for each name, and the filters that choose among them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import click

from ocigrpc.cli.container_names import SHORT_ID
from ocigrpc.cli.images.image_names import resolve
from ocigrpc.cli.views.containers import moment, seconds
from ocigrpc.cli.views.filters import ALGORITHM, begins, by_key, is_meant, repository_of
from ocigrpc.cli.views.moments import moment_of
from ocigrpc.cli.views.words import ago, size

if TYPE_CHECKING:
    from ocigrpc.client import Client
    from ocigrpc.v1.image_pb2 import ImageFilter, ImageSummary, Platform

TITLES: Mapping[str, str] = {
    "ID": "IMAGE ID",
    "Containers": "CONTAINERS",
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
        return repository_of(self.name)

    @property
    def tag(self) -> str:
        """The tag of the name; "" if it has a digest instead."""
        return "" if "@" in self.name else self.name.rpartition(":")[2]

    @property
    def digest(self) -> str:
        """Of the manifest, by which the name stands for the image in its registry."""
        found = (each.partition("@") for each in self.image.digests)
        return next((digest for name, _, digest in found if name == self.repository), "")

    def fields(self, now_s: float, *, whole: bool) -> Mapping[str, object]:
        """The fields that templates have; ``whole`` leaves long ids as they are."""
        image = self.image
        created = image.created_at if image.HasField("created_at") else None
        since = ago(now_s - seconds(created)) if created else _ABSENT
        return {
            "ID": ALGORITHM + image.image_id if whole else image.image_id[:SHORT_ID],
            "Containers": image.containers,
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
    """The images by each of their names, or by those that a pattern stands for.

    One that was only pulled by its digest has that name.
    """
    for image in images:
        named = [Entry(image, name) for name in image.names or image.digests or [""]]
        by_id = not patterns or any(begins(image.image_id, each) for each in patterns)
        yield from (
            each for each in named if by_id or any(is_meant(each.name, text) for text in patterns)
        )


ORDERS: Mapping[str, Callable[[Entry], tuple[float, str]]] = {
    "created": lambda each: (-seconds(each.image.created_at), each.name),
    "id": lambda each: (0, each.image.image_id),
    "repository": lambda each: (0, each.name),
    "size": lambda each: (each.image.size_bytes, each.name),
    "tag": lambda each: (0, each.tag),
}
"""What the option ``--sort`` sorts by, as podman has it."""


class Filters:
    """Which images are wanted, as podman has it: any reference, all of the others."""

    def __init__(self, given: Iterable[str]) -> None:
        """Raises a usage error."""
        found = by_key(given, ("reference", "label", "dangling", "before", "since", "until"))
        self.references = found["reference"]
        self._labels = [each.partition("=") for each in found["label"]]
        self._dangling = {_truth(each) for each in found["dangling"]}
        self._limits = [(key, each) for key in ("before", "since") for each in found[key]]
        self._before_s = [_moment(each) for each in found["until"]]
        self._since_s = list[float]()

    def asked(self) -> ImageFilter:
        """What the service can choose by."""
        from ocigrpc.v1.image_pb2 import ImageFilter

        labels = {key: value for key, separator, value in self._labels if separator}
        return ImageFilter(label_selector=labels, dangling=True in self._dangling)

    def look_up(self, client: Client) -> None:
        """Learn when the images of before= and since= were built. Raises ``ImageNotFound``."""
        for key, name in self._limits:
            built = client.image_status(resolve(client, name)).image.created_at
            (self._before_s if key == "before" else self._since_s).append(seconds(built))

    def matches(self, image: ImageSummary) -> bool:
        """Whether an image that the service has chosen is wanted."""
        built_s = seconds(image.created_at)
        return (
            all(key in image.labels for key, _, _ in self._labels)
            and self._dangling <= {image.dangling}
            and all(built_s < each for each in self._before_s)
            and all(built_s > each for each in self._since_s)
        )


def _truth(word: str) -> bool:
    if word not in ("true", "false"):
        raise click.UsageError(f"--filter: dangling={word} is neither true nor false.")
    return word == "true"


def _moment(text: str) -> float:
    try:
        return moment_of(text, time.time())
    except ValueError as error:
        raise click.UsageError(f"--filter: {error}") from None


def platform_words(platform: Platform) -> str:
    """A platform as people write it, as in "linux/arm/v7"."""
    return "/".join(filter(None, (platform.os, platform.architecture, platform.variant)))
