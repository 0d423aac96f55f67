"""Removes the images that nobody uses."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Sequence

from ocigrpc.engine.images.removal import Removal
from ocigrpc.engine.images.rootfs import Roots
from ocigrpc.engine.images.storage import Image, Snapshot, Storage
from ocigrpc.engine.images.views import Views
from ocigrpc.engine.model.images import ImageView, Pruned, PruneRequest
from ocigrpc.failing import host_failing
from ocigrpc.image_errors import ImageUnusable
from ocigrpc.waiting import Deadline


class Prune:
    """Removes from one store."""

    def __init__(self, storage: Storage, roots: Roots, removal: Removal, views: Views) -> None:
        self._storage = storage
        self._roots = roots
        self._removal = removal
        self._views = views

    def prune(self, request: PruneRequest, deadline: Deadline) -> Pruned:
        """What ``PruneImages`` does; after an error, what was removed before it is gone."""
        snapshot = self._storage.snapshot()
        uses = Counter(snapshot.uses)
        pruned, freed_bytes = list[ImageView](), 0
        for image, view in self._candidates(snapshot, request):
            # A dry run frees nothing, so what it would have freed is counted as free.
            if self._is_enough(request.until_free_bytes, freed_bytes if request.dry_run else 0):
                break
            deadline.check()
            if not (request.dry_run or self._is_removed(image, deadline)):
                continue
            if not request.dry_run and self._is_stored(image):
                # It goes later, as when a pull that runs has layers of it, and makes room then.
                if request.until_free_bytes:
                    break
                continue
            pruned.append(view)
            freed_bytes += sum(each.size_bytes for each in image.chain if uses[each.id] == 1)
            uses.subtract(each.id for each in image.chain)
        return Pruned(tuple(pruned), freed_bytes)

    def _candidates(
        self, snapshot: Snapshot, request: PruneRequest
    ) -> Sequence[tuple[Image, ImageView]]:
        """The images that may go, those first that nobody wanted for the longest time."""
        images = list(snapshot.images.values())
        views = zip(images, self._views.all_of(snapshot, images), strict=True)
        found = [(image, view) for image, view in views if request.allows(view, time.time_ns())]
        return sorted(found, key=lambda each: (each[1].last_ns, each[1].image_id))

    def _is_enough(self, wanted_bytes: int, freed_bytes: int) -> bool:
        """Whether so much is free, where 0 is not a wish."""
        if not wanted_bytes:
            return False
        with host_failing("measure", self._storage.root):
            found = os.statvfs(self._storage.root)
        return found.f_bavail * found.f_frsize + freed_bytes >= wanted_bytes

    def _is_stored(self, image: Image) -> bool:
        return image.image_id in {each.id for each in self._storage.stored_images()}

    def _is_removed(self, image: Image, deadline: Deadline) -> bool:
        """Remove an image, now or later; False if it is used, or another program was faster."""
        # Whoever asks for it between the two gets none, or else it would lose its names in use.
        with self._roots.withheld(image.image_id):
            now = self._storage.snapshot().images.get(image.image_id)
            is_used = bool(self._roots.users(image.image_id))
            if now is None or now.names != image.names or is_used:
                return False
            try:
                self._removal.remove(image.image_id, all_names=True, deadline=deadline)
            except ImageUnusable:
                return False
        return True
