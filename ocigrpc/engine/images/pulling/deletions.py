"""Deletes images, with the layers that nothing else is made of, whatever cuts that off.

skopeo takes an image off the list, and then removes its layers. If it is killed, some are left that
nothing is made of, and may lack files. So what is to go is in the service's store before.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from threading import Lock

from ocigrpc.engine.images.failures import in_use
from ocigrpc.engine.images.program import Bench
from ocigrpc.engine.images.pulling.layers import remove_files, remove_layers, run
from ocigrpc.engine.images.storage import Storage
from ocigrpc.engine.model.image_records import RemovalRecord
from ocigrpc.engine.store.store import Store
from ocigrpc.errors import OcigrpcError, StoreFailed
from ocigrpc.log import get_logger
from ocigrpc.oci.images.skopeo import is_temporary
from ocigrpc.oci.images.skopeo_errors import meaning_of
from ocigrpc.oci.images.storage import StoredImage, StoredLayer, layers_below, unused_layers
from ocigrpc.waiting import Deadline

# How long one removal of an image may take: the largest ones, on slow disks that are shared.
DELETE_S = 60.0

log = get_logger()


class Deletions:
    """The deletions of one storage, and their records."""

    def __init__(self, storage: Storage, store: Store) -> None:
        """Raises ``StoreFailed``."""
        self._storage = storage
        self._store = store
        self._lock = Lock()
        self._records = {each.image_id: each for each in store.records(RemovalRecord)}
        # The images that no client has let go, but a pull has left.
        self._taken_back = set[str]()

    def owed(self) -> Collection[str]:
        """The ids of the images that are to go, or have not gone whole."""
        return list(self._records)

    def begin(self, image_id: str) -> None:
        """Remember that an image is to go, also after a loss of power. Raises ``ImagesFailed``."""
        with self._lock:
            if image_id in self._records:
                return
            found, layers = self._image(image_id), self._storage.stored_layers()
            own = (
                layers[each].identity for each in layers_below(found.tops if found else (), layers)
            )
            record = self._records[image_id] = RemovalRecord(image_id, tuple(own))
            try:
                self._store.put(record)
                self._store.sync()
            except StoreFailed as error:
                # A removal must not take room on a disk, and may be what makes some.
                log.error("intent.unwritten", verb="remove_image", error=error.message)

    def forget(self, image_id: str) -> None:
        """Forget one that is gone, or is to stay; no error if it is forgotten."""
        with self._lock:
            self._taken_back.discard(image_id)
            record = self._records.pop(image_id, None)
            if record is None:
                return
            try:
                self._store.delete(record.key)
            except StoreFailed as error:
                # The next start finds that it is gone, or has a name.
                log.warning("removal.not_forgotten", image_id=image_id, error=error.message)

    def forget_named(self, image_id: str) -> None:
        """Forget that an image is to go if it has a name after all."""
        found = self._image(image_id)
        if found is not None and has_name(found):
            self.forget(image_id)

    def delete(self, image_id: str, bench: Bench, deadline: Deadline) -> bool:
        """Delete an image, with its names, and the layers that nothing else is made of.

        It is owed until :meth:`forget`. An error means that it is all there; but for what
        :meth:`finish` raises, whose answer is the same. Raises
        ``ImageUnusable`` (IMAGE_IN_USE) if another program uses it, ``ImagesFailed``,
        ``HostFailed``, ``StorageFull``, ``Timeout`` or ``Cancelled``.
        """
        self.begin(image_id)
        try:
            run(bench.skopeo.delete(image_id, bench.directory), bench, deadline)
        except OcigrpcError as error:
            if self._image(image_id) is not None:
                if meaning_of(error.metadata.get("output", "")).reason == "IMAGE_IN_USE":
                    users = max(len(self._storage.users(image_id)), 1)
                    raise in_use(image_id, users) from error
                raise
            # It was cut off, or another program was faster.
            return self.finish(image_id, bench, deadline)
        return True

    def finish(self, image_id: str, bench: Bench, deadline: Deadline) -> bool:
        """Remove what a deletion that was cut off has left of an image, which is not listed.

        False if another program is bringing an image of its layers, so that they go later, or
        belong to that one. Raises as :meth:`delete`.
        """
        record = self._records.get(image_id)
        if record is None:
            return True

        def choose(layers: Mapping[str, StoredLayer]) -> Collection[str]:
            return self._left_of(record, layers)

        are_gone = remove_layers(choose, image_id, self._storage, bench, deadline)
        remove_files(image_id, self._storage, deadline)
        return are_gone

    def take_back(self, image_id: str, bench: Bench, deadline: Deadline) -> None:
        """Delete an image that a pull has left; :meth:`finish_taken_back` comes after it.

        Raises as :meth:`delete`.
        """
        self._taken_back.add(image_id)
        self.delete(image_id, bench, deadline.within(DELETE_S))

    def finish_taken_back(self, bench: Bench, deadline: Deadline) -> bool:
        """Finish and forget those that pulls have left, unless they are listed; as :meth:`finish`.

        False if one is left.
        """
        are_gone = True
        for image_id in list(self._taken_back):
            if self._image(image_id) is not None:
                continue
            if self.finish(image_id, bench, deadline.within(DELETE_S)):
                self.forget(image_id)
            else:
                are_gone = False
        return are_gone

    def cut_off(self, blobs: Collection[str]) -> str | None:
        """An image that has left layers of these blobs, which may lack files; None if none has."""
        layers = self._storage.stored_layers()
        for record in list(self._records.values()):
            if self._image(record.image_id) is None and any(
                layers[each].is_of(blobs) for each in self._left_of(record, layers)
            ):
                return record.image_id
        return None

    def _left_of(self, record: RemovalRecord, layers: Mapping[str, StoredLayer]) -> Collection[str]:
        images, containers = self._storage.stored_images(), self._storage.containers()
        unused = unused_layers(layers, images, containers)
        return {each for each in unused if layers[each].identity in record.layers}

    def _image(self, image_id: str) -> StoredImage | None:
        return next((each for each in self._storage.stored_images() if each.id == image_id), None)


def has_name(image: StoredImage) -> bool:
    """Whether an image has a name that is not a pull's."""
    return not all(map(is_temporary, image.names or ()))
