"""Pulls of images: what is asked for, and how far one is."""

from __future__ import annotations

from msgspec import Struct

from ocigrpc.oci.images.platform import Platform
from ocigrpc.oci.images.progress import LayerProgress
from ocigrpc.oci.images.skopeo import Credentials


class PullRequest(Struct, frozen=True):
    """See ``PullImageRequest`` in the proto. Empty parts of ``platform`` are the node's own."""

    image: str
    platform: Platform = Platform("", "", "")
    credentials: Credentials | None = None
    name: str = ""
    only_if_missing: bool = False


class PullProgress(Struct, frozen=True):
    """How far a pull is; layers are lowest first."""

    digest: str
    total_bytes: int
    received_bytes: int
    layers: tuple[LayerProgress, ...]
