"""From what a client calls an image to the image."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Sequence

from ocigrpc.engine.images.storage import Image, Snapshot
from ocigrpc.errors import InvalidArgument
from ocigrpc.image_errors import ImageNotFound
from ocigrpc.oci.images.reference import (
    DEFAULT_REGISTRY,
    Reference,
    image_id_of,
    references,
)

# The registry of images that were built on the node.
LOCAL_REGISTRY = "localhost"

# Where an image with a short name may be from, in this order.
_REGISTRIES = (LOCAL_REGISTRY, DEFAULT_REGISTRY)


def reference_of(text: str, field: str) -> Reference:
    """The parts of a name. Raises ``InvalidArgument`` (INVALID_IMAGE_NAME)."""
    try:
        return Reference.parse(text)
    except ValueError as error:
        raise InvalidArgument.of(field, str(error), reason="INVALID_IMAGE_NAME") from error


def new_name(text: str, field: str) -> str:
    """The whole name that an image is to have; a short one is of the node itself.

    Raises ``InvalidArgument`` (INVALID_IMAGE_NAME).
    """
    wanted = reference_of(text, field)
    if wanted.digest:
        problem = "must not have a digest, which is another image's or the same"
        raise InvalidArgument.of(field, problem, reason="INVALID_IMAGE_NAME")
    return str((wanted.at(LOCAL_REGISTRY) if wanted.is_short else wanted).tagged())


def get(snapshot: Snapshot, text: str) -> Image:
    """The image with this id or name. Raises ``ImageNotFound`` and what :func:`find` raises."""
    if (image := find(snapshot, text)) is None:
        raise ImageNotFound.of(text)
    return image


def find(snapshot: Snapshot, text: str) -> Image | None:
    """The image with this id or name; None if there is none. Raises ``InvalidArgument``."""
    if image_id := image_id_of(text):
        return snapshot.images.get(image_id)
    for reference in whole(reference_of(text, "image")):
        for image in snapshot.images.values():
            if _names_of(image, reference):
                return image
    return None


def names_meant(image: Image, text: str) -> tuple[str, ...]:
    """The names of an image that a name, by which it was found, stands for."""
    found = (_names_of(image, each) for each in whole(Reference.parse(text)))
    return next(filter(None, found), ())


def whole(reference: Reference) -> Sequence[Reference]:
    """The names that a name can stand for: itself, or those of a short one."""
    if not reference.is_short:
        return (reference,)
    return [reference.at(registry) for registry in _REGISTRIES]


def is_pinned(name: str, patterns: Iterable[str]) -> bool:
    """Whether nothing removes an image with this name: see the setting ``images.pinned``."""
    return any(fnmatch.fnmatchcase(name, each) for each in patterns)


def _names_of(image: Image, wanted: Reference) -> tuple[str, ...]:
    """The names of an image that a whole name stands for; with a digest, whatever their tags."""
    if not wanted.digest:
        name = str(wanted.tagged())
        return (name,) if name in image.names else ()
    has_manifest = image.has_manifest(wanted.digest)
    return tuple(
        name
        for name, each in references(image.names).items()
        if each.repository == wanted.repository and (has_manifest or each.digest == wanted.digest)
    )
