"""The mount of a root filesystem: an image's layers, and above them what a container writes."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence

from ocigrpc.engine.images.layers.quotas import Quotas
from ocigrpc.engine.images.storage import Image, Storage
from ocigrpc.engine.model.rootfs import RootfsRecord
from ocigrpc.failing import host_failing
from ocigrpc.host.files.directory import make_directory, write_new_file
from ocigrpc.host.files.overlay import TooManyLayers, mount_overlay
from ocigrpc.image_errors import ImageUnusable

# Holds the id of the directory that it is in; any other directory there is not ours.
MARK = "id"


class Mounting:
    """Makes root filesystems, and mounts them, each below ``directory`` by its id.

    ``options`` are further ones of overlay.
    """

    def __init__(
        self, directory: str, storage: Storage, quotas: Quotas, options: Sequence[str]
    ) -> None:
        self._directory = directory
        self._storage = storage
        self._quotas = quotas
        self._options = options

    def make(self, record: RootfsRecord, image: Image) -> None:
        """Make the directories of a new one, and mount it to be written to.

        Raises what :meth:`mount` does, and ``OSError``.
        """
        directory = f"{self._directory}/{record.rootfs_id}"
        make_directory(directory)
        write_new_file(f"{directory}/{MARK}", record.rootfs_id.encode())
        for name in ("empty", "upper", "work", "merged"):
            make_directory(f"{directory}/{name}")
        # They are those of "/" in the container.
        upper, mode, uid, gid = f"{directory}/upper", 0o755, 0, 0
        if image.chain:
            top = os.stat(self._storage.layer_path(image.chain[0].id))
            mode, uid, gid = stat.S_IMODE(top.st_mode), top.st_uid, top.st_gid
        os.chown(upper, uid, gid)
        os.chmod(upper, mode)
        self._quotas.begin(record, upper, f"{directory}/work")
        self.mount(record, image, writable=True)

    def mount(self, record: RootfsRecord, image: Image, *, writable: bool) -> None:
        """Mount one. Raises ``ImageUnusable`` (IMAGE_TOO_DEEP), ``HostFailed``."""
        directory = f"{self._directory}/{record.rootfs_id}"
        upper, merged = f"{directory}/upper", f"{directory}/merged"
        try:
            mount_overlay(
                [self._storage.link(each.id) for each in image.chain],
                merged,
                store_dir=self._storage.overlay_dir,
                # The kernel takes two directories at least, and an image may have no layer.
                above=[*([] if writable else [upper]), f"{directory}/empty"],
                upper=upper if writable else "",
                work=f"{directory}/work" if writable else "",
                options=self._options,
            )
        except TooManyLayers as error:
            raise ImageUnusable(
                f"this kernel can't mount {len(image.chain)} layers over each other",
                reason="IMAGE_TOO_DEEP",
                image=image.image_id,
                layers=len(image.chain),
            ) from error
        except OSError as error:
            with host_failing("mount", merged):
                raise OSError(error.errno, error.strerror) from error
