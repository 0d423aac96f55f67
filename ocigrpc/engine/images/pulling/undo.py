"""Takes back what a pull has left in the store, whether it failed or was cut off.

A layer that is whole belongs to no image yet, and nothing removes it: neither the store nor skopeo,
which would use it again even if a loss of power has truncated its files. So it is marked as one
that is not whole. The store removes such layers when a program opens it for writing.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import nullcontext
from functools import partial

from ocigrpc.engine.images.failures import in_use
from ocigrpc.engine.images.program import Bench
from ocigrpc.engine.images.rootfs import Roots
from ocigrpc.engine.images.storage import Storage
from ocigrpc.engine.model.image_records import PullRecord
from ocigrpc.errors import cut
from ocigrpc.image_errors import ImagesFailed
from ocigrpc.oci.images.empty_image import layout
from ocigrpc.oci.images.skopeo import pulled_name, waking_name
from ocigrpc.oci.images.skopeo_errors import meaning_of
from ocigrpc.oci.images.storage import StoredLayer, orphans, stored_layers
from ocigrpc.oci.images.storage_edit import with_incomplete, without_names
from ocigrpc.waiting import Deadline

# Older versions remove some of the marked layers each time; 127 took three times.
_WAKES_LIMIT = 20
# How long the removal of an image may take: the largest ones, on slow disks that are shared.
_DELETE_S = 60.0


def undo(
    record: PullRecord, storage: Storage, roots: Roots, bench: Bench, deadline: Deadline
) -> None:
    """Take it all back, but what images have; does nothing the second time.

    An image that was there before, or that a container uses, only loses its temporary name.

    Raises ``ImagesFailed``, ``HostFailed``, ``StorageFull``, ``Timeout`` or ``Cancelled``.
    """
    _remove_images(record, storage, roots, bench, deadline)
    marked = set[str]()

    def mark(text: bytes) -> bytes:
        # Nobody unpacks a layer now, since others keep the list locked meanwhile.
        marked.update(_left(record, stored_layers(text), storage))
        return with_incomplete(text, marked)

    if _left(record, storage.stored_layers(), storage):
        storage.edit_layers(mark, deadline)
        _wake(record, marked, storage, bench, deadline)
        _remove_images(record, storage, roots, bench, deadline)


def _left(
    record: PullRecord, layers: Mapping[str, StoredLayer], storage: Storage
) -> Collection[str]:
    """The layers that the pull may have left; one that was cut off has no digest yet."""
    found = orphans(record.blobs, layers, storage.stored_images(), storage.containers())
    return {*found, *(each.id for each in layers.values() if not each.is_whole)}


def delete(image_id: str, storage: Storage, bench: Bench) -> None:
    """Remove an image, with its names, and the layers that no other one has.

    It ends by itself, whatever its caller waits for: cut off, it leaves layers that nobody removes.
    Raises ``ImageUnusable`` (IMAGE_IN_USE) if another program has begun to use it.
    """
    try:
        _run(bench.skopeo.delete(image_id, bench.directory), bench, Deadline(_DELETE_S))
    except ImagesFailed as error:
        # Another program may have been faster, or a removal that an earlier service has begun.
        if image_id not in {each.id for each in storage.stored_images()}:
            return
        if meaning_of(error.metadata["output"]).reason == "IMAGE_IN_USE":
            raise in_use(image_id, max(len(storage.users(image_id)), 1)) from error
        raise


def _remove_images(
    record: PullRecord, storage: Storage, roots: Roots, bench: Bench, deadline: Deadline
) -> None:
    """Take the pull's own names from images, and remove those that it has brought."""
    own = {pulled_name(record.pull_id), waking_name(record.pull_id)}
    for image in storage.stored_images():
        names = set(image.names or ())
        # skopeo gives it a name when all else is done.
        is_unnamed = image.id == record.image_id and not record.was_there and not names
        if names.isdisjoint(own) and not is_unnamed:
            continue
        with roots.withheld(image.id) if names.issubset(own) else nullcontext():
            if names.issubset(own) and not _is_kept(image.id, record, storage, roots):
                delete(image.id, storage, bench)
            else:
                edit = partial(without_names, image_id=image.id, names=own)
                storage.edit_images(edit, deadline)


def _is_kept(image_id: str, record: PullRecord, storage: Storage, roots: Roots) -> bool:
    """Whether an image stays without a name, since it was so before, or is used."""
    others = {each.image for each in storage.containers()}
    was_there = record.was_there and image_id == record.image_id
    return was_there or image_id in others or bool(roots.users(image_id))


def _wake(
    record: PullRecord,
    marked: Collection[str],
    storage: Storage,
    bench: Bench,
    deadline: Deadline,
) -> None:
    """Have the store remove the marked layers."""
    for name, content in layout(record.pull_id).items():
        bench.write(f"empty/{name}", content)
    argv = bench.skopeo.wake(
        f"{bench.directory}/empty", waking_name(record.pull_id), bench.directory
    )
    for _ in range(_WAKES_LIMIT):
        _run(argv, bench, deadline)
        if storage.stored_layers().keys().isdisjoint(marked):
            return
    raise ImagesFailed(f"the store keeps {len(marked)} layers that are not whole", output="")


def _run(argv: Sequence[str], bench: Bench, deadline: Deadline) -> None:
    ended = bench.run_unwatched(argv, deadline)
    if ended.returncode:
        output = cut(ended.failure_text)
        raise ImagesFailed(f"skopeo could not remove what is not needed: {output}", output=output)
