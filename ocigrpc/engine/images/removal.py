"""Takes names away from images, and removes those without."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import ExitStack

from ocigrpc.engine.images.failures import in_use
from ocigrpc.engine.images.find import Finder, is_pinned
from ocigrpc.engine.images.pulling.tidying import Tidying
from ocigrpc.engine.images.records import ImageRecords
from ocigrpc.engine.images.rootfs import Roots
from ocigrpc.engine.images.storage import Image, Storage
from ocigrpc.engine.model.images import RemovedImage
from ocigrpc.image_errors import ImageUnusable
from ocigrpc.oci.images.reference import image_id_of
from ocigrpc.oci.images.skopeo import is_temporary
from ocigrpc.oci.images.storage import stored_images
from ocigrpc.oci.images.storage_edit import with_pulled, without_names
from ocigrpc.settings.values import Settings
from ocigrpc.waiting import Deadline


class Removal:
    """Removes from one store, as the settings allow."""

    def __init__(
        self,
        storage: Storage,
        finder: Finder,
        roots: Roots,
        records: ImageRecords,
        tidying: Tidying,
        settings: Settings,
    ) -> None:
        self._storage = storage
        self._finder = finder
        self._roots = roots
        self._records = records
        self._tidying = tidying
        self._pinned = settings.images.pinned

    def remove(self, text: str, all_names: bool, deadline: Deadline) -> RemovedImage:
        """What ``RemoveImage`` does; nothing if there is no such image."""
        image = self._finder.find(self._storage.snapshot(), text)
        if image is None:
            return RemovedImage()
        untagged = self._untagged(image, text, all_names)
        self._refuse_pinned(image, untagged)
        with ExitStack() as withheld:
            if untagged:
                untagged, is_left = self._take(image, untagged, withheld, deadline)
                if is_left:
                    return RemovedImage(untagged)
            else:
                self._withhold(image, withheld)
            # Once it has no name: what is released from now on takes the image with it.
            users = self._tidying.goes_with_containers(image.image_id)
            if not users:
                try:
                    users = self._tidying.remove(image.image_id, deadline)
                except ImageUnusable:
                    self._give_back(image, untagged, deadline)
                    raise
        return RemovedImage(untagged, image.image_id, users)

    def _take(
        self, image: Image, names: Collection[str], withheld: ExitStack, deadline: Deadline
    ) -> tuple[tuple[str, ...], bool]:
        """Take names from an image: those that it had, and whether it has any other.

        If it has not, it is withheld. Others may have given it names meanwhile, or have taken them.
        """
        taken, left = list[str](), list[str]()

        def edit(content: bytes) -> bytes:
            stored = (each for each in stored_images(content) if each.id == image.image_id)
            for name in (name for each in stored for name in each.names or ()):
                if not is_temporary(name):
                    (taken if name in names else left).append(name)
            if not left:
                # Not before: until now it is lent by all of its names.
                self._withhold(image, withheld)
            return without_names(content, image.image_id, names)

        self._storage.edit_images(edit, deadline)
        self._records.untagged(image.image_id, taken)
        return tuple(taken), bool(left)

    def _give_back(self, image: Image, names: Collection[str], deadline: Deadline) -> None:
        """Give an image its names again, but for those that others have got meanwhile."""
        given = list[str]()

        def edit(content: bytes) -> bytes:
            stored = stored_images(content)
            if image.image_id not in {each.id for each in stored}:
                return content
            others = {name for each in stored for name in each.names or ()}
            given.extend(each for each in names if each not in others)
            return with_pulled(content, image.image_id, "", given)

        self._storage.edit_images(edit, deadline)
        for name in given:
            self._records.tagged(image.image_id, name, "")

    def _withhold(self, image: Image, withheld: ExitStack) -> None:
        """Lend an image to nobody from now on, unless other programs use it; it is to go."""
        self._refuse_used(image)
        withheld.enter_context(self._roots.withheld(image.image_id))
        withheld.enter_context(self._tidying.untagging(image.image_id))

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
        if users := self._storage.users(image.image_id):
            raise in_use(image.image_id, len(users))
