"""Takes back what a pull has left in the store, whether it failed or was cut off.

That is an image with a temporary name, or layers that belong to no image yet, whose files a loss of
power may have truncated.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import nullcontext
from functools import partial

from msgspec import Struct

from ocigrpc.engine.images.program import Bench
from ocigrpc.engine.images.pulling.deletions import Deletions
from ocigrpc.engine.images.pulling.layers import remove_layers
from ocigrpc.engine.images.rootfs import Roots
from ocigrpc.engine.images.storage import Storage
from ocigrpc.engine.model.image_records import PullRecord
from ocigrpc.oci.images.skopeo import pulled_name
from ocigrpc.oci.images.storage import StoredLayer, orphans
from ocigrpc.oci.images.storage_edit import without_names
from ocigrpc.waiting import Deadline


class Failed(Struct, frozen=True):
    """A pull that is to be undone, and the layers that were there when skopeo had ended.

    They are named by their identities. Those that come later are of others.
    """

    record: PullRecord
    layers: frozenset[str]

    def left(self, layers: Mapping[str, StoredLayer], storage: Storage) -> Collection[str]:
        """The layers that the pull may have left."""
        blobs, images = self.record.blobs, storage.stored_images()
        found = set(orphans(blobs, layers, images, storage.containers()))
        # One that was cut off has no digest yet.
        found.update(each.id for each in layers.values() if not each.is_whole)
        own = self.layers.difference(self.record.before)
        return {each for each in found if layers[each].identity in own}


def undo(
    failed: Failed,
    storage: Storage,
    roots: Roots,
    deletions: Deletions,
    bench: Bench,
    deadline: Deadline,
    deleting: Deadline,
) -> bool:
    """Take it all back, but what images have, and answer whether all is gone.

    An image that was there before, or that a container uses, only loses its temporary name. What
    another program is bringing an image of stays. Each deletion of an image has a time of its own,
    within ``deleting``: one that is cut off each time would never come to its end.

    Raises ``ImagesFailed``, ``HostFailed``, ``StorageFull``, ``Timeout`` or ``Cancelled``.
    """
    record = failed.record
    own = {pulled_name(record.pull_id)}
    for image in storage.stored_images():
        names = set(image.names or ())
        # skopeo gives it a name when all else is done.
        is_unnamed = image.id == record.image_id and not record.was_there and not names
        if names.isdisjoint(own) and not is_unnamed:
            continue
        with roots.withheld(image.id) if names.issubset(own) else nullcontext():
            if names.issubset(own) and not _is_kept(image.id, record, storage, roots):
                deletions.take_back(image.id, bench, deleting)
            else:
                edit = partial(without_names, image_id=image.id, names=own)
                storage.edit_images(edit, deadline)
                deletions.forget(image.id)

    def choose(layers: Mapping[str, StoredLayer]) -> Collection[str]:
        return failed.left(layers, storage)

    are_gone = deletions.finish_taken_back(bench, deleting)
    return remove_layers(choose, record.pull_id, storage, bench, deadline) and are_gone


def _is_kept(image_id: str, record: PullRecord, storage: Storage, roots: Roots) -> bool:
    """Whether an image stays without a name, since it was so before, or is used."""
    others = {each.image for each in storage.containers()}
    was_there = record.was_there and image_id == record.image_id
    return was_there or image_id in others or bool(roots.users(image_id))
