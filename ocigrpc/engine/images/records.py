"""What the service itself remembers of images, with the events of their names."""

from __future__ import annotations

import threading
import time
from collections.abc import Collection, Mapping

from msgspec.structs import replace

from ocigrpc.engine.model.events import Event, EventKind
from ocigrpc.engine.model.image_records import ImageRecord
from ocigrpc.engine.model.values import ObjectKind
from ocigrpc.engine.store.store import Store
from ocigrpc.errors import StoreFailed
from ocigrpc.log import get_logger

log = get_logger()


class ImageRecords:
    """The records of images, in memory and in the store.

    What the storage says is true whatever they say: they are only what it does not know.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._by_id = {each.image_id: each for each in store.records(ImageRecord)}

    def get(self, image_id: str) -> ImageRecord | None:
        """What is remembered of an image; None of one that others have made."""
        return self._by_id.get(image_id)

    def pulled(
        self,
        image_id: str,
        digests: Mapping[str, str],
        losers: Collection[tuple[str, str]],
        had: Collection[str],
    ) -> None:
        """Note that an image has got names, with their digests, and which images have lost which.

        ``had`` are its names before: what others stood for that it has had is forgotten. It has
        happened, so that what can't be written now is written later.
        """
        now_ns = time.time_ns()
        names = [name for name in digests if name] or [""]
        events = [
            *(_event(EventKind.UNTAGGED, loser, name, now_ns) for loser, name in losers),
            *(_event(EventKind.PULLED, image_id, name, now_ns) for name in names),
        ]
        with self._lock:
            before = self._by_id.get(image_id)
            known = before.digests if before is not None else {}
            known = {name: digest for name, digest in known.items() if name in had}
            given = {name: digest for name, digest in digests.items() if name}
            used_ns = before.used_ns if before is not None else 0
            record = ImageRecord(image_id, now_ns, {**known, **given}, used_ns)
            self._by_id[image_id] = record
            self._store.note(record, tuple(events))

    def used(self, image_id: str) -> None:
        """Note that a container of an image is no more; as :meth:`pulled`."""
        with self._lock:
            before = self._by_id.get(image_id) or ImageRecord(image_id)
            record = replace(before, used_ns=time.time_ns())
            self._by_id[image_id] = record
            self._store.note(record)

    def tagged(self, image_id: str, name: str, loser: str) -> None:
        """Note that an image has got a name, and who has lost it; empty for nobody."""
        now_ns = time.time_ns()
        lost = [_event(EventKind.UNTAGGED, loser, name, now_ns)] if loser else []
        self._tell(*lost, _event(EventKind.TAGGED, image_id, name, now_ns))

    def untagged(self, image_id: str, names: Collection[str]) -> None:
        """Note that an image has lost names, and not to another one."""
        now_ns = time.time_ns()
        self._tell(*(_event(EventKind.UNTAGGED, image_id, name, now_ns) for name in names))

    def removed(self, image_id: str) -> None:
        """Note that an image is gone."""
        removed = _event(EventKind.REMOVED, image_id, "", time.time_ns())
        with self._lock:
            record = self._by_id.pop(image_id, None)
            if record is None:
                self._tell(removed)
                return
            try:
                self._store.delete(record.key, (removed,))
            except StoreFailed as error:
                # The next start forgets it.
                log.error("image.not_forgotten", image_id=image_id, error=error.message)

    def removed_before(self, image_id: str) -> None:
        """Note that an image is gone, whose removal was cut off, unless that was noted then."""
        if image_id in self._by_id:
            self.removed(image_id)

    def _tell(self, *events: Event) -> None:
        if not events:
            return
        try:
            self._store.tell(*events)
        except StoreFailed as error:
            log.error("image.events_lost", image_id=events[-1].object_id, error=error.message)

    def forget_all_but(self, image_ids: Collection[str]) -> None:
        """Forget images that are not in the storage any more. Raises ``StoreFailed``."""
        with self._lock:
            for record in list(self._by_id.values()):
                if record.image_id not in image_ids:
                    self._store.delete(record.key)
                    del self._by_id[record.image_id]


def _event(kind: EventKind, image_id: str, name: str, time_ns: int) -> Event:
    return Event(kind, image_id, time_ns, name=name, object_kind=ObjectKind.IMAGE)
