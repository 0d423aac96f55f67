"""The store, as the next start of the service finds it."""

from __future__ import annotations

import os
from collections.abc import Iterator

from ocigrpc.cli.doctor.findings import Finding, Host, failed, fine, warning
from ocigrpc.engine.recovery.opening import is_outdated, store_path
from ocigrpc.errors import StoreFailed
from ocigrpc.host.files.directory import lock_holder

_RESTORE = "see OPERATING.md, Restore"


def check_store(host: Host) -> Iterator[Finding]:
    """Whether the service would start with it, if none has it open; a copy of it is read."""
    root_dir, path = host.settings.root_dir, store_path(host.context)
    if not host.is_root:
        yield warning(f"{path}: only root may look there", "run doctor as root")
    # A service may listen without having it, as one does that systemd starts again and again.
    elif os.path.isdir(root_dir) and lock_holder(root_dir) is not None:
        yield fine(f"the service has {path} open")
    else:
        yield _of_nobody(host)


def _of_nobody(host: Host) -> Finding:
    path = store_path(host.context)
    try:
        is_a_backup = is_outdated(host.context)
    except StoreFailed as error:
        return failed(error.message, _RESTORE)
    if is_a_backup:
        problem = f"{path} is a backup, which lacks what has happened since"
        return warning(problem, f"a start of the service accepts that: {_RESTORE[4:]}")
    if not os.path.lexists(path):
        return fine(f"{path} does not exist yet: the service makes it")
    return fine(str(path))
