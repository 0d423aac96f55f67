"""Which pulls change the storage, and undoing those that have failed.

A pull that fails leaves whole layers that others which run at that moment may have found, and use.
So it is undone when none of them has a layer of the same digest.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

from msgspec.structs import replace

from ocigrpc.engine.images.program import bench, benches_directory
from ocigrpc.engine.images.pulling.undo import delete, undo
from ocigrpc.engine.images.rootfs import Roots
from ocigrpc.engine.images.storage import Storage
from ocigrpc.engine.model.image_records import PullRecord
from ocigrpc.engine.store.store import Store
from ocigrpc.errors import OcigrpcError, StoreFailed
from ocigrpc.host.files.tree import remove_tree
from ocigrpc.host.processes.provenance import end_leftovers
from ocigrpc.image_errors import ImagesFailed
from ocigrpc.log import get_logger
from ocigrpc.oci.images.skopeo import is_temporary
from ocigrpc.oci.images.storage import StoredImage, orphans
from ocigrpc.settings.values import Settings
from ocigrpc.waiting import Deadline, Mutex

# What skopeo calls the programs that it starts to unpack layers.
_CHILDREN = "storage-"
# A part of the directory that an agent of gpg has, which skopeo makes for the keys of a policy.
_GPG_HOME = "/containers-ephemeral-gpg-"
# What it is told to remove an image.
_DELETES = "delete"

# How long its end is waited for.
_CLOSE_S = 5.0

log = get_logger()


class Tidying:
    """The records of pulls that change a storage, or have left something in it."""

    def __init__(
        self, storage: Storage, store: Store, roots: Roots, when_removed: Callable[[str], None]
    ) -> None:
        """``when_removed`` is called with the id of each image that is gone."""
        self._storage = storage
        self._roots = roots
        self._when_removed = when_removed
        self._store = store
        # Held while something is undone, removed or named: nobody begins meanwhile to use what is
        # removed, or names it.
        self._undoing = Mutex()
        self._changing: dict[str, PullRecord] = {}
        # Images that have lost their last name while a pull has layers of theirs.
        self._going = set[str]()
        self._owed: dict[str, PullRecord] = {}
        # Those of an earlier service: a loss of power may have truncated the files of their layers.
        self._untrusted = frozenset[str]()
        self._keeping = threading.Lock()
        self._closing = Deadline()
        self._recovering: threading.Thread | None = None

    def end_leftovers(self, settings: Settings) -> None:
        """End what an earlier service has begun, before this one begins anything of that kind."""
        self._end_leftovers(settings)
        try:
            remove_tree(settings.root_dir, benches_directory(settings))
        except (OSError, OcigrpcError) as error:
            log.warning("bench.not_removed", path=benches_directory(settings), error=str(error))

    def recover(self, settings: Settings) -> None:
        """Undo, in the background, what an earlier service has left. Raises ``StoreFailed``."""
        self._owed = {each.pull_id: each for each in self._store.records(PullRecord)}
        self._untrusted = frozenset(self._owed)
        self._keep()
        if self._owed:
            work = partial(self._settle, settings)
            self._recovering = threading.Thread(target=work, name="undo-pulls", daemon=True)
            self._recovering.start()

    @staticmethod
    def _end_leftovers(settings: Settings) -> None:
        """End what skopeo still does for an earlier service, so that it does not go on."""
        directory = benches_directory(settings)
        if not os.path.isdir(directory) or not os.listdir(directory):
            return

        def is_one(argv: Sequence[str]) -> bool:
            if _DELETES in argv:
                # It ends by itself, and otherwise leaves layers that nobody removes.
                return False
            return argv[0].startswith(_CHILDREN) or any(
                each.startswith(f"{directory}/") or _GPG_HOME in each for each in argv
            )

        try:
            end_leftovers(settings.run_dir, is_one, Deadline(settings.timeouts.kill_s))
        except OcigrpcError as error:
            log.error("leftover.not_killed", error=error.message)

    def close(self) -> None:
        """Leave to the next start what has not been undone."""
        self._closing.cancel()
        if self._recovering is not None:
            # A disk may not answer it.
            self._recovering.join(_CLOSE_S)

    @contextmanager
    def changing(
        self, record: PullRecord, settings: Settings, deadline: Deadline
    ) -> Iterator[None]:
        """Change the storage in a ``with``, whose failure is undone, now or later.

        Before that, the record is made to survive a loss of power. Raises ``StoreFailed``, and
        ``ImagesFailed`` when it would find layers of an earlier pull that can't be undone.
        """
        with self._undoing.held(deadline):
            self._undo_owed(settings, deadline.within(settings.timeouts.undo_s))
            self._require_undone(record)
            record = replace(record, was_there=self._is_there(record.image_id))
            try:
                self._store.put(record)
                self._store.sync()
            except BaseException:
                # It may be in the store all the same.
                self._owed[record.pull_id] = record
                raise
            self._changing[record.pull_id] = record
            self._keep()
        try:
            yield
        except BaseException:
            self._owed[record.pull_id] = record
            raise
        else:
            self._forget(record)
        finally:
            del self._changing[record.pull_id]
            self._keep()
            self._settle(settings)

    @contextmanager
    def naming(self, image_id: str, deadline: Deadline) -> Iterator[None]:
        """Give an image names in a ``with``, while none is removed; it stays if it was to go."""
        with self._undoing.held(deadline):
            yield
            self._gone(image_id)

    def remove(self, image_id: str, settings: Settings, deadline: Deadline) -> tuple[str, ...]:
        """Remove an image that has lost its last name: now, or when no pull has layers of it.

        It is not shown any more; nothing happens if it has a name again. If containers use it,
        it goes with the last of them, and they are returned. Raises ``ImagesFailed``,
        ``HostFailed``, ``StorageFull``, ``StoreFailed``, ``Timeout`` or ``Cancelled``.
        """
        with self._undoing.held(deadline):
            self._storage.hide(image_id)
            self._going.add(image_id)
            return self._remove(image_id, settings)

    def _remove(self, image_id: str, settings: Settings) -> tuple[str, ...]:
        """Remove one of ``_going``, unless it has to wait; as :meth:`remove`."""
        users: tuple[str, ...] = ()
        try:
            stored = {each.id: each for each in self._storage.stored_images()}
            image = stored.pop(image_id, None)
            if image is not None and not _has_name(image):
                if image.names or self._has_pulled_layers(list(stored.values())):
                    return ()
                # Nobody begins to use it meanwhile, and it may have been used since it was hidden.
                with self._roots.withheld(image_id):
                    users = self._roots.let_go(image_id)
                    if not users:
                        with bench(settings) as tools:
                            delete(image_id, self._storage, tools)
                        self._when_removed(image_id)
        except OcigrpcError:
            self._gone(image_id)
            raise
        self._gone(image_id)
        return users

    def _has_pulled_layers(self, others: Sequence[StoredImage]) -> bool:
        """Whether a pull that runs may use layers that none of these images has."""
        blobs = {digest for each in list(self._changing.values()) for digest in each.blobs}
        layers, containers = self._storage.stored_layers(), self._storage.containers()
        return bool(orphans(blobs, layers, others, containers))

    def _is_there(self, image_id: str) -> bool:
        """Whether there is an image that no pull has brought which has not come to its end."""
        stored = {each.id: each for each in self._storage.stored_images()}.get(image_id)
        if stored is None or _has_name(stored):
            return stored is not None
        pulls = [each for each in self._unended() if each.image_id == image_id]
        return any(each.was_there for each in pulls) or not pulls

    def _unended(self) -> Sequence[PullRecord]:
        return [*self._changing.values(), *self._owed.values()]

    def _keep(self) -> None:
        """Have images shown that pulls give none but a temporary name, and have not brought."""
        with self._keeping:
            self._storage.keep({each.image_id for each in self._unended() if each.was_there})

    def _gone(self, image_id: str) -> None:
        self._going.discard(image_id)
        self._storage.show(image_id)

    def _require_undone(self, record: PullRecord) -> None:
        if not self._storage.is_there():
            # It has nothing that could be used again.
            return
        for pull_id in self._untrusted & set(self._owed):
            if not set(record.blobs).isdisjoint(self._owed[pull_id].blobs):
                problem = f"pull {pull_id}, which was cut off, can't be undone, and has its layers"
                raise ImagesFailed(problem, image=record.source, output=problem)

    def _forget(self, record: PullRecord) -> None:
        try:
            self._store.delete(record.key)
        except StoreFailed as error:
            # The next start finds nothing to undo.
            log.warning("pull.not_forgotten", pull_id=record.pull_id, error=error.message)

    def _settle(self, settings: Settings) -> None:
        """Undo and remove what can be undone and removed now."""
        if not (self._owed or self._going):
            return
        deadline = self._closing.within(settings.timeouts.undo_s)
        try:
            with self._undoing.held(deadline):
                self._undo_owed(settings, deadline)
                for image_id in list(self._going):
                    self._remove(image_id, settings)
        except OcigrpcError as error:
            log.error("pull.not_tidied", error=error.message)

    def _undo_owed(self, settings: Settings, deadline: Deadline) -> None:
        for record in list(self._owed.values()):
            blobs = set(record.blobs)
            if any(
                each.image_id == record.image_id or not blobs.isdisjoint(each.blobs)
                for each in list(self._changing.values())
            ):
                continue
            if record.pull_id in self._untrusted and not self._storage.is_there():
                # Its disk may be mounted later, with what is to be undone.
                continue
            try:
                with bench(settings) as tools:
                    undo(record, self._storage, self._roots, tools, deadline)
                self._store.delete(record.key)
            except OcigrpcError as error:
                log.error("pull.not_undone", pull_id=record.pull_id, error=error.message)
            else:
                log.info("pull.undone", pull_id=record.pull_id, source=record.source)
                del self._owed[record.pull_id]
                self._keep()


def _has_name(image: StoredImage) -> bool:
    """Whether an image has a name that is not a pull's."""
    return not all(map(is_temporary, image.names or ()))
