"""Images as values, from layers to manifest lists, and OCI layouts that have them."""

from __future__ import annotations

import gzip
import hashlib
import json
import platform
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path

from tests.bed.images.layers import Entry, archive

CREATED = "2024-02-29T12:00:00Z"

OWN_PLATFORM = {
    "architecture": {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()],
    "os": "linux",
}
"""The machine's own."""

# With level 1 a layer is made in a third of the time.
_GZIP_LEVEL = 1


class Form(Enum):
    """The two families of media types; the values are those of manifest, list, config, layer."""

    OCI = (
        "application/vnd.oci.image.manifest.v1+json",
        "application/vnd.oci.image.index.v1+json",
        "application/vnd.oci.image.config.v1+json",
        "application/vnd.oci.image.layer.v1.tar",
    )
    DOCKER = (
        "application/vnd.docker.distribution.manifest.v2+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
        "application/vnd.docker.container.image.v1+json",
        "application/vnd.docker.image.rootfs.diff.tar",
    )


class Packing(Enum):
    """How layers are compressed; the values are the ends of their media types, as OCI has them."""

    NONE = ""
    GZIP = "+gzip"
    ZSTD = "+zstd"


def digest_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


@dataclass(frozen=True)
class Blob:
    """Bytes under the digest that they are asked for by, which is not theirs in a lie."""

    media_type: str
    data: bytes
    digest: str
    diff_id: str = ""
    """Of a layer: the digest before it was compressed."""

    def descriptor(self) -> dict[str, object]:
        return {"mediaType": self.media_type, "digest": self.digest, "size": len(self.data)}


@dataclass(frozen=True)
class Image:
    """A manifest and its blobs, or a manifest list and its images."""

    manifest: Blob
    config: Blob | None = None
    layers: tuple[Blob, ...] = ()
    children: tuple[Image, ...] = ()
    platform: Mapping[str, str] | None = None

    @property
    def digest(self) -> str:
        return self.manifest.digest

    @property
    def image_id(self) -> str:
        """The digest of its config without the algorithm, as storages name it."""
        assert self.config is not None
        return self.config.digest.removeprefix("sha256:")

    def blobs(self) -> Iterator[Blob]:
        """Configs and layers, also those of its images."""
        if self.config is not None:
            yield self.config
        yield from self.layers
        for child in self.children:
            yield from child.blobs()

    def manifests(self) -> Iterator[Blob]:
        """Its images' first, as registries want to have them."""
        for child in self.children:
            yield from child.manifests()
        yield self.manifest

    def lying_config(self) -> Image:
        """The same with a config whose bytes have another digest, and the same size."""
        assert self.config is not None
        return replace(self, config=_lie(self.config))

    def lying_layer(self, number: int = -1) -> Image:
        """The same with a layer whose bytes have another digest, and the same size."""
        layers = list(self.layers)
        layers[number] = _lie(layers[number])
        return replace(self, layers=tuple(layers))


def _lie(blob: Blob) -> Blob:
    return replace(blob, data=blob.data[:-1] + bytes([blob.data[-1] ^ 1]))


def layer(entries: Iterable[Entry], packing: Packing = Packing.GZIP, form: Form = Form.OCI) -> Blob:
    """A layer; zstd needs the program of that name."""
    plain = archive(entries)
    data = _packed(plain, packing)
    media_type = form.value[3] + packing.value
    if form is Form.DOCKER:
        media_type = media_type.replace("+", ".")
    return Blob(media_type, data, digest_of(data), digest_of(plain))


def _packed(plain: bytes, packing: Packing) -> bytes:
    if packing is Packing.NONE:
        return plain
    if packing is Packing.GZIP:
        return gzip.compress(plain, _GZIP_LEVEL, mtime=0)
    argv = ["zstd", "--quiet", "--stdout", "--no-check"]
    return subprocess.run(argv, input=plain, capture_output=True, check=True, timeout=60).stdout


def image(
    *layers: Iterable[Entry] | Blob,
    config: Mapping[str, object] | None = None,
    form: Form = Form.OCI,
    packing: Packing = Packing.GZIP,
    platform: Mapping[str, str] = OWN_PLATFORM,
    history: Sequence[Mapping[str, object]] = (),
    created: str = CREATED,
) -> Image:
    """An image of these layers, the lowest first.

    ``config`` is what containers get, as ``Cmd`` and ``Env``; ``platform`` has ``architecture``,
    ``os`` and perhaps ``variant``, and is the machine's own by default.
    """
    blobs = tuple(each if isinstance(each, Blob) else layer(each, packing, form) for each in layers)
    described = {
        "created": created,
        "author": "tests",
        **platform,
        "config": config or {},
        "rootfs": {"type": "layers", "diff_ids": [each.diff_id for each in blobs]},
        "history": list(history) or [{"created": CREATED, "created_by": "test"} for _ in blobs],
    }
    text = json.dumps(described).encode()
    config_blob = Blob(form.value[2], text, digest_of(text))
    manifest = _manifest_blob(
        form.value[0],
        config=config_blob.descriptor(),
        layers=[each.descriptor() for each in blobs],
    )
    return Image(manifest, config_blob, blobs, platform=platform)


def image_list(*images: Image, form: Form = Form.OCI) -> Image:
    """A manifest list (an index, in the words of OCI) of images for several platforms."""
    entries = [each.manifest.descriptor() | {"platform": each.platform} for each in images]
    return Image(_manifest_blob(form.value[1], manifests=entries), children=images)


def _manifest_blob(media_type: str, **fields: object) -> Blob:
    text = json.dumps({"schemaVersion": 2, "mediaType": media_type, **fields}).encode()
    return Blob(media_type, text, digest_of(text))


def write_layout(directory: Path, images: Mapping[str, Image]) -> Path:
    """An OCI layout at ``directory``, which must not exist, with images by their tags."""
    blobs = directory / "blobs/sha256"
    blobs.mkdir(parents=True)
    for each in images.values():
        for blob in (*each.blobs(), *each.manifests()):
            (blobs / blob.digest.removeprefix("sha256:")).write_bytes(blob.data)
    manifests = [
        each.manifest.descriptor() | {"annotations": {"org.opencontainers.image.ref.name": tag}}
        for tag, each in images.items()
    ]
    (directory / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": manifests}))
    (directory / "oci-layout").write_text(json.dumps({"imageLayoutVersion": "1.0.0"}))
    return directory
