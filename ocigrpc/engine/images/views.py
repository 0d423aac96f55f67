"""What a client is shown of an image."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from ocigrpc.engine.images.find import is_pinned
from ocigrpc.engine.images.records import ImageRecords
from ocigrpc.engine.images.rootfs import Roots
from ocigrpc.engine.images.storage import Image, Snapshot, Storage
from ocigrpc.engine.model.images import ImageView, LayerView
from ocigrpc.oci.images.reference import references


class Views:
    """Views of the images of one store; ``pinned`` are the names that nothing removes."""

    def __init__(
        self, storage: Storage, records: ImageRecords, roots: Roots, pinned: Sequence[str]
    ) -> None:
        self._storage = storage
        self._records = records
        self._roots = roots
        self._pinned = pinned

    def all_of(self, snapshot: Snapshot, images: Iterable[Image]) -> Iterator[ImageView]:
        """Images in a list, in this order."""
        users = self._roots.by_image()
        used = {each.image for each in self._storage.containers()} | users.keys()
        for image in images:
            containers = tuple(sorted(users.get(image.image_id, ())))
            yield self._view(snapshot, image, containers, image.image_id in used)

    def of(self, snapshot: Snapshot, image: Image) -> ImageView:
        """One image."""
        return next(self.all_of(snapshot, [image]))

    def _view(
        self, snapshot: Snapshot, image: Image, containers: tuple[str, ...], is_used: bool
    ) -> ImageView:
        stored, config = image.stored, image.file.config
        record = self._records.get(image.image_id)
        known = record.digests if record is not None else {}
        pulled_ns = record.pulled_ns if record is not None else 0
        digested = (
            reference.digested(known.get(name, stored.digest))
            for name, reference in references(image.names).items()
        )
        return ImageView(
            image_id=image.image_id,
            names=tuple(name for name in image.names if "@" not in name),
            is_dangling=not image.names,
            digests=tuple(dict.fromkeys(map(str, digested))),
            created_ns=image.file.created_ns,
            pulled_ns=pulled_ns or self._storage.put_ns(image.image_id),
            size_bytes=sum(each.size_bytes for each in image.chain),
            unique_bytes=sum(
                each.size_bytes for each in image.chain if snapshot.uses[each.id] == 1
            ),
            labels=config.labels,
            user=config.user,
            platform=image.file.platform,
            pinned=any(is_pinned(name, self._pinned) for name in image.names),
            container_ids=containers,
            is_used=is_used,
            used_ns=record.used_ns if record is not None else 0,
        )

    def layers(self, snapshot: Snapshot, image: Image) -> Iterator[LayerView]:
        """Its layers, lowest first."""
        for layer in reversed(image.chain):
            yield LayerView(
                diff_id=layer.diff_digest,
                digest=layer.packed_digest,
                size_bytes=layer.size_bytes,
                images=snapshot.uses[layer.id],
                path=self._storage.layer_path(layer.id),
            )
