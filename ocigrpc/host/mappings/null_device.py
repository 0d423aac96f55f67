"""The host's ``/dev/null``, which is not a container's to own."""

from __future__ import annotations

import os
import stat

from ocigrpc.failing import host_failing
from ocigrpc.host.mappings.owners import Owners

MODE = 0o666


def take_null_device_back(owners: Owners) -> bool:
    """Give ``/dev/null`` back to root, and open to all, if one of these users or groups has it.

    Whether it did. Of other owners nothing is known, so they keep it. Raises ``HostFailed``.
    """
    with host_failing("give root its", os.devnull):
        found = os.stat(os.devnull)
        if not (found.st_uid or found.st_gid) or not owners.have(found):
            return False
        os.chown(os.devnull, 0, 0)
        # Whoever had it may have closed it, until now.
        os.chmod(os.devnull, MODE)
    return True


def null_device_problem() -> str:
    """What is wrong with ``/dev/null``, if anything is."""
    found = os.stat(os.devnull)
    if found.st_uid or found.st_gid:
        return f"belongs to user {found.st_uid}, group {found.st_gid}"
    if (mode := stat.S_IMODE(found.st_mode)) != MODE:
        return f"has mode {mode:04o}"
    return ""
