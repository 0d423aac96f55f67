"""The root of a container's files: as its programs see it or, once it has ended, on the host."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import NamedTuple

import msgspec

from ocigrpc.engine.containers.container import Container
from ocigrpc.engine.model.values import State
from ocigrpc.errors import HostFailed, PreconditionFailed, WrongState
from ocigrpc.host.descriptors import closing_fd
from ocigrpc.host.files.roots import open_root_of
from ocigrpc.host.mappings.owners import Owners
from ocigrpc.host.processes.process import Process
from ocigrpc.host.processes.usage import gid_ranges, uid_ranges
from ocigrpc.image_errors import ImageNotFound
from ocigrpc.oci.bundle import container_spec
from ocigrpc.oci.spec.types import RuntimeSpec
from ocigrpc.oci.spec.user_namespace import ranges_of
from ocigrpc.waiting import Deadline


class CopyRoot(NamedTuple):
    """An ``O_PATH`` descriptor of the root, and whose its files are."""

    fd: int
    owners: Owners
    is_readonly: bool = False


@contextmanager
def root_of(container: Container, deadline: Deadline) -> Iterator[CopyRoot]:
    """The root, for a ``with``; it stays the same, whatever becomes of the container.

    Raises ``WrongState`` while it is being created, ``PreconditionFailed`` (PATH_UNUSABLE) when
    the root filesystem of one that has ended is gone.
    """
    record = container.record
    if record.state is State.CREATING:
        raise WrongState.of(record.container_id, record.state, "made")
    # Until then its first process may not be known again.
    deadline.wait(container.settled, container.removed)
    with ExitStack() as opened:
        # An overlay must not be mounted again in the middle of its release.
        with container.files.one():
            root = _of_process(container.init, opened) or _on_host(container, opened)
        yield root


def spec_of(container: Container) -> RuntimeSpec:
    """The spec of a container.

    Raises ``HostFailed``, and ``PreconditionFailed`` (PATH_UNUSABLE) once it is gone: it is where a
    restart of the host clears everything.
    """
    if not os.path.exists(container.paths.spec_file):
        problem = (
            f"the spec of container {container.container_id!r} went with a restart of the host"
        )
        raise _unusable(container, problem, problem)
    return msgspec.convert(container_spec(container.paths.spec_file), RuntimeSpec)


def _of_process(init: Process | None, opened: ExitStack) -> CopyRoot | None:
    """The root of a first process; None when that has ended."""
    if init is None:
        return None
    try:
        fd = opened.enter_context(closing_fd(open_root_of(init)))
        # Its mounts are there for as long as somebody has their namespace.
        mounts = os.open(f"/proc/{init.pid}/ns/mnt", os.O_RDONLY)
        opened.enter_context(closing_fd(mounts))
        owners = Owners(tuple(uid_ranges(init.pid)), tuple(gid_ranges(init.pid)))
    except (HostFailed, OSError):
        # One that ends loses its program first, and then its root.
        if init.alive() and init.program() is not None:
            raise
        return None
    # Otherwise its number may have been another's.
    return CopyRoot(fd, owners) if init.alive() else None


def _on_host(container: Container, opened: ExitStack) -> CopyRoot:
    """The root of one that has ended, without mounts."""
    if container.record.rootfs_id:
        return _of_image(container, opened)
    spec = spec_of(container)
    fd = _opened(container, spec.root.path, opened)
    linux = spec.linux
    owners = Owners()
    if linux is not None and linux.uid_mappings and linux.gid_mappings:
        owners = Owners(ranges_of(linux.uid_mappings), ranges_of(linux.gid_mappings))
    return CopyRoot(fd, owners, bool(spec.root.readonly))


def _of_image(container: Container, opened: ExitStack) -> CopyRoot:
    """The root that was lent, also when a restart of the host took its mount and the spec.

    A root that is read-only is mounted so.
    """
    roots, rootfs_id = container.context.roots, container.record.rootfs_id
    try:
        path = roots.ensure_mounted(rootfs_id)
    except ImageNotFound as error:
        raise _unusable(container, error.message, error.message) from error
    fd = _opened(container, path, opened)
    return CopyRoot(fd, roots.owners(rootfs_id), bool(os.fstatvfs(fd).f_flag & os.ST_RDONLY))


def _opened(container: Container, path: str, opened: ExitStack) -> int:
    try:
        fd = os.open(path, os.O_PATH | os.O_DIRECTORY)
    except OSError as error:
        text = error.strerror or str(error)
        problem = f"the root filesystem {path} can't be opened: {text}"
        raise _unusable(container, problem, text) from error
    return opened.enter_context(closing_fd(fd))


def _unusable(container: Container, problem: str, error: str) -> PreconditionFailed:
    return PreconditionFailed(
        problem,
        reason="PATH_UNUSABLE",
        container_id=container.container_id,
        path="/",
        error=error,
    )
