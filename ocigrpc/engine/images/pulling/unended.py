"""The pulls that change a storage, and those that have failed in it and are still to be undone.

A pull that fails leaves whole layers that others which run at that moment may have found, and use.
So it is undone when none of them has a layer of the same digest.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Sequence
from contextlib import suppress

from msgspec.structs import replace

from ocigrpc.engine.images.program import bench
from ocigrpc.engine.images.pulling.deletions import Deletions, has_name
from ocigrpc.engine.images.pulling.undo import Failed, undo
from ocigrpc.engine.images.rootfs import Roots
from ocigrpc.engine.images.storage import Storage
from ocigrpc.engine.model.image_records import PullRecord
from ocigrpc.engine.store.store import Store
from ocigrpc.errors import OcigrpcError, StoreFailed
from ocigrpc.image_errors import ImagesFailed
from ocigrpc.log import get_logger
from ocigrpc.oci.images.storage import StoredImage, layers_below, orphans
from ocigrpc.settings.values import Settings
from ocigrpc.waiting import Deadline

log = get_logger()


class Unended:
    """Their records. One caller at a time begins and undoes; any pull may end meanwhile."""

    def __init__(self, storage: Storage, store: Store, roots: Roots, deletions: Deletions) -> None:
        self._storage = storage
        self._store = store
        self._roots = roots
        self._deletions = deletions
        self._changing: dict[str, PullRecord] = {}
        self._owed: dict[str, PullRecord] = {}
        # The layers that were there when those had ended.
        self._layers: dict[str, frozenset[str]] = {}
        # Those of an earlier service: a loss of power may have truncated the files of their layers.
        self._untrusted = frozenset[str]()
        self._keeping = threading.Lock()

    def recover(self) -> None:
        """Find those of an earlier service. Raises ``StoreFailed``."""
        owed = {each.pull_id: each for each in self._store.records(PullRecord)}
        # Its disk may be mounted later.
        if self._storage.is_there():
            for record in owed.values():
                self._note_layers(record)
        self._owed, self._untrusted = owed, frozenset(owed)
        self._keep()

    @property
    def are_owed(self) -> bool:
        """Whether any is to be undone."""
        return bool(self._owed)

    def begin(self, record: PullRecord) -> PullRecord:
        """Store that one begins to change the storage; with what was there before.

        It survives a loss of power. Raises ``StoreFailed``, and ``ImagesFailed`` when it would find
        layers of an earlier pull or removal that was cut off and can't be undone or finished.
        """
        self._require_undone(record)
        layers = self._storage.stored_layers().values()
        before = (
            each.identity
            for each in layers
            if record.is_by_tag or each.is_of(record.blobs) or not each.is_whole
        )
        record = replace(record, was_there=self._is_there(record.image_id), before=tuple(before))
        try:
            self._store.put(record)
            self._store.sync()
        except BaseException:
            # It may be in the store all the same.
            self._note_layers(record)
            self._owed[record.pull_id] = record
            raise
        self._changing[record.pull_id] = record
        self._keep()
        return record

    def learn(self, pull_id: str, blobs: Collection[str]) -> None:
        """Store that one which has begun has layers of these blobs as well. Raises ``StoreFailed``.

        It survives a loss of power.
        """
        record = self._changing[pull_id]
        known = dict.fromkeys((*record.blobs, *blobs))
        record = self._changing[pull_id] = replace(record, blobs=tuple(known))
        self._store.put(record)
        self._store.sync()

    def end(self, pull_id: str, *, has_failed: bool) -> None:
        """Forget one that has begun, or have it undone."""
        record = self._changing[pull_id]
        if has_failed:
            # It may be undone much later, when others have brought the same layers.
            self._note_layers(record)
            self._owed[record.pull_id] = record
        else:
            self._forget(record)
        del self._changing[pull_id]
        self._keep()

    def need(self, image: StoredImage, others: Sequence[StoredImage]) -> bool:
        """Whether a pull that runs may use layers of an image that none of the others has."""
        blobs = {digest for each in list(self._changing.values()) for digest in each.blobs}
        layers, containers = self._storage.stored_layers(), self._storage.containers()
        own = layers_below(image.tops, layers)
        return not own.isdisjoint(orphans(blobs, layers, others, containers))

    def undo(
        self,
        settings: Settings,
        deadline: Deadline,
        deleting: Deadline,
        *,
        beside: PullRecord | None = None,
    ) -> None:
        """Undo those that have failed and share nothing with one that runs; logs what fails.

        Images are deleted within ``deleting``. With ``beside``, only those that share something
        with that one.
        """
        for record in list(self._owed.values()):
            if beside is not None and not _shares(record, beside):
                continue
            if record.pull_id in self._untrusted and not self._storage.is_there():
                # Its disk may be mounted later, with what is to be undone.
                continue
            try:
                failed = Failed(record, self._layers_of(record))
                if any(_shares(record, each) for each in list(self._changing.values())):
                    continue
                if not self._is_taken_back(failed, settings, deadline, deleting):
                    continue
                self._store.delete(record.key)
            except OcigrpcError as error:
                log.error("pull.not_undone", pull_id=record.pull_id, error=error.message)
            else:
                log.info("pull.undone", pull_id=record.pull_id, source=record.source)
                del self._owed[record.pull_id], self._layers[record.pull_id]
                self._keep()

    def _is_taken_back(
        self, failed: Failed, settings: Settings, deadline: Deadline, deleting: Deadline
    ) -> bool:
        with bench(settings) as tools:
            shared = self._storage, self._roots, self._deletions
            are_gone = undo(failed, *shared, tools, deadline, deleting)
        if not are_gone:
            log.info("pull.layers_in_use", pull_id=failed.record.pull_id)
        return are_gone

    def _note_layers(self, record: PullRecord) -> None:
        """Note what there is at the end of a pull; later, if the list can't be read now."""
        with suppress(ImagesFailed):
            self._layers_of(record)

    def _layers_of(self, record: PullRecord) -> frozenset[str]:
        """The layers that were there when it was first asked for, which is at the end of a pull."""
        if record.pull_id not in self._layers:
            layers = self._storage.stored_layers().values()
            self._layers[record.pull_id] = frozenset(each.identity for each in layers)
        return self._layers[record.pull_id]

    def _is_there(self, image_id: str) -> bool:
        """Whether there is an image that no pull has brought which has not come to its end."""
        stored = {each.id: each for each in self._storage.stored_images()}.get(image_id)
        if stored is None or has_name(stored):
            return stored is not None
        pulls = [each for each in self._records() if each.image_id == image_id]
        return any(each.was_there for each in pulls) or not pulls

    def _records(self) -> Sequence[PullRecord]:
        return [*self._changing.values(), *self._owed.values()]

    def _keep(self) -> None:
        """Have images shown that pulls give none but a temporary name, and have not brought."""
        with self._keeping:
            self._storage.keep({each.image_id for each in self._records() if each.was_there})

    def _require_undone(self, record: PullRecord) -> None:
        if not self._storage.is_there():
            # It has nothing that could be used again.
            return
        problem = ""
        if (image_id := self._deletions.cut_off(record.blobs)) is not None:
            problem = f"a removal of image {image_id} was cut off, and can't be finished"
        for pull_id in self._untrusted & set(self._owed):
            if not set(record.blobs).isdisjoint(self._owed[pull_id].blobs):
                problem = f"pull {pull_id}, which was cut off, can't be undone"
        if problem:
            problem += ", and has its layers"
            raise ImagesFailed(problem, image=record.source, output=problem)

    def _forget(self, record: PullRecord) -> None:
        try:
            self._store.delete(record.key)
        except StoreFailed as error:
            # The next start finds nothing to undo.
            log.warning("pull.not_forgotten", pull_id=record.pull_id, error=error.message)


def _shares(one: PullRecord, other: PullRecord) -> bool:
    """Whether a pull may use what the other one has left."""
    return one.image_id == other.image_id or not set(one.blobs).isdisjoint(other.blobs)
