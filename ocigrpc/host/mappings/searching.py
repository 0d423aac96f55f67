"""Who may search the directories on the way to a file; path_resolution(7)."""

from __future__ import annotations

import os
import stat

from ocigrpc.host.mappings.owners import Owners


def first_closed(path: str, owners: Owners) -> str:
    """The topmost directory, on the way to a path and there, closed to a user namespace's root.

    Empty if there is none. By modes alone: an ACL may allow more. Raises ``OSError``.
    """
    names = os.path.realpath(path).strip("/").split("/")
    directories = ["/", *("/" + "/".join(names[: depth + 1]) for depth in range(len(names)))]
    return next((each for each in directories if not _is_open(os.stat(each), owners)), "")


def _is_open(found: os.stat_result, owners: Owners) -> bool:
    uid, gid = owners.here(0, 0)
    if found.st_uid == uid:
        may = stat.S_IXUSR
    else:
        may = stat.S_IXGRP if found.st_gid == gid else stat.S_IXOTH
    # Capabilities count where the namespace has both owner and group; user_namespaces(7).
    return bool(found.st_mode & may) or owners.have(found)
