"""The files of containers/storage, as podman, buildah and skopeo share them; see its ``docs``.

ROOT/overlay-images/images.json and ROOT/overlay-layers/layers.json list what there is, and are
replaced as a whole, so that a reader needs no lock. Read the images first: a layer is there before
the image that has it.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Collection, Iterable, Iterator, KeysView, Mapping, Sequence

import msgspec
from msgspec import Struct

from ocigrpc.oci.decoding import decoded

# Most layers that the kernel mounts over each other.
LAYERS_LIMIT = 500

IMAGES_FILE = "overlay-images/images.json"
IMAGES_LOCK = "overlay-images/images.lock"
LAYERS_FILE = "overlay-layers/layers.json"
LAYERS_LOCK = "overlay-layers/layers.lock"
# The second one has those that need not survive a crash, as containers that podman runs with --rm.
CONTAINER_FILES = (
    "overlay-containers/containers.json",
    "overlay-containers/volatile-containers.json",
)
# The layers that containers of the second one have written to.
VOLATILE_LAYERS_FILE = "overlay-layers/volatile-layers.json"

# Such keys are file names, others are encoded.
_PLAIN_KEY = re.compile("[a-z0-9]+", re.ASCII)


class StoredImage(Struct, frozen=True):
    """An image of a store. ``id`` is the digest of its config, ``layer`` the topmost one."""

    id: str
    digest: str = ""
    names: list[str] | None = None
    layer: str = ""
    mapped_layers: list[str] | None = msgspec.field(name="mapped-layers", default=None)
    big_data_names: list[str] | None = msgspec.field(name="big-data-names", default=None)

    @property
    def tops(self) -> Sequence[str]:
        """Its topmost layer, and copies of that for containers with other users."""
        return [self.layer, *(self.mapped_layers or ())]


class StoredLayer(Struct, frozen=True):
    """A layer of a store: digests and sizes in bytes of its archive, packed and not."""

    id: str
    parent: str = ""
    created: str = ""
    packed_digest: str = msgspec.field(name="compressed-diff-digest", default="")
    diff_digest: str = msgspec.field(name="diff-digest", default="")
    packed_size: int = msgspec.field(name="compressed-size", default=0)
    diff_size: int = msgspec.field(name="diff-size", default=0)
    flags: dict[str, object] | None = None

    @property
    def size_bytes(self) -> int:
        """Its bytes, unpacked; 0 if nobody has counted them."""
        return max(self.diff_size, 0)

    @property
    def identity(self) -> str:
        """What no other layer has: its id is that of each layer with the same files."""
        return f"{self.id}@{self.created}"

    def is_of(self, blobs: Collection[str]) -> bool:
        """Whether it is made of one of these, by their digests, packed or not."""
        return not {self.packed_digest, self.diff_digest}.isdisjoint(blobs)

    @property
    def is_whole(self) -> bool:
        """Whether it was unpacked to its end."""
        return not (self.flags or {}).get("incomplete")


class StoredContainer(Struct, frozen=True):
    """A container of another program, with the image and the layer that it uses."""

    id: str
    image: str = ""
    layer: str = ""


# Made at import: msgspec crashes when two threads use a type for the first time.
_IMAGES = msgspec.json.Decoder(list[StoredImage])
_LAYERS = msgspec.json.Decoder(list[StoredLayer])
_CONTAINERS = msgspec.json.Decoder(list[StoredContainer])


def stored_images(text: bytes) -> Sequence[StoredImage]:
    """The images of an ``images.json``; none for an empty one. Raises ``ValueError``."""
    return decoded(_IMAGES, text) if text else []


def stored_layers(text: bytes) -> Mapping[str, StoredLayer]:
    """The layers of a ``layers.json`` by their ids. Raises ``ValueError``."""
    return {each.id: each for each in (decoded(_LAYERS, text) if text else [])}


def stored_containers(text: bytes) -> Sequence[StoredContainer]:
    """The containers of a ``containers.json``, or a volatile one. Raises ``ValueError``."""
    return decoded(_CONTAINERS, text) if text else []


def on_lasting_layers(
    containers: Iterable[StoredContainer], volatile: Mapping[str, StoredLayer]
) -> Iterator[StoredContainer]:
    """Containers with the topmost layer of each that is not one of these volatile ones."""
    for each in containers:
        layer_id, left = each.layer, LAYERS_LIMIT
        while layer_id in volatile and left:
            layer_id, left = volatile[layer_id].parent, left - 1
        yield StoredContainer(each.id, each.image, layer_id)


def chain_of(top: str, layers: Mapping[str, StoredLayer]) -> Sequence[StoredLayer]:
    """A layer and all below it, topmost first.

    Raises ``ValueError`` if one is missing or not whole, and if they have no end.
    """
    chain = list[StoredLayer]()
    while top:
        layer = layers.get(top)
        if layer is None or not layer.is_whole:
            raise ValueError(f"layer {top} is {'not whole' if layer else 'missing'}")
        if len(chain) == LAYERS_LIMIT:
            raise ValueError(f"there are more than {LAYERS_LIMIT} layers")
        chain.append(layer)
        top = layer.parent
    return chain


def orphans(
    blobs: Collection[str],
    layers: Mapping[str, StoredLayer],
    images: Sequence[StoredImage],
    containers: Sequence[StoredContainer],
) -> Collection[str]:
    """The layers made of these blobs, by their digests, that nothing in the store is made of."""
    found = unused_layers(layers, images, containers)
    return {each for each in found if layers[each].is_of(blobs)}


def unused_layers(
    layers: Mapping[str, StoredLayer],
    images: Sequence[StoredImage],
    containers: Sequence[StoredContainer],
) -> Collection[str]:
    """The layers that nothing in the store is made of."""
    tops = [*(each.layer for each in containers), *(top for each in images for top in each.tops)]
    return layers.keys() - layers_below(tops, layers)


def layers_below(tops: Iterable[str], layers: Mapping[str, StoredLayer]) -> KeysView[str]:
    """These layers and all below them, as far as they are there."""
    found = dict[str, None]()
    for layer_id in tops:
        while layer_id in layers and layer_id not in found:
            found[layer_id] = None
            layer_id = layers[layer_id].parent
    return found.keys()


def big_data_path(image_id: str, key: str) -> str:
    """Where a store has a file of an image: "manifest", or "sha256:" and the id for its config."""
    name = key if _PLAIN_KEY.fullmatch(key) else "=" + base64.b64encode(key.encode()).decode()
    return f"{files_path(image_id)}/{name}"


def files_path(image_id: str) -> str:
    """The directory of a store with the files of an image."""
    return f"overlay-images/{image_id}"


def config_path(image_id: str) -> str:
    """Where a store has the config of an image."""
    return big_data_path(image_id, f"sha256:{image_id}")
