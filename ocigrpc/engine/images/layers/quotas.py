"""Projects for what containers write, where the file system counts what projects take.

Each root filesystem that is lent has one of its own, on the two directories that its overlay
writes to. So what it takes is known at once, and can be limited.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Collection, Iterator
from typing import NamedTuple

from ocigrpc.engine.model.images import FsUsage, WritableLayer
from ocigrpc.engine.model.rootfs import RootfsRecord
from ocigrpc.errors import HostFailed, PreconditionFailed
from ocigrpc.host import quota
from ocigrpc.log import get_logger

log = get_logger()

# Ours are far from those that people choose, and from those of other engines: each directory of
# root filesystems has a range of its own, which depends on its inode.
_FIRST = 0x6F630000
_RANGES, _RANGE = 4096, 100_000
# Each try asks the kernel. Whoever owns a file may put it into any project, and so take many that
# follow each other.
_IN_TURN, _AT_RANDOM = 1000, 3000

# The directories of one before it is mounted: upper and work.
_EMPTY_INODES = 2


class Layer(NamedTuple):
    """Where a container writes to, and the project of that; 0: none."""

    path: str
    project_id: int = 0


def counted(container_id: str, layer: Layer) -> WritableLayer | None:
    """What a container has written until now, if its file system counts that."""
    if not layer.project_id:
        return None
    try:
        # A copy of the directory is in no project, and another's may have its number there.
        if quota.project_of(layer.path) != layer.project_id:
            return None
        used = quota.usage(layer.path, layer.project_id)
    except OSError as error:
        # It is removed meanwhile, or mounted without quotas now.
        log.debug("usage.not_counted", container_id=container_id, error=str(error))
        return None
    return WritableLayer(
        container_id, FsUsage(used.bytes, used.inodes), time.time_ns(), used.limit_bytes
    )


class Quotas:
    """The projects of root filesystems that are lent in a directory."""

    def __init__(self, directory: str) -> None:
        self._directory = directory

    def free(self, taken: Collection[int], limit_bytes: int) -> int:
        """A project that nobody uses; 0 if there are none here, or none is found that is free.

        ``taken`` are those of root filesystems that may not be in them yet. A limit takes one:
        raises ``PreconditionFailed`` (ROOTFS_QUOTA_UNSUPPORTED) if there are none here, and
        ``HostFailed`` if none is free. Raises ``OSError``.
        """
        directory = self._directory
        found = quota.support(directory)
        # What is below a project of somebody's is counted, and limited, with that one.
        if found.counts and quota.project_of(directory):
            found = quota.Support()
        if limit_bytes and not found.limits:
            raise PreconditionFailed(
                f"the file system of {directory} limits no projects",
                reason="ROOTFS_QUOTA_UNSUPPORTED",
                field="config.rootfs_limit_bytes",
                path=directory,
            )
        if not found.counts:
            return 0
        noted = quota.noted_projects()
        for each in self._candidates():
            if each in taken or each in noted:
                continue
            if quota.usage(directory, each) == quota.ProjectUsage(0, 0, 0):
                return each
        if limit_bytes:
            raise HostFailed(f"no project is free for {directory}", path=directory)
        log.warning("rootfs.no_project_free", path=directory)
        return 0

    def begin(self, record: RootfsRecord, upper: str, work: str) -> None:
        """Put the directories of a root filesystem, which are empty, into its project.

        Raises ``OSError``, and ``HostFailed`` if somebody else has taken the same one meanwhile.
        """
        if not record.project_id:
            return
        for path in (upper, work):
            quota.set_project(path, record.project_id)
        if quota.usage(upper, record.project_id).inodes != _EMPTY_INODES:
            # Or else their end would lift a limit of another's.
            for path in (upper, work):
                quota.set_project(path, 0)
            raise HostFailed(f"project {record.project_id} is also another's", path=upper)
        if record.limit_bytes:
            quota.set_limit(upper, record.project_id, record.limit_bytes)

    def end(self, record: RootfsRecord | None, upper: str) -> None:
        """Lift the limit of a root filesystem that is about to be removed; it may be gone already.

        Without a ``record`` its project is known by its number.
        """
        try:
            project_id = quota.project_of(upper)
            is_ours = project_id == record.project_id if record else project_id in self._range()
            if project_id and is_ours:
                quota.set_limit(upper, project_id, 0)
        except FileNotFoundError:
            return
        except OSError as error:
            # Nobody is given a project that has a limit, so it limits nobody.
            log.debug("rootfs.limit_not_lifted", path=upper, error=str(error))

    def _candidates(self) -> Iterator[int]:
        numbers = self._range()
        yield from numbers[:_IN_TURN]
        yield from random.sample(numbers, _AT_RANDOM)

    def _range(self) -> range:
        first = _FIRST + os.stat(self._directory).st_ino % _RANGES * _RANGE
        return range(first, first + _RANGE)
