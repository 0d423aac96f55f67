"""What changes a storage in turn: pulls that begin, their undoing, and removals of images."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from functools import partial

from ocigrpc.engine.images.program import benches_directory
from ocigrpc.engine.images.pulling.background import Background
from ocigrpc.engine.images.pulling.deletions import DELETE_S, Deletions
from ocigrpc.engine.images.pulling.going import GoingImages
from ocigrpc.engine.images.pulling.unended import Unended
from ocigrpc.engine.images.records import ImageRecords
from ocigrpc.engine.images.rootfs import Roots
from ocigrpc.engine.images.storage import Storage
from ocigrpc.engine.model.image_records import PullRecord
from ocigrpc.engine.store.store import Store
from ocigrpc.errors import Cancelled, OcigrpcError, Timeout
from ocigrpc.host.files.tree import remove_tree
from ocigrpc.host.processes.provenance import end_leftovers
from ocigrpc.log import get_logger
from ocigrpc.mutex import Mutex
from ocigrpc.settings.values import Settings
from ocigrpc.waiting import Deadline

# What skopeo calls the programs that it starts to unpack layers.
_CHILDREN = "storage-"
# A part of the directory that an agent of gpg has, which skopeo makes for the keys of a policy.
_GPG_HOME = "/containers-ephemeral-gpg-"

log = get_logger()


class Tidying:
    """Undoes and removes in the background; what is cut off is in the service's store."""

    def __init__(
        self,
        settings: Settings,
        storage: Storage,
        store: Store,
        roots: Roots,
        records: ImageRecords,
    ) -> None:
        """Raises ``StoreFailed``."""
        self.settings = settings
        self._storage = storage
        self._roots = roots
        self._deletions = Deletions(storage, store)
        self._pulls = Unended(storage, store, roots, self._deletions)
        self._going = GoingImages(storage, roots, records, self._deletions, self._pulls)
        self._background = Background("tidying", self._settle)
        # Held while something is undone, removed or named: nobody begins meanwhile to use what is
        # removed, or names it.
        self._undoing = Mutex()

    def end_leftovers(self) -> None:
        """End what an earlier service has begun, before this one begins anything of that kind."""
        self._end_leftovers()
        root_dir, directory = self.settings.root_dir, benches_directory(self.settings)
        try:
            remove_tree(root_dir, directory)
        except (OSError, OcigrpcError) as error:
            log.warning("bench.not_removed", path=directory, error=str(error))

    def recover(self) -> Collection[str]:
        """Undo and finish, in the background, what an earlier service has left.

        The images that are to go. Raises ``StoreFailed``.
        """
        self._pulls.recover()
        owed = self._deletions.owed()
        for image_id in owed:
            self._going.add(image_id)
        self._wake()
        return owed

    def _end_leftovers(self) -> None:
        """End what skopeo still does for an earlier service, so that it does not go on."""
        directory = benches_directory(self.settings)
        try:
            if not os.listdir(directory):
                return
        except FileNotFoundError:
            return
        except OSError as error:
            log.warning("bench.not_searched", path=directory, error=str(error))

        def is_one(argv: Sequence[str]) -> bool:
            return argv[0].startswith(_CHILDREN) or any(
                each.startswith(f"{directory}/") or _GPG_HOME in each for each in argv
            )

        try:
            deadline = Deadline(self.settings.timeouts.kill_s)
            end_leftovers(self.settings.run_dir, is_one, deadline)
        except OcigrpcError as error:
            log.error("leftover.not_killed", error=error.message)

    def close(self) -> None:
        """Leave to the next start what has not been undone or removed."""
        self._background.close()

    @contextmanager
    def changing(
        self, record: PullRecord, deadline: Deadline
    ) -> Iterator[Callable[[Collection[str]], None]]:
        """Change the storage in a ``with``, whose failure is undone, now or later.

        What it gives is to be called with blobs that were not known before, by their digests.

        Raises ``StoreFailed``, and ``ImagesFailed`` when it would find layers of an earlier pull or
        removal that was cut off and can't be undone or finished.
        """
        undo_s = self.settings.timeouts.undo_s
        are_owed = self._pulls.are_owed or self._deletions.cut_off(record.blobs) is not None
        is_free = not are_owed or self._is_free(deadline.within(undo_s))
        with self._undoing.held(deadline):
            if is_free:
                bounded = deadline.within(undo_s)
                self._pulls.undo(self.settings, bounded, deadline, beside=record)
                self._finish_cut_off(record.blobs)
            record = self._pulls.begin(record)
        has_failed = True
        try:
            yield partial(self._pulls.learn, record.pull_id)
            has_failed = False
        finally:
            self._pulls.end(record.pull_id, has_failed=has_failed)
            if has_failed:
                self._undo()
            self._wake()

    def _finish_cut_off(self, blobs: Collection[str]) -> None:
        """Finish the removals that have left layers of these blobs.

        Others may wait for those: it is nothing to them if the pull is given up meanwhile.
        """
        deadline = self._background.deadline.within(self.settings.timeouts.undo_s)
        tried = set[str]()
        while (image_id := self._deletions.cut_off(blobs)) is not None and image_id not in tried:
            tried.add(image_id)
            self._going.remove(self._going.add(image_id), self.settings, deadline)

    @contextmanager
    def naming(self, image_id: str, deadline: Deadline) -> Iterator[None]:
        """Give an image names in a ``with``, while none is removed; it stays if it was to go."""
        with self._undoing.held(deadline):
            yield
            self._roots.let_stay(image_id)
            self._going.end(image_id)

    @contextmanager
    def untagging(self, image_id: str) -> Iterator[None]:
        """Take the last names of an image in a ``with``, which is then to go, also after a crash.

        It stays, of course, if it has a name afterwards. Raises ``ImagesFailed``.
        """
        self._deletions.begin(image_id)
        try:
            yield
        finally:
            self._deletions.forget_named(image_id)

    def goes_with_containers(self, image_id: str) -> tuple[str, ...]:
        """Have an image that has no name go with the containers that use it; their ids.

        Raises ``StoreFailed``.
        """
        if users := self._roots.let_go(image_id):
            self._going.end_if_used(image_id)
        return users

    def remove(self, image_id: str, deadline: Deadline) -> tuple[str, ...]:
        """Remove an image that has lost its last name: now, or when no pull has layers of it.

        It is not shown any more; nothing happens if it has a name again. If containers use it,
        it goes with the last of them, and they are returned. After ``Timeout`` and ``Cancelled`` it
        goes on in the background. Raises ``ImagesFailed``, ``HostFailed``, ``StorageFull`` or
        ``StoreFailed`` as well.
        """
        going = self._going.add(image_id, waiting=True)
        self._background.wake()
        try:
            deadline.wait(going.ended)
        finally:
            self._going.leave(going)
        if going.error is not None:
            # One for each: several threads may raise it.
            raise copy(going.error)
        return going.users

    def remove_later(self, image_id: str) -> None:
        """The same in the background. Raises ``ImagesFailed``."""
        self._going.add(image_id)
        self._background.wake()

    def _wake(self) -> None:
        if self._is_due():
            self._background.wake()

    def _is_due(self) -> bool:
        return self._pulls.are_owed or bool(self._going.all())

    def _settle(self) -> bool:
        """Undo and remove what can be undone and removed now; whether anything is left."""
        self._undo()
        is_free = True
        for going in self._going.all():
            if self._background.stopping.is_set():
                break
            if self._going.takes_layers(going.image_id):
                # Not free: all others of the kind wait for the same, and are tried later.
                undo_s = self.settings.timeouts.undo_s
                is_free = is_free and self._is_free(self._background.deadline.within(undo_s))
                if not is_free:
                    continue
            # Each by itself, so that names are given between two.
            with self._undoing.held(self._background.deadline):
                deadline = self._background.deadline.within(DELETE_S)
                self._going.remove(going, self.settings, deadline)
        return self._is_due()

    def _is_free(self, deadline: Deadline) -> bool:
        """Whether no other program has the layers locked, by then.

        It may for minutes, and who waits for us meanwhile would wait for it as well.
        """
        try:
            self._storage.await_layers(deadline)
        except (Timeout, Cancelled) as error:
            log.warning("pull.not_tidied", error=error.message)
            return False
        except OcigrpcError:
            # Nobody has them locked, and the change fails by the same and reports it.
            pass
        return True

    def _undo(self) -> None:
        deadline = self._background.deadline.within(self.settings.timeouts.undo_s)
        if not (self._pulls.are_owed and self._is_free(deadline)):
            return
        try:
            with self._undoing.held(deadline):
                self._pulls.undo(self.settings, deadline, self._background.deadline)
        except OcigrpcError as error:
            log.error("pull.not_tidied", error=error.message)
