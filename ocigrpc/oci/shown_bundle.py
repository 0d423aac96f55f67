"""A client's bundle as the runtime and its hooks see it: complete, but with our spec.

Hooks find their files beside the bundle's ``config.json``, and may write there; but the
runtime must read our spec, and the service never writes to a client's bundle. So the bundle is
mounted below the container's own directory, and our spec is mounted over its spec there. That
lasts until the container is removed, so poststop hooks see it, too. Only done for bundles that
have hooks.
"""

from __future__ import annotations

import os
import stat
from contextlib import ExitStack
from pathlib import Path

from ocigrpc.errors import HostFailed
from ocigrpc.failing import host_failing
from ocigrpc.host.descriptors import closing_fd
from ocigrpc.host.files.directory import make_directory, write_new_file
from ocigrpc.host.files.mounts import bind_directory, bind_file, unmount
from ocigrpc.oci.paths import ContainerPaths

# Holds the identity of the directory that is shown; any other mount there is not ours.
_MARK = "bundle.id"

_UNMOUNTS_LIMIT = 8


def show_bundle(paths: ContainerPaths, bundle_path: str) -> None:
    """Show a bundle at ``paths.shown``, with an empty new ``paths.spec_file`` over its spec.

    Raises ``HostFailed`` with the path.
    """
    write_new_file(paths.spec_file)
    make_directory(paths.shown)
    with host_failing("show hooks", bundle_path), ExitStack() as undo:
        theirs = os.open(bundle_path, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW)
        undo.enter_context(closing_fd(theirs))
        write_new_file(f"{paths.bundle}/{_MARK}", _identity(os.fstat(theirs)))
        # If our directory is inside the bundle, a recursive bind would include itself, and the
        # shown bundles of other containers.
        apart = not Path(paths.bundle).resolve().is_relative_to(os.path.realpath(bundle_path))
        bind_directory(theirs, paths.shown, recursive=apart)
        shown = os.open(paths.shown, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW)
        undo.enter_context(closing_fd(shown))
        # Opened without following links: otherwise we might mount over something else.
        spec = os.open("config.json", os.O_PATH | os.O_NOFOLLOW, dir_fd=shown)
        undo.enter_context(closing_fd(spec))
        if not stat.S_ISREG(os.fstat(spec).st_mode):
            path = f"{bundle_path}/config.json"
            raise HostFailed(f"{path} is not a file any more", path=path)
        bind_file(paths.spec_file, spec)


def shown_bundle(directory: str) -> str | None:
    """Where a bundle is shown below a container's own directory; None if there is none."""
    shown = f"{directory}/bundle"
    try:
        is_ours = _identity(os.stat(shown)) == Path(directory, _MARK).read_bytes()
    except OSError:
        return None
    return shown if is_ours else None


def hide_bundle(directory: str) -> None:
    """Unmount the bundle that is shown, if there is one. Raises ``OSError``."""
    for _ in range(_UNMOUNTS_LIMIT):
        shown = shown_bundle(directory)
        if shown is None:
            return
        unmount(shown)


def _identity(found: os.stat_result) -> bytes:
    return f"{found.st_dev}:{found.st_ino}".encode()
