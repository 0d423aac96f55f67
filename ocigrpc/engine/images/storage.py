"""One store of containers/storage, which other programs may read and change as well.

What it shows is whole: an image that lacks a layer or its config, or has none but the temporary
name of the pull that brings it, is not there. Its files are decoded again only when they have
changed.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import NamedTuple

from ocigrpc.failing import host_failing
from ocigrpc.log import get_logger
from ocigrpc.oci.images.config import CONFIG_LIMIT_BYTES, ImageFile, image_file
from ocigrpc.oci.images.lists import Decoded, await_lock, edit_list, explained
from ocigrpc.oci.images.manifest import MANIFEST_LIMIT_BYTES, Manifest, parse_manifest
from ocigrpc.oci.images.skopeo import is_temporary
from ocigrpc.oci.images.storage import (
    CONTAINER_FILES,
    IMAGES_FILE,
    IMAGES_LOCK,
    LAYERS_FILE,
    LAYERS_LOCK,
    VOLATILE_LAYERS_FILE,
    StoredContainer,
    StoredImage,
    StoredLayer,
    big_data_path,
    chain_of,
    config_path,
    on_lasting_layers,
    stored_containers,
    stored_images,
    stored_layers,
)
from ocigrpc.waiting import Deadline

log = get_logger()


class Image(NamedTuple):
    """An image of the store, whole; ``chain`` are its layers, topmost first."""

    image_id: str
    names: tuple[str, ...]
    stored: StoredImage
    chain: Sequence[StoredLayer]
    file: ImageFile

    def has_manifest(self, digest: str) -> bool:
        """Whether this is the digest of its manifest, or of a list that it was pulled from."""
        names: Collection[str] = self.stored.big_data_names or ()
        return self.stored.digest == digest or f"manifest-{digest}" in names


class Snapshot(NamedTuple):
    """What a store has at one moment: images by their ids, and how many of them have a layer."""

    images: Mapping[str, Image]
    uses: Mapping[str, int]

    def named(self, name: str) -> Image | None:
        """The image that has a whole name now."""
        return next((each for each in self.images.values() if name in each.names), None)


class Storage:
    """The store in directory ``root``, which need not be there yet.

    Raises ``ImagesFailed`` (STORAGE_DAMAGED) for a list that can't be read, ``HostFailed``.
    """

    def __init__(self, root: str) -> None:
        self.root = Path(root)
        self._images = Decoded(self.root / IMAGES_FILE, stored_images)
        self._layers = Decoded(self.root / LAYERS_FILE, stored_layers)
        self._containers = [
            Decoded(self.root / each, stored_containers) for each in CONTAINER_FILES
        ]
        self._volatile_layers = Decoded(self.root / VOLATILE_LAYERS_FILE, stored_layers)
        self._configs: dict[str, ImageFile] = {}
        # What has been logged of images that are not shown.
        self._problems: dict[str, str] = {}
        self._hidden = set[str]()
        self._kept = frozenset[str]()
        self._lock = Lock()
        # What the snapshot was made of.
        self._seen: tuple[object, object] | None = None
        self._snapshot = Snapshot({}, {})

    def snapshot(self) -> Snapshot:
        """What there is now; takes no lock of the store's."""
        with self._lock:
            # In this order: a layer is there before the image that has it.
            images, layers = self._images.read(), self._layers.read()
            if self._seen is None or self._seen[0] is not images or self._seen[1] is not layers:
                self._snapshot = self._whole(images or (), layers or {})
                self._seen = images, layers
            return self._snapshot

    def stored_images(self) -> Sequence[StoredImage]:
        """All images, also those that are not whole or have temporary names alone."""
        with self._lock:
            return self._images.read() or ()

    def stored_layers(self) -> Mapping[str, StoredLayer]:
        """All layers by their ids, also those of no image."""
        with self._lock:
            return self._layers.read() or {}

    def pulled(self, name: str) -> Image | None:
        """The image that has a temporary name; None if there is none, or it is not whole."""
        return self._first(lambda each: name in (each.names or ()))

    def image(self, image_id: str) -> Image | None:
        """The image with an id, whatever its names; None if there is none, or it is not whole."""
        return self._first(lambda each: each.id == image_id)

    def _first(self, is_wanted: Callable[[StoredImage], bool]) -> Image | None:
        with self._lock, suppress(ValueError):
            images, layers = self._images.read() or (), self._layers.read() or {}
            for each in filter(is_wanted, images):
                return self._image(each, layers)
        return None

    def is_there(self) -> bool:
        """Whether there is a store: its disk may not be mounted yet, or nothing was ever pulled.

        Nor is there one on a disk that answers with errors.
        """
        # Unlike Path.is_dir(), which raises some of these.
        return os.path.isdir((self.root / IMAGES_FILE).parent)

    def keep(self, image_ids: Collection[str]) -> None:
        """Show these images, and no others, also while they have none but temporary names."""
        with self._lock:
            self._kept = frozenset(image_ids)
            self._seen = None

    def hide(self, image_id: str) -> None:
        """Show an image only while it has a name, since it is to go."""
        with self._lock:
            self._hidden.add(image_id)
            self._seen = None

    def show(self, image_id: str) -> None:
        """Undo :meth:`hide`."""
        with self._lock:
            self._hidden.discard(image_id)
            self._seen = None

    def containers(self) -> Sequence[StoredContainer]:
        """The containers of other programs, with layers that :meth:`stored_layers` has."""
        with self._lock:
            # In this order: a layer is there before the container that has it.
            found = [each for file in self._containers for each in file.read() or ()]
            return list(on_lasting_layers(found, self._volatile_layers.read() or {}))

    def users(self, image_id: str) -> Sequence[StoredContainer]:
        """The containers of other programs that use an image."""
        return [each for each in self.containers() if each.image == image_id]

    def layer_path(self, layer_id: str) -> str:
        """The directory with the files of a layer."""
        return str(self.root / "overlay" / layer_id / "diff")

    def put_ns(self, image_id: str) -> int:
        """When an image was put into the store, in nanoseconds since 1970; 0 if it is not there.

        What the list of images has for that is when it was built.
        """
        with host_failing("read", self.root), suppress(FileNotFoundError):
            return os.stat(self.root / config_path(image_id)).st_mtime_ns
        return 0

    @property
    def overlay_dir(self) -> str:
        """The directory that all layers are in."""
        return str(self.root / "overlay")

    def link(self, layer_id: str) -> str:
        """The short path of a layer's files below :attr:`overlay_dir`. Raises ``ImagesFailed``."""
        # Read each time: another program may have made the layer anew, with another path.
        path = self.root / "overlay" / layer_id / "link"
        with explained(path):
            return f"l/{path.read_text().strip()}"

    def edit_images(self, edit: Callable[[bytes], bytes], deadline: Deadline) -> None:
        """Change the list of images as a whole, in turn with all programs that do.

        ``edit`` gets what it is then, and may raise ``ValueError``, which becomes ``ImagesFailed``.
        """
        edit_list(self.root / IMAGES_FILE, self.root / IMAGES_LOCK, edit, deadline)

    def edit_layers(self, edit: Callable[[bytes], bytes], deadline: Deadline) -> None:
        """The same for the list of layers, which others keep locked while they unpack one."""
        edit_list(self.root / LAYERS_FILE, self.root / LAYERS_LOCK, edit, deadline)

    def await_layers(self, deadline: Deadline) -> None:
        """Return when nobody has the list of layers locked; raises as :meth:`edit_layers`."""
        if self.is_there():
            await_lock(self.root / LAYERS_LOCK, deadline)

    def _whole(self, images: Sequence[StoredImage], layers: Mapping[str, StoredLayer]) -> Snapshot:
        found, problems = dict[str, Image](), dict[str, str]()
        for stored in images:
            try:
                image = self._image(stored, layers)
            except ValueError as error:
                # One without a name, or with a temporary one, may not have come to its end.
                if not all(map(is_temporary, stored.names or ())):
                    problems[stored.id] = str(error)
                continue
            # One that has temporary names alone is not whole yet, unless it was there before.
            is_shown = stored.id not in self._hidden and (
                not stored.names or stored.id in self._kept
            )
            if image.names or is_shown:
                found[stored.id] = image
        for image_id, problem in problems.items() - self._problems.items():
            log.warning("image.not_shown", image_id=image_id, problem=problem)
        self._problems = problems
        self._configs = {each: config for each, config in self._configs.items() if each in found}
        uses = Counter(layer.id for image in found.values() for layer in image.chain)
        return Snapshot(found, uses)

    def _image(self, stored: StoredImage, layers: Mapping[str, StoredLayer]) -> Image:
        """An image. Raises ``ValueError`` if it lacks something."""
        names = tuple(each for each in stored.names or () if not is_temporary(each))
        chain = chain_of(stored.layer, layers)
        return Image(stored.id, names, stored, chain, self._config(stored.id))

    def _config(self, image_id: str) -> ImageFile:
        """The config of an image, which never changes. Raises ``ValueError``."""
        if image_id not in self._configs:
            try:
                self._configs[image_id] = image_file(self._config_text(image_id))
            except OSError as error:
                raise ValueError(f"its config can't be read: {error}") from error
        return self._configs[image_id]

    def _config_text(self, image_id: str) -> bytes:
        try:
            return self._big_data(image_id, f"sha256:{image_id}", CONFIG_LIMIT_BYTES)
        except FileNotFoundError:
            # One of which not all layers came as whole archives has another id than its config's.
            manifest = parse_manifest(self._big_data(image_id, "manifest", MANIFEST_LIMIT_BYTES))
            if not isinstance(manifest, Manifest):
                raise
            return self._big_data(image_id, manifest.config.digest, CONFIG_LIMIT_BYTES)

    def _big_data(self, image_id: str, key: str, limit_bytes: int) -> bytes:
        """A file of an image, with one byte more than the limit if it is larger."""
        with open(self.root / big_data_path(image_id, key), "rb") as file:
            return file.read(limit_bytes + 1)
