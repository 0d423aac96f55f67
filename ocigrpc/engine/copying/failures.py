"""What is wrong with a path in a container, as the errors that a caller gets."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager

from ocigrpc.engine.containers.container import Container
from ocigrpc.errors import (
    Busy,
    ContainerNotFound,
    HostFailed,
    LimitReached,
    OcigrpcError,
    PathNotFound,
    PreconditionFailed,
)
from ocigrpc.failing import host_failure
from ocigrpc.waiting import Deadline

# What is wrong with the node, and not with a path.
_OF_HOST = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EIO)


@contextmanager
def path_failing(container_id: str, path: str) -> Iterator[None]:
    """Raise an ``OSError`` of the block as what is wrong with its path, or with ``path``."""
    try:
        yield
    except OSError as error:
        raise _failure(error, container_id, os.fsdecode(error.filename or path)) from error


@contextmanager
def ended_by_removal(container: Container, deadline: Deadline) -> Iterator[None]:
    """Have the block end when the container's files begin to go, as when its caller goes.

    Raises ``ContainerNotFound`` then, however the block ends: what it has read may not be whole.
    And ``Busy`` for what the host fails at while a verb changes the container.
    """
    going = container.files.going
    going.add(deadline.cancel)
    try:
        if going.is_set():
            deadline.cancel()
        yield
    except OcigrpcError as error:
        # In this order: a removal is over when its files have gone.
        verb = container.verb
        if going.is_set():
            raise ContainerNotFound.of(container.container_id) from error
        if verb and isinstance(error, HostFailed):
            raise Busy.of(container.container_id, verb) from error
        raise
    else:
        if going.is_set():
            raise ContainerNotFound.of(container.container_id)
    finally:
        going.discard(deadline.cancel)


def _failure(error: OSError, container_id: str, path: str) -> OcigrpcError:
    text = error.strerror or str(error)
    if error.errno in _OF_HOST:
        return host_failure(error)
    if error.errno == errno.ENOENT:
        problem = f"container {container_id!r} has no {path}"
        return PathNotFound(problem, container_id=container_id, path=path)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return LimitReached(
            f"{path} has no room: {text}",
            reason="DISK_FULL",
            container_id=container_id,
            path=path,
        )
    if error.errno == errno.ENOTDIR:
        return PreconditionFailed(
            f"{path}: not a directory",
            reason="NOT_A_DIRECTORY",
            container_id=container_id,
            path=path,
        )
    if error.errno == errno.EROFS:
        return PreconditionFailed(
            f"{path} is read-only",
            reason="PATH_READ_ONLY",
            container_id=container_id,
            path=path,
        )
    return PreconditionFailed(
        f"{path}: {text}",
        reason="PATH_UNUSABLE",
        container_id=container_id,
        path=path,
        error=text,
    )
