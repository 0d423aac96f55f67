"""Files into a container."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable

from msgspec import Struct

from ocigrpc.engine.containers.container import Container
from ocigrpc.engine.copying.failures import ended_by_removal, path_failing
from ocigrpc.engine.copying.root import CopyRoot, root_of, spec_of
from ocigrpc.host.archives.pack import DESCRIPTORS
from ocigrpc.host.archives.unpack import Rules, Unpacked, unpack
from ocigrpc.host.descriptors import closing_fd, require_descriptors
from ocigrpc.host.files.roots import open_in_root
from ocigrpc.log import get_logger
from ocigrpc.waiting import Deadline

log = get_logger()


class CopyTarget(Struct, frozen=True):
    """See ``CopyIntoStart`` in the proto."""

    container_id: str
    path: str
    keep_types: bool = False
    chown: bool = False


def copy_into(
    container: Container, target: CopyTarget, chunks: Iterable[bytes], deadline: Deadline
) -> Unpacked:
    """Unpack an archive, and how much that was; raises the proto's errors of ``CopyInto``.

    ``chunks`` end at the deadline as well. It takes no container's lock, so that no other verb
    delays it.
    """
    with (
        ended_by_removal(container, deadline),
        container.files.one(),
        path_failing(container.container_id, target.path),
        root_of(container, deadline) as root,
        closing_fd(open_in_root(root.fd, target.path, os.O_DIRECTORY)) as directory,
    ):
        if root.is_readonly:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), target.path)
        require_descriptors(DESCRIPTORS)
        rules = Rules(_owner_of(container, root, target.chown), target.keep_types)
        unpacked = unpack(chunks, directory, target.path, rules)
    log.info("container.copied_into", container_id=container.container_id, path=target.path)
    return unpacked


def _owner_of(
    container: Container, root: CopyRoot, chown: bool
) -> Callable[[int, int], tuple[int, int]]:
    """What gives the host's numbers of an owner in an archive."""
    if not chown:
        return root.owners.here
    user = spec_of(container).process.user
    owner = root.owners.here(user.uid, user.gid) if user is not None else root.owners.here(0, 0)
    return lambda *_: owner
