"""What can go wrong with images; as ``ocigrpc.errors`` for all else."""

from __future__ import annotations

from typing import Self

from ocigrpc.errors import OcigrpcError, PreconditionFailed


class ImageNotFound(OcigrpcError):
    """No image has this id or name."""

    reason = "IMAGE_NOT_FOUND"

    @classmethod
    def of(cls, image: str) -> Self:
        """The error for an image that does not exist."""
        return cls(f"no image {image!r}", image=image)


class ImageUnusable(PreconditionFailed):
    """The image does not allow the call."""

    reason = "IMAGE_UNUSABLE"
    more_reasons = (
        "IMAGE_DAMAGED IMAGE_DENIED_BY_POLICY IMAGE_HAS_NAMES IMAGE_IN_USE IMAGE_PINNED "
        "IMAGE_PLATFORM_MISSING IMAGE_TOO_DEEP"
    )


class ImagesFailed(OcigrpcError):
    """The store of images can't be read, or the program that changes it failed."""

    reason = "IMAGE_PROGRAM_FAILED"
    more_reasons = "STORAGE_DAMAGED"


class RegistryUnauthorized(OcigrpcError):
    """A registry refuses the image to the client's credentials."""

    reason = "REGISTRY_UNAUTHORIZED"


class RegistryUnreachable(OcigrpcError):
    """A registry can't be reached or fails; ``cause`` in the metadata says which."""

    reason = "REGISTRY_UNREACHABLE"


class StorageFull(OcigrpcError):
    """The disk at ``path`` has no room for an image."""

    reason = "STORAGE_FULL"
