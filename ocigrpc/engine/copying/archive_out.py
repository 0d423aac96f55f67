"""Files out of a container."""

from __future__ import annotations

import os
import stat
from collections.abc import Generator, Iterator

from msgspec import Struct

from ocigrpc.engine.containers.container import Container
from ocigrpc.engine.copying.failures import ended_by_removal, path_failing
from ocigrpc.engine.copying.root import root_of
from ocigrpc.host.archives.pack import DESCRIPTORS, PIECE_BYTES, joined, pack
from ocigrpc.host.descriptors import closing_fd, require_descriptors
from ocigrpc.host.files.roots import open_in_root
from ocigrpc.waiting import Deadline


class CopySource(Struct, frozen=True):
    """See ``CopyOutRequest`` in the proto; ``name`` is never empty."""

    container_id: str
    path: str
    name: str
    follow_link: bool = False
    stat_only: bool = False


class PathStat(Struct, frozen=True):
    """What is at a path; see the proto."""

    name: str
    size_bytes: int
    mode: int
    modified_ns: int
    link_target: str


def copy_out(
    container: Container, source: CopySource, deadline: Deadline
) -> Generator[PathStat | bytes]:
    """What is at a path, and the pieces of its archive; raises the proto's errors of ``CopyOut``.

    It takes no container's lock, so that no other verb delays it.
    """
    flags = 0 if source.follow_link else os.O_NOFOLLOW
    with (
        ended_by_removal(container, deadline),
        path_failing(container.container_id, source.path),
        root_of(container, deadline) as root,
        closing_fd(open_in_root(root.fd, source.path, flags)) as file,
    ):
        yield _stat(file, source.name)
        if source.stat_only:
            return
        require_descriptors(DESCRIPTORS)
        pieces = pack(file, source.name, source.path, root.owners)
        yield from joined(_until(pieces, deadline), PIECE_BYTES)


def _until(pieces: Iterator[bytes], deadline: Deadline) -> Iterator[bytes]:
    """The pieces, also of what is long and gives none, until the deadline."""
    for piece in pieces:
        deadline.check()
        yield piece


def _stat(file: int, name: str) -> PathStat:
    found = os.fstat(file)
    is_link = stat.S_ISLNK(found.st_mode)
    return PathStat(
        name=name,
        size_bytes=found.st_size if stat.S_ISREG(found.st_mode) else 0,
        mode=found.st_mode,
        modified_ns=found.st_mtime_ns,
        link_target=os.readlink("", dir_fd=file) if is_link else "",
    )
