"""The images that are to go since they have lost their last name, and who waits for that.

One goes when no pull that runs has one of its layers, and no container uses it.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence

from ocigrpc.engine.images.program import bench
from ocigrpc.engine.images.pulling.deletions import Deletions, has_name
from ocigrpc.engine.images.pulling.unended import Unended
from ocigrpc.engine.images.records import ImageRecords
from ocigrpc.engine.images.rootfs import Roots
from ocigrpc.engine.images.storage import Storage
from ocigrpc.errors import Cancelled, OcigrpcError, Timeout
from ocigrpc.failing import host_failure
from ocigrpc.log import get_logger
from ocigrpc.oci.images.storage import StoredImage
from ocigrpc.settings.values import Settings
from ocigrpc.waiting import Deadline, Latch

log = get_logger()


class Going:
    """An image that is to go; ``ended`` once there is an answer for all that wait for it."""

    def __init__(self, image_id: str) -> None:
        self.image_id = image_id
        self.waiting = 0
        self.ended = Latch()
        self.users: tuple[str, ...] = ()
        self.error: OcigrpcError | None = None


class GoingImages:
    """All of them. They are not shown, unless they could not be removed."""

    def __init__(
        self,
        storage: Storage,
        roots: Roots,
        records: ImageRecords,
        deletions: Deletions,
        pulls: Unended,
    ) -> None:
        self._storage = storage
        self._roots = roots
        self._records = records
        self._deletions = deletions
        self._pulls = pulls
        self._lock = threading.Lock()
        # Held while one is added or ended, with its record.
        self._turn = threading.Lock()
        self._by_id: dict[str, Going] = {}

    def all(self) -> Sequence[Going]:
        """Those that are there now."""
        return list(self._by_id.values())

    def add(self, image_id: str, *, waiting: bool = False) -> Going:
        """Let an image go, and perhaps wait for that until :meth:`leave`."""
        with self._turn:
            self._deletions.begin(image_id)
            self._storage.hide(image_id)
            with self._lock:
                going = self._by_id.get(image_id)
                # The answer to an earlier question is none to this one.
                if going is None or going.ended.is_set():
                    going = self._by_id[image_id] = Going(image_id)
                going.waiting += waiting
                return going

    def leave(self, going: Going) -> None:
        """Wait no more."""
        with self._lock:
            going.waiting -= 1

    def end(self, image_id: str) -> None:
        """Forget an image: it is gone, or is to stay."""
        with self._turn:
            self._end(image_id)

    def end_if_used(self, image_id: str) -> None:
        """Forget an image that goes with the containers that use it, unless none does any more.

        The release of the last one adds it: before this, and it stays here, or after it.
        """
        with self._turn:
            if users := self._roots.users(image_id):
                self._end(image_id, users)

    def _end(self, image_id: str, users: tuple[str, ...] = ()) -> None:
        self._deletions.forget(image_id)
        with self._lock:
            going = self._by_id.pop(image_id, None)
        self._storage.show(image_id)
        if going is not None:
            going.users = users
            going.ended.set()

    def takes_layers(self, image_id: str) -> bool:
        """Whether a removal would change the layers now, which other programs may have locked."""
        try:
            stored = {each.id: each for each in self._storage.stored_images()}
            image = stored.pop(image_id, None)
            if image is None:
                return self._storage.is_there()
            is_due = not (has_name(image) or self._has_to_wait(image, list(stored.values())))
        except OcigrpcError:
            # It fails by the same.
            return False
        return is_due and not self._roots.users(image_id)

    def remove(self, going: Going, settings: Settings, deadline: Deadline) -> None:
        """Remove one, unless it has to wait; if containers use it, it goes with them.

        An error is logged, and is for those that wait for it.
        """
        try:
            if self._by_id.get(going.image_id) is not going:
                return
            users = self._users(going.image_id, settings, deadline)
            if users is None:
                going.ended.set()
            elif users:
                # Without them by now it is removed next time.
                self.end_if_used(going.image_id)
            else:
                self.end(going.image_id)
        except (OcigrpcError, OSError) as error:
            self._note_failure(going, host_failure(error))

    def _users(
        self, image_id: str, settings: Settings, deadline: Deadline
    ) -> tuple[str, ...] | None:
        """The containers that an image goes with, none if it is gone or stays; None: it waits."""
        stored = {each.id: each for each in self._storage.stored_images()}
        image = stored.pop(image_id, None)
        if image is None:
            if not self._storage.is_there():
                # Its disk may be mounted later.
                return None
            with bench(settings) as tools:
                is_done = self._deletions.finish(image_id, tools, deadline)
            self._records.removed_before(image_id)
            return () if is_done else None
        if not has_name(image):
            if self._has_to_wait(image, list(stored.values())):
                return None
            # Nobody begins to use it meanwhile, and it may have been used since it was hidden.
            with self._roots.withheld(image_id):
                if users := self._roots.let_go(image_id):
                    return users
                with bench(settings) as tools:
                    is_done = self._deletions.delete(image_id, tools, deadline)
                self._records.removed(image_id)
            return () if is_done else None
        return ()

    def _has_to_wait(self, image: StoredImage, others: Sequence[StoredImage]) -> bool:
        """Whether a pull that runs has given it a name, or may use layers that are its alone."""
        return bool(image.names) or self._pulls.need(image, others)

    def _note_failure(self, going: Going, error: OcigrpcError) -> None:
        """Keep what an image was not removed for; it stays if somebody gets to know that."""
        image_id = going.image_id
        log.error("image.not_removed", image_id=image_id, error=error.message)
        if not self._is_listed(image_id):
            # What it has left goes later.
            going.ended.set()
            return
        self._storage.show(image_id)
        with self._lock:
            if not going.waiting:
                return
            going.error = error
        with self._turn:
            is_last = self._by_id.get(image_id) is going
            if is_last and not isinstance(error, Timeout | Cancelled):
                self._end(image_id)
        going.ended.set()

    def _is_listed(self, image_id: str) -> bool:
        try:
            return image_id in {each.id for each in self._storage.stored_images()}
        except OcigrpcError:
            # It may be.
            return True
