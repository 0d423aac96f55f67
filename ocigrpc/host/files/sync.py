"""File systems, written to their disks as a whole."""

from __future__ import annotations

import os

from ocigrpc.host.descriptors import closing_fd
from ocigrpc.host.libc import last_error, libc


def sync_file_system(path: str) -> None:
    """Have the disk write all of the file system that ``path`` is on; syncfs(2).

    It waits for what others have written as well. Raises ``OSError``.
    """
    with closing_fd(os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)) as directory:
        if libc.syncfs(directory):
            raise last_error(path)
