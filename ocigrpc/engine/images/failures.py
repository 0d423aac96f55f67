"""What went wrong with a pull, as errors that a client can tell apart."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from ocigrpc.errors import HostFailed, InvalidArgument, OcigrpcError, cut
from ocigrpc.failing import host_failing
from ocigrpc.image_errors import (
    ImageNotFound,
    ImagesFailed,
    ImageUnusable,
    RegistryUnauthorized,
    RegistryUnreachable,
    StorageFull,
)
from ocigrpc.oci.images.platform import Platform
from ocigrpc.oci.images.skopeo import without_secrets
from ocigrpc.oci.images.skopeo_errors import Meaning, meaning_of, message_of

_CAUSES = {
    "tls": "no trusted connection",
    "rate": "too many requests",
    "server": "it fails",
    "cut": "the connection was cut off",
    "slow": "it answers too slowly",
    "connect": "no connection",
    "moved": "the tag moves",
}


def program_failure(
    stderr: str, image: str, registry: str, path: str, auth: bytes = b"{}", archive: str = ""
) -> OcigrpcError:
    """The error for what skopeo printed, as it read ``registry`` or what is at ``archive``.

    ``path`` is of the disk that it wrote to, and ``auth`` the file of credentials, of which nothing
    is in the error. Raises nothing itself.
    """
    meaning, output = meaning_of(stderr), cut(without_secrets(message_of(stderr), auth))
    if meaning.reason == "STORAGE_FULL":
        return storage_full(path, output)
    if meaning.reason == "HOST_FAILED":
        return HostFailed(f"skopeo can't be used: {output}", error=output)
    if registry and (failure := _registry_failure(meaning, output, image, registry)) is not None:
        return failure
    # Only what it reads ends too early: its store is no stream.
    if archive and (meaning.reason == "SOURCE_UNREADABLE" or meaning.cause == "cut"):
        return source_unreadable(archive, output)
    for reason in ("IMAGE_DENIED_BY_POLICY", "IMAGE_PLATFORM_MISSING", "IMAGE_DAMAGED"):
        if meaning.reason == reason:
            message = f"image {image!r} can't be used: {output}"
            return ImageUnusable(message, reason=reason, image=image, output=output)
    return ImagesFailed(f"skopeo failed with image {image!r}: {output}", image=image, output=output)


def _registry_failure(
    meaning: Meaning, output: str, image: str, registry: str
) -> OcigrpcError | None:
    if meaning.reason == "IMAGE_NOT_FOUND":
        message = f"registry {registry} has no image {image!r}"
        return ImageNotFound(message, image=image, registry=registry)
    if meaning.reason == "REGISTRY_UNAUTHORIZED":
        message = f"registry {registry} refuses {image!r} to these credentials: {output}"
        return RegistryUnauthorized(message, registry=registry, output=output)
    if meaning.reason == "REGISTRY_UNREACHABLE":
        message = f"registry {registry}: {_CAUSES[meaning.cause]}: {output}"
        return RegistryUnreachable(message, registry=registry, cause=meaning.cause, output=output)
    return None


def registry_slow(registry: str, limit_s: float) -> RegistryUnreachable:
    """The error for a registry that does not come to the end of an answer."""
    output = f"it has not said in {limit_s:g} s which image this is"
    message = f"registry {registry}: {_CAUSES['slow']}: {output}"
    return RegistryUnreachable(message, registry=registry, cause="slow", output=output)


def tag_moving(image: str, registry: str) -> RegistryUnreachable:
    """The error for a tag that stands for another image whenever it is copied."""
    output = f"{image} was another image each time when it was copied than when it was resolved"
    message = f"registry {registry}: {_CAUSES['moved']}: {output}"
    return RegistryUnreachable(message, registry=registry, cause="moved", output=output)


def in_use(image_id: str, containers: int) -> ImageUnusable:
    """The error for an image of which other programs have containers."""
    return ImageUnusable(
        f"another program has {containers} containers of image {image_id}",
        reason="IMAGE_IN_USE",
        image=image_id,
        containers=containers,
    )


def source_unreadable(path: str, problem: str) -> InvalidArgument:
    """The error for an archive or a directory that has no image that can be read."""
    return InvalidArgument.of(
        "image", f"{path} can't be read: {problem}", reason="SOURCE_UNREADABLE", path=path
    )


def platform_missing(image: str, wanted: Platform, there: str) -> ImageUnusable:
    """The error for an image that is for other platforms, ``there``."""
    there = cut(there)
    return ImageUnusable(
        f"image {image!r} is for {there or 'no platform'}, not for {wanted}",
        reason="IMAGE_PLATFORM_MISSING",
        image=image,
        platform=wanted,
        output=there,
    )


def damaged(image: str, problem: str) -> ImageUnusable:
    """The error for what is no image, or not the one that it should be."""
    message = f"image {image!r} is damaged: {problem}"
    return ImageUnusable(message, reason="IMAGE_DAMAGED", image=image, output=problem)


def storage_full(path: str, problem: str) -> StorageFull:
    """The error for a disk that has no room for an image."""
    return StorageFull(f"no room at {path}: {problem}", path=path)


@contextmanager
def storage_failing(verb: str, path: str) -> Iterator[None]:
    """As ``host_failing``, but with ``StorageFull`` for a disk that has no room."""
    try:
        with host_failing(verb, path):
            yield
    except HostFailed as error:
        cause = error.__cause__
        if isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT):
            raise storage_full(path, error.message) from error
        raise
