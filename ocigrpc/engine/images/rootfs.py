"""Root filesystems: overlays of an image's layers below a directory of the container's own.

Each is at ``rootfs/ID`` in the service's root directory, with an id of its own, so that a create
that fails releases nothing of another's. It stays mounted until it is released, or the host is
started again; what was written to it stays until it is released.
"""

from __future__ import annotations

import os
import secrets
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from threading import Lock

from msgspec.structs import replace

from ocigrpc.engine.images.failures import storage_failing
from ocigrpc.engine.images.find import Finder
from ocigrpc.engine.images.layers.quotas import Layer, Quotas
from ocigrpc.engine.images.mounting import Mounting
from ocigrpc.engine.images.storage import Image, Storage
from ocigrpc.engine.model.rootfs import RootFilesystem, RootfsRecord
from ocigrpc.engine.store.store import Store
from ocigrpc.errors import HostFailed, OcigrpcError, StoreFailed
from ocigrpc.failing import host_failing
from ocigrpc.host.descriptors import closing_fd
from ocigrpc.host.files.overlay import is_mount_point, refuse_other_mounts, unmount_overlay
from ocigrpc.host.files.roots import make_in_root
from ocigrpc.host.files.tree_removals import Trees
from ocigrpc.host.mappings.owners import Owners
from ocigrpc.image_errors import ImageNotFound
from ocigrpc.log import get_logger
from ocigrpc.oci.images.reference import image_id_of
from ocigrpc.oci.spec.config import UserNamespace
from ocigrpc.oci.spec.root_files import MissingPlace
from ocigrpc.oci.spec.user_namespace import owners_of
from ocigrpc.settings.values import Settings
from ocigrpc.waiting import Deadline

log = get_logger()

# How long the caller of a release waits for its end, which large trees have later.
_RELEASE_S = 1.0


class Roots:
    """The root filesystems that are lent: a ``RootFilesystems``."""

    def __init__(self, settings: Settings, store: Store, storage: Storage, finder: Finder) -> None:
        # runc refuses a root that is reached through a symbolic link.
        self._directory = os.path.realpath(f"{settings.root_dir}/rootfs")
        self._quotas = Quotas(self._directory)
        self._mounting = Mounting(self._directory, storage, self._quotas, settings)
        self._store = store
        self._storage = storage
        self._finder = finder
        self._lock, self._choosing = Lock(), Lock()
        self._lent = {each.rootfs_id: each for each in store.records(RootfsRecord)}
        self._trees = Trees(self._directory)
        # Those that are not lent any more, and not removed yet.
        self._going = set[str]()
        # How many withhold an image, at the same time.
        self._withheld = Counter[str]()
        # Called for an image that a container does not use any more.
        self.when_released: Callable[[str], None] = lambda image_id: None
        # Called for an image that is to go, and is lent to nobody any more.
        self.when_unused: Callable[[str], None] = lambda image_id: None

    def lend(
        self,
        image: str,
        container_id: str,
        *,
        readonly: bool,
        limit_bytes: int = 0,
        user_namespace: UserNamespace | None = None,
    ) -> RootFilesystem:
        """A root filesystem of an image; see ``RootFilesystems``."""
        found = self._finder.get(self._storage.snapshot(), image)
        rootfs_id = secrets.token_hex(16)
        record = RootfsRecord(
            rootfs_id,
            container_id,
            found.image_id,
            readonly,
            limit_bytes=limit_bytes,
            user_namespace=user_namespace,
        )
        with ExitStack() as undo:
            undo.callback(lambda: self._release_failed(rootfs_id, Deadline(_RELEASE_S)))
            record = self._entered(record, image)
            # One that was removed before that may be gone.
            if self._storage.image(found.image_id) is None:
                raise ImageNotFound.of(image)
            with storage_failing("make", self._directory):
                self._mounting.make(record, found)
            undo.pop_all()
        return RootFilesystem(
            rootfs_id=rootfs_id,
            path=self._mounting.merged(rootfs_id),
            image_id=found.image_id,
            image_name=self._name_of(found, image),
            config=found.file.config,
            limit_bytes=limit_bytes,
        )

    def _entered(self, record: RootfsRecord, image: str) -> RootfsRecord:
        """The record with a project of its own, among those that are lent."""
        # Apart from the other lock: a disk that hangs keeps nothing from being released.
        with self._choosing, storage_failing("make", self._directory):
            os.makedirs(self._directory, mode=0o700, exist_ok=True)
            taken = {each.project_id for each in list(self._lent.values())}
            project_id = self._quotas.free(taken, record.limit_bytes)
            with self._lock:
                if self._withheld[record.image_id]:
                    raise ImageNotFound.of(image)
                # One that is to go does so with the last of its users, whoever that is.
                goes = any(each.image_goes for each in self._lent_of(record.image_id))
                record = replace(record, project_id=project_id, image_goes=goes)
                self._lent[record.rootfs_id] = record
                # Before anything is made, so that the next start removes what we leave; and not
                # after another thread has changed it.
                self._store.put(record)
        return record

    def complete(self, rootfs_id: str, missing: Sequence[MissingPlace]) -> None:
        """Add what is missing, and take away what it could be written to if it is read-only."""
        merged, record = self._mounting.merged(rootfs_id), self._lent[rootfs_id]
        owner = self.owners(rootfs_id).here(0, 0)
        with (
            storage_failing("complete", merged),
            closing_fd(os.open(merged, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)) as root,
        ):
            for place in missing:
                # Below a file nothing can be: the runtime says so, in its own words.
                with suppress(NotADirectoryError):
                    make_in_root(root, place.path, is_directory=place.is_directory, owner=owner)
        if record.readonly:
            with host_failing("unmount", merged):
                unmount_overlay(merged)
            self._mounting.mount(record, self._image_of(record), writable=False)

    def release(self, rootfs_id: str, deadline: Deadline) -> None:
        """Unmount and remove a root filesystem; see ``RootFilesystems``."""
        record = self._lent.get(rootfs_id)
        if record is None:
            return
        self._mounting.unmount(rootfs_id, record)
        self._going.add(rootfs_id)
        is_gone = self._trees.remove(
            f"{self._directory}/{rootfs_id}",
            deadline.within(_RELEASE_S),
            partial(self._end, record),
        )
        with self._lock:
            record = self._lent.pop(rootfs_id, record)
            is_last = not self._lent_of(record.image_id)
        self._let_image_go(record.image_id, gone=record.image_goes and is_last)
        if is_gone:
            self._forget(record)
        else:
            self._note_released(record)

    def close(self) -> None:
        """Leave to the next start what has been released, and is not removed yet."""
        self._trees.close()

    def _note_released(self, record: RootfsRecord) -> None:
        """Note that it is not its image's business any more, while it is removed."""
        with self._lock:
            if record.rootfs_id in self._going:
                self._store.note(replace(record, image_goes=False))

    def _end(self, record: RootfsRecord, error: OcigrpcError | None) -> None:
        """Forget one that has been removed in the background."""
        if error is None:
            self._forget(record)
        else:
            # The next start tries again.
            log.error("rootfs.not_removed", rootfs_id=record.rootfs_id, error=error.message)

    def _forget(self, record: RootfsRecord) -> None:
        """Forget one of which nothing is there any more."""
        try:
            with self._lock:
                self._going.discard(record.rootfs_id)
                self._store.delete(record.key)
        except StoreFailed as error:
            # The next start removes its record.
            log.error("rootfs.not_forgotten", rootfs_id=record.rootfs_id, error=error.message)

    def _let_image_go(self, image_id: str, *, gone: bool) -> None:
        try:
            if gone:
                self.when_unused(image_id)
            elif image_id in self._storage.snapshot().images:
                # Of one that others have removed there is nothing to remember.
                self.when_released(image_id)
        except OcigrpcError as error:
            # It has no name any more, and can be removed by its id; or the storage is damaged.
            log.error("image.not_released", image_id=image_id, error=error.message)

    def refuse_mounts(self, rootfs_id: str) -> None:
        """Refuse to release it with mounts of others in it; see ``RootFilesystems``."""
        refuse_other_mounts(f"{self._directory}/{rootfs_id}", self._mounting.merged(rootfs_id))

    def ensure_mounted(self, rootfs_id: str) -> str:
        """The directory of a root filesystem, which is mounted if it was not."""
        merged = self._mounting.merged(rootfs_id)
        # One at a time, or it would be mounted twice.
        with self._lock:
            record = self._lent.get(rootfs_id)
            if record is None:
                raise HostFailed(f"the root filesystem {merged} has been released", path=merged)
            if not is_mount_point(merged):
                self._mounting.mount(record, self._image_of(record), writable=not record.readonly)
        return merged

    def owners(self, rootfs_id: str) -> Owners:
        """The users and groups that its files belong to; see ``RootFilesystems``."""
        record = self._lent.get(rootfs_id)
        return owners_of(record.user_namespace if record is not None else None)

    @contextmanager
    def withheld(self, image_id: str) -> Iterator[None]:
        """Lend an image to no further container, in a ``with``."""
        with self._lock:
            self._withheld[image_id] += 1
        try:
            yield
        finally:
            with self._lock:
                self._withheld[image_id] -= 1
                if not self._withheld[image_id]:
                    del self._withheld[image_id]

    def by_image(self) -> Mapping[str, Sequence[str]]:
        """The ids of the containers that images are lent to, by the ids of those."""
        found = dict[str, list[str]]()
        for each in list(self._lent.values()):
            found.setdefault(each.image_id, []).append(each.container_id)
        return found

    def writable(self) -> Mapping[str, Layer]:
        """Where containers write to, by their ids."""
        return {
            each.container_id: Layer(f"{self._directory}/{each.rootfs_id}/upper", each.project_id)
            for each in list(self._lent.values())
            if not each.readonly
        }

    def users(self, image_id: str) -> tuple[str, ...]:
        """The ids of the containers that an image is lent to."""
        return tuple(each.container_id for each in self._lent_of(image_id))

    def let_go(self, image_id: str) -> tuple[str, ...]:
        """Have an image go with the last of its users, which are answered.

        Raises ``StoreFailed``.
        """
        with self._lock:
            lent = self._lent_of(image_id)
            for each in lent:
                going = self._lent[each.rootfs_id] = replace(each, image_goes=True)
                self._store.put(going)
        return tuple(each.container_id for each in lent)

    def let_stay(self, image_id: str) -> None:
        """Undo :meth:`let_go`. Raises ``StoreFailed``."""
        with self._lock:
            for each in self._lent_of(image_id):
                if each.image_goes:
                    staying = self._lent[each.rootfs_id] = replace(each, image_goes=False)
                    self._store.put(staying)

    def recover(self, used: Collection[str]) -> None:
        """Release what was lent to a container that is not there; ``used`` are all the others'."""
        # For all of them: a start waits for no large trees.
        deadline = Deadline(_RELEASE_S)
        for rootfs_id in self._lent.keys() - set(used):
            log.info("rootfs.released", rootfs_id=rootfs_id)
            self._release_failed(rootfs_id, deadline)
        try:
            names = os.listdir(self._directory)
        except FileNotFoundError:
            return
        except OSError as error:
            log.error("rootfs.not_searched", path=self._directory, error=str(error))
            return
        # Those that are released meanwhile are removed before they are forgotten.
        for name in set(names) - self._lent.keys() - self._going:
            if not self._mounting.remove_unused(name):
                log.warning("rootfs.unknown", path=f"{self._directory}/{name}")

    def _release_failed(self, rootfs_id: str, deadline: Deadline) -> None:
        """Release it; what can't be released now, the next start releases."""
        try:
            self.release(rootfs_id, deadline)
        except (OcigrpcError, OSError) as error:
            log.error("rootfs.not_released", rootfs_id=rootfs_id, error=str(error))

    def _lent_of(self, image_id: str) -> Sequence[RootfsRecord]:
        # The copy is one step of the interpreter, which no other thread comes into.
        return [each for each in list(self._lent.values()) if each.image_id == image_id]

    def _name_of(self, image: Image, text: str) -> str:
        """The name by which an image was found, or else its first one."""
        names = image.names if image_id_of(text) else self._finder.names_meant(image, text)
        return next(iter(names), "")

    def _image_of(self, record: RootfsRecord) -> Image:
        # Also while it has no name but a pull's.
        if (image := self._storage.image(record.image_id)) is None:
            raise ImageNotFound.of(record.image_id)
        return image
