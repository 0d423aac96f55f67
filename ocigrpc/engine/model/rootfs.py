"""Root filesystems made of images: what containers know of them, and what is remembered."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import ClassVar, Protocol

from msgspec import Struct

from ocigrpc.engine.model.values import ObjectKey, ObjectKind
from ocigrpc.host.mappings.owners import Owners
from ocigrpc.image_errors import ImageNotFound
from ocigrpc.oci.images.config import ImageConfig
from ocigrpc.oci.spec.config import UserNamespace
from ocigrpc.oci.spec.root_files import MissingPlace
from ocigrpc.waiting import Deadline


class RootfsRecord(Struct, frozen=True, omit_defaults=True):
    """A root filesystem that was lent to a container, until it is released.

    A ``readonly`` one has nothing that could be written to. ``image_goes``: the image was removed,
    and goes with the last of those that it was lent to. ``project_id`` is the project that counts
    what is written to it, if not 0, and ``limit_bytes`` how much that may take, unless it is 0.
    ``user_namespace``: its files have owners that these mappings have on the host.
    """

    kind: ClassVar[ObjectKind] = ObjectKind.ROOTFS

    rootfs_id: str
    container_id: str
    image_id: str
    readonly: bool = False
    image_goes: bool = False
    project_id: int = 0
    limit_bytes: int = 0
    user_namespace: UserNamespace | None = None

    @property
    def key(self) -> ObjectKey:
        """What the store knows it by."""
        return ObjectKey(self.kind, self.rootfs_id)


class RootFilesystem(Struct, frozen=True):
    """What a container is made of: a directory on the host, and what its image says.

    ``image_name`` is the image's name by which it was asked for, or its first one; empty if it has
    none. What is written to it may take ``limit_bytes``, unless that is 0.
    """

    rootfs_id: str
    path: str
    image_id: str
    image_name: str
    config: ImageConfig
    limit_bytes: int = 0


class RootFilesystems(Protocol):
    """Lends root filesystems to containers; knows nothing else of them."""

    def lend(
        self,
        image: str,
        container_id: str,
        *,
        readonly: bool,
        limit_bytes: int = 0,
        user_namespace: UserNamespace | None = None,
    ) -> RootFilesystem:
        """One of an image by its id or name, which can be written to until it is completed.

        With ``limit_bytes``, what is written takes no more than that, and with ``user_namespace``
        its files have owners there as the image says. Raises ``ImageNotFound``, ``ImageUnusable``
        (IMAGE_TOO_DEEP), ``InvalidArgument``, ``PreconditionFailed`` (ROOTFS_QUOTA_UNSUPPORTED,
        ID_MAPPING_UNSUPPORTED, PATH_NOT_SEARCHABLE), ``HostFailed``, ``StoreFailed``; then nothing
        of it is left.
        """

    def complete(self, rootfs_id: str, missing: Sequence[MissingPlace]) -> None:
        """Add what is missing in it, before anything uses it; then it is read-only, if it is to be.

        Raises ``HostFailed``.
        """

    def release(self, rootfs_id: str, deadline: Deadline) -> None:
        """Remove it, with all that was written to it; no error if that is done.

        What takes longer than a moment goes on in the background, and after the next start. Raises
        ``OSError``, ``OcigrpcError``.
        """

    def refuse_mounts(self, rootfs_id: str) -> None:
        """Refuse to release it with mounts of others in it, which are none of the container's.

        Raises ``PreconditionFailed`` (MOUNT_IN_THE_WAY), ``OSError``.
        """

    def ensure_mounted(self, rootfs_id: str) -> str:
        """Its directory, with its files, also after the host was started again.

        Raises ``ImageNotFound``, ``HostFailed``.
        """

    def owners(self, rootfs_id: str) -> Owners:
        """The users and groups that its files belong to."""

    def recover(self, used: Collection[str]) -> None:
        """Release, after a start of the service, all but those that are ``used``."""


class NoRootFilesystems:
    """``RootFilesystems`` where there are no images."""

    def lend(
        self,
        image: str,
        container_id: str,
        *,
        readonly: bool,
        limit_bytes: int = 0,
        user_namespace: UserNamespace | None = None,
    ) -> RootFilesystem:
        """There is none."""
        raise ImageNotFound.of(image)

    def complete(self, rootfs_id: str, missing: Sequence[MissingPlace]) -> None:
        """Nothing."""

    def release(self, rootfs_id: str, deadline: Deadline) -> None:
        """Nothing."""

    def refuse_mounts(self, rootfs_id: str) -> None:
        """Nothing."""

    def ensure_mounted(self, rootfs_id: str) -> str:
        """There is none."""
        raise ImageNotFound.of(rootfs_id)

    def owners(self, rootfs_id: str) -> Owners:
        """Those of the host."""
        return Owners()

    def recover(self, used: Collection[str]) -> None:
        """Nothing."""
