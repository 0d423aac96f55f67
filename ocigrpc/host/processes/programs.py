"""Programs by name: where they are, and which version."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence

from ocigrpc.errors import HostFailed, Timeout, cut
from ocigrpc.host.processes.child import ENVIRONMENT, run
from ocigrpc.waiting import Deadline

_VERSION_LIMIT_BYTES = 256


def find_program(path: str) -> str | None:
    """Absolute path of an executable; None if there is none.

    A name is looked up on the PATH of the service, and then in the usual directories of system
    programs: runtimes are in sbin, which is not on the PATH of users. Relative directories are
    skipped.
    """
    usual = ENVIRONMENT["PATH"].split(":")
    places = [*os.environ.get("PATH", "").split(":"), *usual]
    directories = [each for each in places if each.startswith("/")]
    return shutil.which(path, mode=os.X_OK, path=":".join(directories))


def program_version(path: str, deadline: Deadline) -> str:
    """First line of the output of ``PATH --version``; empty if there is none."""
    try:
        ended = run([find_program(path) or path, "--version"], deadline)
    except (HostFailed, Timeout):
        return ""
    lines: Sequence[str] = ended.stdout.decode(errors="replace").splitlines()
    return cut(lines[0], _VERSION_LIMIT_BYTES) if lines and ended.returncode == 0 else ""
