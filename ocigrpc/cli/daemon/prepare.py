"""What the service needs before it starts: directories, programs and descriptors."""

from __future__ import annotations

import os
import stat

import msgspec

from ocigrpc.errors import HostFailed, InvalidSettings
from ocigrpc.host import descriptors
from ocigrpc.host.files.directory import is_open_to_others, trust_problem
from ocigrpc.host.processes.programs import require_program
from ocigrpc.log import get_logger
from ocigrpc.settings.values import Settings

log = get_logger()

# The most containers at once by default.
CONTAINERS = 10_000


def with_container_limit(settings: Settings) -> Settings:
    """The settings with a number of containers that the limit of open files allows.

    Raises ``InvalidSettings`` (OPEN_FILES_LIMIT) when it does not allow theirs.
    """
    limit, containers = descriptors.limit(), settings.limits.containers
    carried = descriptors.containers_for(limit)
    if containers > carried:
        wanted = descriptors.limit_for(containers)
        raise InvalidSettings(
            f"limits.containers: {containers} want a limit of {wanted} open files, which is {limit}"
            f" (RLIMIT_NOFILE, LimitNOFILE= of systemd) and carries {carried}",
            reason="OPEN_FILES_LIMIT",
            key="limits.containers",
            wanted=wanted,
            limit=limit,
            carried=carried,
        )
    counted = containers or max(1, min(CONTAINERS, carried))
    limits = msgspec.structs.replace(settings.limits, containers=counted)
    return msgspec.structs.replace(settings, limits=limits)


def prepare(settings: Settings) -> None:
    """Make the service's directories, and find its programs.

    Raises ``HostFailed``, with the ``path`` that can't be used. Only the default runtime has to
    exist; Status reports which others do.
    """
    if os.geteuid():
        raise HostFailed("the service has to run as root", reason="NOT_ROOT", uid=os.geteuid())
    require_programs(settings)
    # Through it, the root of a user namespace comes to its root filesystem.
    make_private_directory(settings.root_dir, may_be_searched=True)
    for path in (settings.run_dir, settings.logs.dir):
        make_private_directory(path)


def require_programs(settings: Settings) -> None:
    """Raise ``HostFailed`` unless conmon and the default runtime can be run."""
    require_program(settings.conmon.path)
    require_program(settings.runtimes[settings.default_runtime].path)


def make_private_directory(path: str, *, may_be_searched: bool = False) -> None:
    """Make a directory with mode 0700, and those above it with the usual mode.

    An existing one is kept as it is, if nobody else can write to it; it is logged if others can
    read it, or search it unless it ``may_be_searched``. Raises ``HostFailed`` otherwise.
    """
    try:
        os.makedirs(path, mode=0o700, exist_ok=True)
        problem = trust_problem(path, [os.geteuid()])
        mode = stat.S_IMODE(os.lstat(path).st_mode)
    except FileExistsError as error:
        raise _unusable(path, "is not a directory") from error
    except OSError as error:
        raise _unusable(path, error.strerror or str(error)) from error
    if problem:
        raise _unusable(path, problem)
    if is_open_to_others(mode, may_be_searched=may_be_searched):
        log.warning("directory.open_to_others", path=path, mode=f"{mode:04o}")


def _unusable(path: str, detail: str) -> HostFailed:
    return HostFailed(
        f"directory {path!r} {detail}", reason="DIRECTORY_UNUSABLE", path=path, detail=detail
    )
