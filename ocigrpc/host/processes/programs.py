"""Programs of the host: where they are, which version, and how to install one that is missing."""

from __future__ import annotations

import os
from collections.abc import Sequence

from ocigrpc.errors import HostFailed, Timeout, cut
from ocigrpc.host.processes.child import ENVIRONMENT, run
from ocigrpc.waiting import Deadline

# Programs whose package, on Debian and Ubuntu, is named like the program.
_PACKAGES = ("conmon", "runc", "crun", "skopeo")
_VERSION_LIMIT_BYTES = 256


def find_program(path: str) -> str | None:
    """Absolute path of an executable; None if there is none.

    A name is looked up on the PATH of the service, and then in the usual directories of system
    programs: runtimes are in sbin, which is not on the PATH of users. Relative directories are
    skipped.
    """
    if "/" in path:
        return path if _is_program(path) else None
    directories = f"{os.environ.get('PATH', '')}:{ENVIRONMENT['PATH']}".split(":")
    places = (f"{each}/{path}" for each in directories if each[:1] == "/")
    return next(filter(_is_program, places), None)


def _is_program(path: str) -> bool:
    return os.access(path, os.X_OK) and os.path.isfile(path)


def require_program(path: str) -> None:
    """Raise ``HostFailed``, with how to install it, unless ``path`` can be run."""
    if find_program(path) is not None:
        return
    name = os.path.basename(path)
    install = f"apt-get install {name}" if name in _PACKAGES else ""
    hint = f"; to install it: {install}" if install else ""
    raise HostFailed(
        f"program {path!r} is missing or not executable{hint}",
        reason="PROGRAM_NOT_FOUND",
        path=path,
        install=install,
    )


def program_version(path: str, deadline: Deadline) -> str:
    """The first line of what a program prints for ``--version``; empty when it fails."""
    try:
        ended = run([find_program(path) or path, "--version"], deadline)
    except (HostFailed, Timeout):
        return ""
    lines: Sequence[str] = ended.stdout.decode(errors="replace").splitlines()
    return cut(lines[0], _VERSION_LIMIT_BYTES) if lines and ended.returncode == 0 else ""
