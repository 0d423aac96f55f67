"""Manifests: what an image is made of, and lists of images for several platforms.

See the OCI image spec, and docker's image manifest version 2, schema 2.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence

import msgspec
from msgspec import Struct

from ocigrpc.oci.decoding import decoded
from ocigrpc.oci.images.platform import Platform

# The largest manifest that registries accept.
MANIFEST_LIMIT_BYTES = 4 << 20

# Larger than any file. The sum of those of an image fits 64 bits, at any number of layers that a
# manifest of that size can have.
_SIZE_LIMIT_BYTES = 1 << 47

_DIGEST = re.compile("sha256:[0-9a-f]{64}", re.ASCII)


class Blob(Struct, frozen=True):
    """A file in a registry."""

    digest: str
    size_bytes: int


class Manifest(Struct, frozen=True):
    """One image: its config and its layers, lowest first."""

    config: Blob
    layers: tuple[Blob, ...]


class Entry(Struct, frozen=True):
    """An image of a list."""

    digest: str
    platform: Platform


class Index(Struct, frozen=True):
    """Images of one name for several platforms."""

    entries: tuple[Entry, ...]

    def choose(self, wanted: Platform) -> Entry | None:
        """The image for a platform: one of its variant if there is one, else of any that fits."""
        fitting = self.fitting(wanted)
        exact = [each for each in fitting if each.platform == wanted]
        return next(iter(exact or fitting), None)

    def fitting(self, wanted: Platform) -> Sequence[Entry]:
        """All images that are for a platform."""
        return [each for each in self.entries if wanted.accepts(each.platform)]


class _Platform(Struct):
    os: str = ""
    architecture: str = ""
    variant: str = ""


class _Blob(Struct):
    digest: str
    size: int = 0
    platform: _Platform | None = None


class _Manifest(Struct):
    schemaVersion: int
    config: _Blob | None = None
    layers: list[_Blob] | None = None
    manifests: list[_Blob] | None = None


# Made at import: msgspec crashes when two threads use a type for the first time.
_DECODER = msgspec.json.Decoder(_Manifest)


def digest_of(text: bytes) -> str:
    """The digest of a file in a registry."""
    return f"sha256:{hashlib.sha256(text).hexdigest()}"


def parse_manifest(text: bytes) -> Manifest | Index:
    """What a manifest says. Raises ``ValueError`` for what is none, or of the old schema 1."""
    if len(text) > MANIFEST_LIMIT_BYTES:
        raise ValueError(f"the manifest is larger than {MANIFEST_LIMIT_BYTES} bytes")
    found = decoded(_DECODER, text)
    if found.schemaVersion != 2:
        raise ValueError("the manifest is of schema 1, which is out of use since 2017")
    if found.manifests is not None:
        return Index(tuple(map(_entry, _checked(found.manifests))))
    if found.config is None or found.layers is None:
        raise ValueError("the manifest has neither an image nor a list of images")
    config, *layers = _checked([found.config, *found.layers])
    return Manifest(_blob(config), tuple(map(_blob, layers)))


def _checked(blobs: Sequence[_Blob]) -> Sequence[_Blob]:
    for blob in blobs:
        if not (_DIGEST.fullmatch(blob.digest) and 0 <= blob.size <= _SIZE_LIMIT_BYTES):
            raise ValueError("the manifest has a digest or a size that is none")
    return blobs


def _blob(found: _Blob) -> Blob:
    return Blob(found.digest, found.size)


def _entry(found: _Blob) -> Entry:
    platform = found.platform or _Platform()
    return Entry(found.digest, Platform(platform.os, platform.architecture, platform.variant))
