"""The mount of a root filesystem: an image's layers, and above them what a container writes."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from ocigrpc.engine.images.layers.quotas import Quotas
from ocigrpc.engine.images.storage import Image, Storage
from ocigrpc.engine.model.rootfs import RootfsRecord
from ocigrpc.errors import OcigrpcError, PreconditionFailed
from ocigrpc.failing import host_failing
from ocigrpc.host.files.directory import make_directory, write_new_file
from ocigrpc.host.files.overlay import TooManyLayers, mount_overlay, unmount_overlay
from ocigrpc.host.files.tree import remove_tree
from ocigrpc.host.mappings.layers import NotIdMapped, mount_idmapped_overlay
from ocigrpc.host.mappings.namespace import NoUserNamespace, user_namespace
from ocigrpc.host.mappings.owners import Owners
from ocigrpc.host.mappings.searching import first_closed
from ocigrpc.image_errors import ImageUnusable
from ocigrpc.oci.spec.user_namespace import owners_of
from ocigrpc.settings.values import Settings

# Holds the id of the directory that it is in; any other directory there is not ours.
_MARK = "id"
# What an id looks like: no other name is one of ours.
_ID = re.compile(r"[0-9a-f]{32}")

_SEARCHABLE = stat.S_IXGRP | stat.S_IXOTH


class Mounting:
    """Makes root filesystems, and mounts them, each below ``directory`` by its id."""

    def __init__(
        self, directory: str, storage: Storage, quotas: Quotas, settings: Settings
    ) -> None:
        self._directory = directory
        # From the outermost on.
        self._own = (os.path.realpath(settings.root_dir), directory)
        self._storage = storage
        self._quotas = quotas
        self._options = settings.images.mount_options

    def _let_in(self, owners: Owners) -> None:
        """Let the root of a user namespace search the directories of the service's own.

        Raises ``PreconditionFailed`` (PATH_NOT_SEARCHABLE) if one above is closed to it,
        ``HostFailed``.
        """
        with host_failing("open", self._directory):
            for each in self._own:
                if first_closed(each, owners) == each:
                    # Their names can't be listed, and what is in them has modes of its own.
                    os.chmod(each, stat.S_IMODE(os.stat(each).st_mode) | _SEARCHABLE)
            closed = first_closed(self._directory, owners)
        if closed:
            raise PreconditionFailed(
                f"the root of the user namespace may not search {closed}, which has"
                " the service's directory below it",
                reason="PATH_NOT_SEARCHABLE",
                field="config.user_namespace",
                path=closed,
            )

    def make(self, record: RootfsRecord, image: Image) -> None:
        """Make the directories of a new one, and mount it to be written to.

        Raises what :meth:`mount` does, ``PreconditionFailed`` (PATH_NOT_SEARCHABLE), ``OSError``.
        """
        directory = f"{self._directory}/{record.rootfs_id}"
        make_directory(directory)
        owners = owners_of(record.user_namespace)
        root_uid, root_gid = owners.here(0, 0)
        if record.user_namespace is not None:
            self._let_in(owners)
            # Its root comes in by its group; no other user of the host does, who might run there
            # what has set-user-ID.
            os.chown(directory, -1, root_gid)
            os.chmod(directory, 0o710)
        write_new_file(f"{directory}/{_MARK}", record.rootfs_id.encode())
        for name in ("empty", "upper", "work", "merged"):
            make_directory(f"{directory}/{name}")
        # They are those of "/" in the container.
        upper, mode, uid, gid = f"{directory}/upper", 0o755, root_uid, root_gid
        if image.chain:
            top = os.stat(self._storage.layer_path(image.chain[0].id))
            mode = stat.S_IMODE(top.st_mode)
            uid, gid = _owner_here(top, owners)
        os.chown(upper, uid, gid)
        os.chmod(upper, mode)
        self._quotas.begin(record, upper, f"{directory}/work")
        self.mount(record, image, writable=True)

    def mount(self, record: RootfsRecord, image: Image, *, writable: bool) -> None:
        """Mount one.

        Raises ``ImageUnusable`` (IMAGE_TOO_DEEP), ``PreconditionFailed`` (ID_MAPPING_UNSUPPORTED),
        ``HostFailed``.
        """
        directory = f"{self._directory}/{record.rootfs_id}"
        upper, merged = f"{directory}/upper", f"{directory}/merged"
        try:
            with _mount_of(record) as mount:
                mount(
                    [self._storage.link(each.id) for each in image.chain],
                    merged,
                    store_dir=self._storage.overlay_dir,
                    # The kernel takes two directories at least, and an image may have no layer.
                    above=[*([] if writable else [upper]), f"{directory}/empty"],
                    upper=upper if writable else "",
                    work=f"{directory}/work" if writable else "",
                    options=self._options,
                )
        except (NotIdMapped, NoUserNamespace) as error:
            text = error.strerror or str(error)
            path = error.filename or self._storage.overlay_dir
            raise PreconditionFailed(
                f"this kernel can't map the owners of the files in {path}: {text}",
                reason="ID_MAPPING_UNSUPPORTED",
                path=path,
                error=text,
            ) from error
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

    def merged(self, rootfs_id: str) -> str:
        """Where one is mounted."""
        return f"{self._directory}/{rootfs_id}/merged"

    def unmount(self, rootfs_id: str, record: RootfsRecord | None) -> None:
        """Take its overlay away, and its limit. Raises ``HostFailed``, ``PreconditionFailed``."""
        merged = self.merged(rootfs_id)
        with host_failing("unmount", merged):
            unmount_overlay(merged)
            self._quotas.end(record, f"{self._directory}/{rootfs_id}/upper")

    def remove_unused(self, name: str) -> bool:
        """Remove what a create has left that a loss of power cut off; whether it is not there.

        One that a container has written to is left: its record may be in a backup of the store.
        """
        directory = f"{self._directory}/{name}"
        if not _ID.fullmatch(name):
            return False
        with suppress(OSError, OcigrpcError):
            if Path(directory, _MARK).read_text() == name and not os.listdir(f"{directory}/upper"):
                self.unmount(name, None)
                remove_tree(self._directory, directory)
        with suppress(OSError):
            # It may be made, and not marked yet.
            os.rmdir(directory)
        return not os.path.lexists(directory)


@contextmanager
def _mount_of(record: RootfsRecord) -> Iterator[Callable[..., None]]:
    """How it is mounted."""
    if record.user_namespace is None:
        yield mount_overlay
        return
    with user_namespace(owners_of(record.user_namespace)) as namespace:
        yield partial(mount_idmapped_overlay, namespace=namespace)


def _owner_here(found: os.stat_result, owners: Owners) -> tuple[int, int]:
    """The host's numbers for the owner of a layer's file; root's, if there are none."""
    try:
        return owners.here(found.st_uid, found.st_gid)
    except OSError:
        return owners.here(0, 0)
