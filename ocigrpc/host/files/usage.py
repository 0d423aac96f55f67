"""What a tree of files takes on its disk."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

from ocigrpc.host.files.tree import entries

# st_blocks is in these, whatever the file system's own are; see stat(2).
_BLOCK_BYTES = 512

# After so many files there is a pause.
_BATCH = 500

# Most files with several names of which it is known that they have been counted; some 10 MB.
_LINKED_LIMIT = 100_000


class Usage(NamedTuple):
    """Bytes of a disk, and files and directories."""

    bytes: int
    inodes: int


def usage_of(path: str, pause: Callable[[], None]) -> Usage:
    """What is at and below a path takes; not what is mounted there.

    A file with several names counts once, unless there are very many of those. ``pause`` is called
    every few milliseconds. Raises ``OSError``, also when files are moved meanwhile, and whatever
    ``pause`` does.
    """
    used_bytes = inodes = 0
    linked = set[int]()
    for number, entry in enumerate(entries(path)):
        if number % _BATCH == _BATCH - 1:
            pause()
        with suppress(FileNotFoundError):
            found = os.stat(entry.name, dir_fd=entry.parent, follow_symlinks=False)
            if not entry.is_directory and found.st_nlink > 1:
                if found.st_ino in linked:
                    continue
                if len(linked) < _LINKED_LIMIT:
                    linked.add(found.st_ino)
            used_bytes += found.st_blocks * _BLOCK_BYTES
            inodes += 1
    return Usage(used_bytes, inodes)
