"""Removes layers that are whole, and belong to nothing.

Nothing else does that: neither the store nor skopeo, which would use them again even if they lack
files. So they are marked as ones that are not whole. The store removes such layers when a program
opens it for writing.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from typing import TypeAlias

from ocigrpc.engine.images.program import Bench
from ocigrpc.engine.images.storage import Storage
from ocigrpc.errors import cut
from ocigrpc.failing import host_failing
from ocigrpc.host.files.locked_file import record_locked
from ocigrpc.host.files.tree import remove_tree
from ocigrpc.image_errors import ImagesFailed
from ocigrpc.oci.images.empty_image import empty_image_id, layout
from ocigrpc.oci.images.skopeo import waking_name
from ocigrpc.oci.images.skopeo_errors import meaning_of
from ocigrpc.oci.images.storage import (
    IMAGES_LOCK,
    StoredLayer,
    files_path,
    layers_below,
    stored_layers,
)
from ocigrpc.oci.images.storage_edit import with_incomplete
from ocigrpc.waiting import Deadline

# Older versions remove some of the marked layers each time; 127 took three times.
_WAKES_LIMIT = 20

# The ids of the layers that are to go, among those that are there.
Choice: TypeAlias = Callable[[Mapping[str, StoredLayer]], Collection[str]]


def remove_layers(
    choose: Choice, mark: str, storage: Storage, bench: Bench, deadline: Deadline
) -> bool:
    """Remove the layers that are chosen, and answer whether all are gone.

    Those stay that others rest on which are not chosen: another program is bringing an image of
    them, which it has not listed yet. ``mark`` is in the name of an image that is there meanwhile.
    Raises ``ImagesFailed``, ``HostFailed``, ``StorageFull``, ``Timeout`` or ``Cancelled``.
    """
    marked = set[str]()

    def edit(text: bytes) -> bytes:
        # Nobody unpacks a layer now, since others keep the list locked meanwhile.
        marked.update(_unshared(choose, stored_layers(text)))
        return with_incomplete(text, marked)

    if _unshared(choose, storage.stored_layers()):
        storage.edit_layers(edit, deadline)
        _wake(mark, marked, storage, bench, deadline)
    for image in storage.stored_images():
        # skopeo gives it a name when all else is done, and may have been killed before.
        is_unnamed = not image.names and image.id == empty_image_id(mark)
        if is_unnamed or waking_name(mark) in (image.names or ()):
            run(bench.skopeo.delete(image.id, bench.directory), bench, deadline)
    return not choose(storage.stored_layers())


def _unshared(choose: Choice, layers: Mapping[str, StoredLayer]) -> Collection[str]:
    """The layers that are chosen and that no other one rests on."""
    chosen = set(choose(layers))
    # One that is not whole while nobody unpacks it is removed as well.
    others = (each.id for each in layers.values() if each.is_whole and each.id not in chosen)
    return chosen.difference(layers_below(others, layers))


def remove_files(image_id: str, storage: Storage, deadline: Deadline) -> None:
    """Remove the files of an image that is not listed any more, its manifest and config.

    Raises ``HostFailed``, ``Timeout``, ``Cancelled``; ``PreconditionFailed`` for a mount there.
    """
    directory = storage.root / files_path(image_id)
    with (
        host_failing("remove", directory),
        suppress(FileNotFoundError),
        # Whoever lists it makes them while it is locked.
        record_locked(storage.root / IMAGES_LOCK, deadline),
    ):
        if image_id not in {each.id for each in storage.stored_images()}:
            remove_tree(str(storage.root), str(directory))


def run(argv: Sequence[str], bench: Bench, deadline: Deadline) -> None:
    """Run skopeo to change the store. Raises ``ImagesFailed`` and as :meth:`.run_unwatched`."""
    ended = bench.run_unwatched(argv, deadline)
    if ended.returncode:
        output = cut(ended.failure_text)
        raise ImagesFailed(f"skopeo could not remove what is not needed: {output}", output=output)


def _wake(
    mark: str, marked: Collection[str], storage: Storage, bench: Bench, deadline: Deadline
) -> None:
    """Have the store remove the marked layers."""
    for name, content in layout(mark).items():
        bench.write(f"empty/{name}", content)
    argv = bench.skopeo.wake(f"{bench.directory}/empty", waking_name(mark), bench.directory)
    has_room = False
    for _ in range(_WAKES_LIMIT):
        try:
            run(argv, bench, deadline)
        except ImagesFailed as error:
            is_full = meaning_of(error.metadata.get("output", "")).reason == "STORAGE_FULL"
            if has_room or not is_full:
                raise
            _make_room(marked, storage, deadline)
            has_room = True
        if storage.stored_layers().keys().isdisjoint(marked):
            return
    raise ImagesFailed(f"the store keeps {len(marked)} layers that are not whole", output="")


def _make_room(marked: Collection[str], storage: Storage, deadline: Deadline) -> None:
    """Remove the files of the marked layers, which the store does once it has written its lists."""

    def empty(text: bytes) -> bytes:
        # Nobody unpacks them now, since others keep the list locked meanwhile.
        for layer in stored_layers(text).values():
            if layer.id in marked and not layer.is_whole:
                with suppress(FileNotFoundError):
                    remove_tree(str(storage.root), storage.layer_path(layer.id))
        return text

    storage.edit_layers(empty, deadline)
