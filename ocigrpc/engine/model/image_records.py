"""What the store remembers of images."""

from __future__ import annotations

from typing import ClassVar

from msgspec import Struct

from ocigrpc.engine.model.values import ObjectKey, ObjectKind
from ocigrpc.oci.images.platform import Platform


class ImageRecord(Struct, frozen=True, omit_defaults=True):
    """An image that the service has pulled or used; what containers/storage knows is not here.

    ``digests`` are what its names stood for when it was pulled; a name that it has lost since then
    may be among them, until it is pulled again. ``used_ns`` is when the last container of it was
    removed.
    """

    kind: ClassVar[ObjectKind] = ObjectKind.IMAGE

    image_id: str
    pulled_ns: int = 0
    digests: dict[str, str] = {}
    used_ns: int = 0

    @property
    def key(self) -> ObjectKey:
        """What the store knows it by."""
        return ObjectKey(self.kind, self.image_id)


class PullRecord(Struct, frozen=True, omit_defaults=True):
    """A pull that has begun to change the storage, for the next start to undo.

    ``pull_id`` is in the image's temporary name. ``blobs`` are the digests of its layers: those
    that belong to no image are not to be trusted. An image that ``was_there`` before stays,
    whatever becomes of the pull, and so do the layers that were there ``before``, by their
    identities: another program may be using them for a pull of its own. One that ``is_by_tag`` may
    turn out to have other blobs, so that ``before`` are all layers.
    """

    kind: ClassVar[ObjectKind] = ObjectKind.PULL

    pull_id: str
    source: str
    digest: str
    platform: Platform
    blobs: tuple[str, ...]
    began_ns: int
    image_id: str = ""
    was_there: bool = False
    before: tuple[str, ...] = ()
    is_by_tag: bool = False

    @property
    def key(self) -> ObjectKey:
        """What the store knows it by."""
        return ObjectKey(self.kind, self.pull_id)


class RemovalRecord(Struct, frozen=True, omit_defaults=True):
    """An image that is to go once it has no name, until it is gone with its layers.

    ``layers`` are the identities of all that it is made of. Those that nothing else is made of go
    with it: if the removal was cut off, they may be there without the image, and lack files.
    """

    kind: ClassVar[ObjectKind] = ObjectKind.REMOVAL

    image_id: str
    layers: tuple[str, ...]

    @property
    def key(self) -> ObjectKey:
        """What the store knows it by."""
        return ObjectKey(self.kind, self.image_id)
