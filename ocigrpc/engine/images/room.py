"""What images leave free of a disk, for all others that write there."""

from __future__ import annotations

import os

from ocigrpc.engine.images.failures import storage_full
from ocigrpc.failing import host_failing

# So much, but no more than this part of a small disk.
_BYTES = 64 << 20
_INODES = 1000
_PART = 20


def require_room(directory: str) -> None:
    """Raise ``StorageFull`` when its disk has too little left; ``HostFailed``."""
    with host_failing("look at", directory):
        try:
            disk = os.statvfs(directory)
        except FileNotFoundError:
            # The store is made by the first pull.
            return
    free_bytes, size_bytes = disk.f_bavail * disk.f_frsize, disk.f_blocks * disk.f_frsize
    if free_bytes < min(_BYTES, size_bytes // _PART):
        raise storage_full(directory, f"only {free_bytes} bytes are free")
    # Some file systems don't count them.
    if disk.f_files and disk.f_favail < min(_INODES, disk.f_files // _PART):
        raise storage_full(directory, f"only {disk.f_favail} inodes are free")
