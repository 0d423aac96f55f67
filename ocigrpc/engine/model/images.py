"""Requests and answers about images: plain values."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable
from typing import NamedTuple

from msgspec import Struct

from ocigrpc.engine.model.values import Position
from ocigrpc.oci.images.config import ImageConfig, Step
from ocigrpc.oci.images.platform import Platform

_SECOND_NS = 1_000_000_000


class ImageView(Struct, frozen=True):
    """What a client is shown of an image; see ``ImageSummary`` in the proto.

    ``container_ids`` are the service's own containers that use it; ``is_used`` counts those of
    other programs as well. ``used_ns`` is when the last one of ours was removed. ``names`` has none
    with a digest, so that one which ``is_dangling`` is one that has no name at all.
    """

    image_id: str
    names: tuple[str, ...]
    digests: tuple[str, ...]
    created_ns: int
    pulled_ns: int
    size_bytes: int
    unique_bytes: int
    labels: dict[str, str]
    user: str
    platform: Platform
    pinned: bool
    container_ids: tuple[str, ...] = ()
    is_used: bool = False
    used_ns: int = 0
    is_dangling: bool = False

    @property
    def position(self) -> Position:
        """Where it stands in lists: those that came last first."""
        return -self.pulled_ns, self.image_id

    @property
    def last_ns(self) -> int:
        """When it was last pulled, or used by a container that is no more."""
        return max(self.pulled_ns, self.used_ns)


class LayerView(Struct, frozen=True):
    """One layer of an image; ``images`` is how many have it, with all that is below it."""

    diff_id: str
    digest: str
    size_bytes: int
    images: int
    path: str


class ImageDetail(Struct, frozen=True):
    """All that is known of an image; layers are lowest first."""

    view: ImageView
    config: ImageConfig
    layers: tuple[LayerView, ...]
    history: tuple[Step, ...]
    author: str


class ImageFilter(Struct, frozen=True):
    """Which images; empty fields match all."""

    reference: str = ""
    label_selector: dict[str, str] = {}
    dangling: bool = False
    unused: bool = False

    def matches(self, view: ImageView) -> bool:
        """Whether all but ``reference`` matches."""
        return (
            self.label_selector.items() <= view.labels.items()
            and (view.is_dangling or not self.dangling)
            and not (self.unused and view.is_used)
        )

    def refers_to(self, image_id: str, names: Iterable[str]) -> bool:
        """Whether ``reference`` is the beginning of an id, or a pattern of one of the names."""
        wanted = self.reference
        beginning = wanted.removeprefix("sha256:")
        if beginning and image_id.startswith(beginning):
            return True
        return any(fnmatch.fnmatchcase(name, wanted) for name in names)


class RemovedImage(NamedTuple):
    """The names that are gone, and the image if it is gone as well.

    If ``container_ids`` use it, it goes with the last of them.
    """

    untagged: tuple[str, ...] = ()
    image_id: str = ""
    container_ids: tuple[str, ...] = ()


class PruneRequest(Struct, frozen=True):
    """Which images to remove; see ``PruneImagesRequest`` in the proto."""

    all: bool = False
    older_than_s: float = 0.0
    until_free_bytes: int = 0
    label_selector: dict[str, str] = {}
    dry_run: bool = False

    def allows(self, view: ImageView, now_ns: int) -> bool:
        """Whether an image may go."""
        return (
            not view.is_used
            and not view.pinned
            and (self.all or view.is_dangling)
            and view.last_ns <= now_ns - int(self.older_than_s * _SECOND_NS)
            and self.label_selector.items() <= view.labels.items()
        )


class Pruned(NamedTuple):
    """The images that are gone, in the order of that, and what the layers had that went too."""

    images: tuple[ImageView, ...] = ()
    reclaimed_bytes: int = 0


class FsUsage(NamedTuple):
    """Bytes and inodes; no inodes where a file system does not count them."""

    bytes: int
    inodes: int


class WritableLayer(NamedTuple):
    """What a container has written to its root filesystem, at a time; not known yet without it.

    It may take ``limit_bytes`` at most, unless that is 0.
    """

    container_id: str
    used: FsUsage = FsUsage(0, 0)
    measured_ns: int = 0
    limit_bytes: int = 0


class FsInfo(Struct, frozen=True):
    """What images take; see ``ImageFsInfoResponse`` in the proto."""

    path: str
    total: FsUsage
    available: FsUsage
    images_bytes: int
    reclaimable_bytes: int
    image_count: int
    writable_layers: tuple[WritableLayer, ...] = ()


class Tagged(NamedTuple):
    """The whole name that was given, and the image that has lost it, if any."""

    name: str
    from_image_id: str = ""
