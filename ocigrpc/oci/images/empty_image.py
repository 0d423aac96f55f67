"""An image without layers, as small as one can be; see the OCI image layout."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from ocigrpc.oci.images.manifest import digest_of

_TYPES = "application/vnd.oci.image."


def empty_image_id(mark: str) -> str:
    """The id that the image of a ``mark`` has in a store."""
    return digest_of(_config(mark)).removeprefix("sha256:")


def layout(mark: str) -> Mapping[str, bytes]:
    """The files of a layout with such an image; each ``mark`` makes another image."""
    config = _config(mark)
    manifest = msgspec.json.encode(
        {
            "schemaVersion": 2,
            "mediaType": f"{_TYPES}manifest.v1+json",
            "config": _descriptor("config", config),
            "layers": [],
        }
    )
    index = {"schemaVersion": 2, "manifests": [_descriptor("manifest", manifest)]}
    return {
        "oci-layout": b'{"imageLayoutVersion": "1.0.0"}',
        "index.json": msgspec.json.encode(index),
        _path(config): config,
        _path(manifest): manifest,
    }


def _config(mark: str) -> bytes:
    return msgspec.json.encode(
        {
            "architecture": "amd64",
            "os": "linux",
            "author": mark,
            "rootfs": {"type": "layers", "diff_ids": []},
        }
    )


def _descriptor(kind: str, blob: bytes) -> Mapping[str, object]:
    media_type = f"{_TYPES}{kind}.v1+json"
    return {"mediaType": media_type, "digest": digest_of(blob), "size": len(blob)}


def _path(blob: bytes) -> str:
    return f"blobs/{digest_of(blob).replace(':', '/')}"
