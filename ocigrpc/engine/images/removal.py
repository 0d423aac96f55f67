"""Takes names away from images, and removes those without."""

from __future__ import annotations

from collections.abc import Callable, Collection

from ocigrpc.engine.images.find import Finder, is_pinned
from ocigrpc.engine.images.records import ImageRecords
from ocigrpc.engine.images.rootfs import Roots
from ocigrpc.engine.images.storage import Image, Storage
from ocigrpc.engine.model.images import RemovedImage
from ocigrpc.image_errors import ImageUnusable
from ocigrpc.oci.images.reference import image_id_of
from ocigrpc.oci.images.skopeo import is_temporary
from ocigrpc.oci.images.storage import stored_images
from ocigrpc.oci.images.storage_edit import without_names
from ocigrpc.settings.values import Settings
from ocigrpc.waiting import Deadline

# How long the removal of a container waits for its image to go as well.
_FINISH_S = 10.0


class Removal:
    """Removes from one store, as the settings allow."""

    def __init__(
        self,
        storage: Storage,
        finder: Finder,
        roots: Roots,
        records: ImageRecords,
        delete: Callable[[str, Deadline], tuple[str, ...]],
        settings: Settings,
    ) -> None:
        """``delete`` removes an image, by its id, that has no name any more.

        If containers use it, it goes with the last of them, and they are returned.
        """
        self._storage = storage
        self._finder = finder
        self._roots = roots
        self._records = records
        self._delete = delete
        self._pinned = settings.images.pinned

    def remove(self, text: str, all_names: bool, deadline: Deadline) -> RemovedImage:
        """What ``RemoveImage`` does; nothing if there is no such image."""
        image = self._finder.find(self._storage.snapshot(), text)
        if image is None:
            return RemovedImage()
        untagged = self._untagged(image, text, all_names)
        self._refuse_pinned(image, untagged)
        goes = len(untagged) == len(image.names)
        with self._roots.withheld(image.image_id):
            if goes:
                self._refuse_used(image)
            # Others may have given it names meanwhile, or have taken them.
            if untagged and self._take(image, untagged, deadline):
                return RemovedImage(untagged)
            # Once it has no name: what is released from now on takes the image with it.
            users = self._roots.let_go(image.image_id)
            if not users:
                users = self._delete(image.image_id, deadline)
        return RemovedImage(untagged, image.image_id, users)

    def finish(self, image_id: str) -> None:
        """Remove an image that was in use when it lost its last name, unless it has one again."""
        deadline = Deadline(_FINISH_S)
        with self._roots.withheld(image_id):
            image = self._storage.snapshot().images.get(image_id)
            if image is not None and not image.names and not self._roots.users(image_id):
                self._delete(image_id, deadline)

    def _take(self, image: Image, names: Collection[str], deadline: Deadline) -> Collection[str]:
        """Take names from an image; those that it still has."""
        left = list[str]()

        def edit(content: bytes) -> bytes:
            changed = without_names(content, image.image_id, names)
            found = (each.names for each in stored_images(changed) if each.id == image.image_id)
            left.extend(each for each in next(found, None) or () if not is_temporary(each))
            return changed

        self._storage.edit_images(edit, deadline)
        self._records.untagged(image.image_id, names)
        return left

    def _untagged(self, image: Image, text: str, all_names: bool) -> tuple[str, ...]:
        """The names that are to go."""
        if all_names:
            return image.names
        if image_id_of(text):
            if len(image.names) > 1:
                raise ImageUnusable(
                    f"image {text!r} has several names: {' '.join(image.names)}",
                    reason="IMAGE_HAS_NAMES",
                    image=text,
                    names=" ".join(image.names),
                )
            return image.names
        return self._finder.names_meant(image, text)

    def _refuse_pinned(self, image: Image, untagged: Collection[str]) -> None:
        for name in untagged:
            if is_pinned(name, self._pinned):
                raise ImageUnusable(
                    f"image {name!r} is pinned by the settings",
                    reason="IMAGE_PINNED",
                    image=name,
                )

    def _refuse_used(self, image: Image) -> None:
        users = [each for each in self._storage.containers() if each.image == image.image_id]
        if users:
            raise ImageUnusable(
                f"another program has {len(users)} containers of image {image.image_id}",
                reason="IMAGE_IN_USE",
                image=image.image_id,
                containers=len(users),
            )
