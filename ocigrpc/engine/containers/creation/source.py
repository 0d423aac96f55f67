"""What a container is made from: a bundle, a spec, a root filesystem or an image."""

from __future__ import annotations

import errno
from contextlib import ExitStack

import msgspec

from ocigrpc.engine.containers.context import Context
from ocigrpc.engine.containers.teardown import attempt
from ocigrpc.engine.model.rootfs import RootFilesystem, RootFilesystems
from ocigrpc.engine.model.signals import parse_signal
from ocigrpc.engine.model.values import BundleSource, ConfigSource, CreateRequest, SpecSource
from ocigrpc.errors import InvalidArgument, Violation
from ocigrpc.oci.bundle import Spec, bundle_spec, text_spec
from ocigrpc.oci.images.merge import as_the_images, merged
from ocigrpc.oci.spec.build import spec_of
from ocigrpc.oci.spec.config import ContainerConfig
from ocigrpc.oci.spec.root_files import missing_places
from ocigrpc.oci.spec.types import ShownSpec
from ocigrpc.oci.spec.user_namespace import check_user_namespace
from ocigrpc.violations import Violations
from ocigrpc.waiting import Deadline

# Of a writable layer: room for its directories, and less than file systems can count.
_ROOTFS_LIMITS = 1 << 20, 1 << 60

# Why links of an image lead to no place.
_UNREACHABLE = {errno.ELOOP: "MALFORMED", errno.ENAMETOOLONG: "TOO_LONG"}


def lent_root(
    request: CreateRequest, container_id: str, context: Context, undo: ExitStack
) -> RootFilesystem | None:
    """The root filesystem of an image, if one is asked for, which ``undo`` releases.

    Raises ``ImageNotFound``, ``InvalidArgument`` and what else keeps it from being lent.
    """
    if not isinstance(request.source, ConfigSource):
        return None
    config = request.source.config
    violations = Violations()
    check_user_namespace(config, violations)
    violations.raise_any()
    if config.rootfs_limit_bytes:
        _check_limit(config)
    if not config.image:
        return None
    if config.rootfs_path:
        problem = "is for a container without `rootfs_path`"
        raise InvalidArgument.of("config.image", problem, reason="CONFLICT")
    try:
        root = context.roots.lend(
            config.image,
            container_id,
            readonly=config.readonly_rootfs,
            limit_bytes=config.rootfs_limit_bytes,
            user_namespace=config.user_namespace,
        )
    except InvalidArgument as error:
        raise error.below("config") from error

    def release() -> None:
        context.roots.release(root.rootfs_id, Deadline(context.settings.timeouts.undo_s))

    undo.callback(attempt, release)
    return root


def _check_limit(config: ContainerConfig) -> None:
    field, found = "config.rootfs_limit_bytes", Violations()
    found.in_range(field, config.rootfs_limit_bytes, *_ROOTFS_LIMITS)
    found.allow(bool(config.image), field, "is for containers of an `image`", "NOT_APPLICABLE")
    found.raise_any()


def source_spec(request: CreateRequest, container_id: str, root: RootFilesystem | None) -> Spec:
    """The spec that a request asks for, as it is before it becomes ours."""
    match request.source:
        case BundleSource(bundle_path):
            return bundle_spec(bundle_path)
        case SpecSource(spec_json):
            return text_spec(spec_json)
        case ConfigSource(config):
            if root is None:
                return spec_of(config, container_id=container_id, terminal=request.terminal)
            whole = merged(config, root.config, root.path)
            try:
                return spec_of(whole, container_id=container_id, terminal=request.terminal)
            except InvalidArgument as error:
                raise as_the_images(error, config, root.config) from error


def stop_signal_of(request: CreateRequest, root: RootFilesystem | None) -> int:
    """What ends the program: as requested, else as the image has it, else SIGTERM."""
    if root is not None and root.config.stop_signal and not request.stop_signal:
        try:
            return parse_signal(root.config.stop_signal, "config.image")
        except InvalidArgument as error:
            wrong = f"its StopSignal: {error.violations[0].description}"
            raise error.with_violations([Violation("config.image", wrong)]) from error
    return parse_signal(request.stop_signal or "SIGTERM", "stop_signal")


def complete_root(root: RootFilesystem, spec: Spec, roots: RootFilesystems) -> None:
    """Add to a root what the runtime may not add, or does not.

    Raises ``InvalidArgument`` for places that the image's own links keep from being reached,
    ``HostFailed``.
    """
    known = msgspec.convert(spec, ShownSpec)
    try:
        missing = missing_places(root.path, known.mounts or (), known.process.cwd)
    except OSError as error:
        if (reason := _UNREACHABLE.get(error.errno or 0)) is None:
            raise
        problem = f"{error.filename} can't be reached in it: {error.strerror}"
        raise InvalidArgument.of("config.image", problem, reason=reason) from error
    roots.complete(root.rootfs_id, missing)
