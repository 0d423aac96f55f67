"""What a name means, and the one image of it that is pulled."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ocigrpc.oci.images.manifest import Blob, Index, Manifest
from ocigrpc.oci.images.platform import Platform


class Found(NamedTuple):
    """What a name means now: a source for skopeo, and the digest of its manifest, or its list.

    ``registry`` and ``repository`` are empty for what is on the node, at the path ``archive``, and
    ``name`` for an image that gets none. ``tagged`` is the source by its tag, if it has one.
    """

    source: str
    name: str
    registry: str
    repository: str
    digest: str
    manifest: Manifest | Index
    auth: bytes
    archive: str = ""
    tagged: str = ""


class Wanted(NamedTuple):
    """One image to pull; ``choice`` is what it is for, if its manifest is one of a list.

    ``source`` is what skopeo copies: of a list in a registry the one manifest, since versions of
    skopeo differ in which they choose of several for one platform. But where the policy may want
    signatures, which are for a tag, it is that: then skopeo may choose one of ``others`` as well.
    """

    image: str
    found: Found
    manifest: Manifest
    platform: Platform
    choice: Platform | None
    source: str
    others: tuple[Manifest, ...] = ()

    @property
    def is_by_tag(self) -> bool:
        """Whether skopeo resolves the tag once more, which may have moved."""
        return self.source == self.found.tagged

    @property
    def layers(self) -> Sequence[Blob]:
        """All layers that it may have."""
        return [layer for each in (self.manifest, *self.others) for layer in each.layers]

    @property
    def blobs(self) -> Sequence[str]:
        """The digests of all layers that it may have."""
        return list(dict.fromkeys(each.digest for each in self.layers))

    @property
    def limit_bytes(self) -> int:
        """The most that skopeo receives of it."""
        blobs = ((each.config, *each.layers) for each in (self.manifest, *self.others))
        return max(sum(each.size_bytes for each in its) for its in blobs)

    @property
    def image_id(self) -> str:
        """The id that it has in a store."""
        return self.manifest.config.digest.removeprefix("sha256:")

    @property
    def key(self) -> tuple[str, str, Platform]:
        """Equal for all that are one pull."""
        return self.source, self.found.digest, self.platform
