"""The monitor and the OCI runtimes of the settings: whether they run, and what they can do."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator

from ocigrpc.cli.doctor.findings import Finding, Host, failed, fine, warning
from ocigrpc.engine.health import lost_by_conmon, lost_by_runtime
from ocigrpc.errors import HostFailed
from ocigrpc.host.processes.programs import find_program, program_version, require_program
from ocigrpc.waiting import Deadline

_LIMIT_S = 30.0
_VERSION_S = 5.0
# The oldest versions that the service is tested with, by the names of the programs.
_OLDEST = {"conmon": (2, 1, 6), "runc": (1, 1), "crun": (1, 8), "skopeo": (1, 9)}


def check_programs(host: Host) -> Iterator[Finding]:
    """Of each program: that it is there, its version, and the options that it does not know."""
    settings, context, deadline = host.settings, host.context, Deadline(_LIMIT_S)
    found = list(broken(settings.conmon.path, "conmon.path", deadline))
    yield from found
    if not found:
        lost = lost_by_conmon(settings.conmon.path, context.conmon_options, deadline)
        yield from known(settings.conmon.path, lost, deadline)
    for name, runtime in sorted(context.runtimes.items()):
        is_required = name == settings.default_runtime
        key = "default_runtime" if is_required else f"runtimes.{name}"
        found = list(broken(runtime.path, key, deadline))
        # Containers of the others may never be made.
        yield from found if is_required else [warning(*each[1:]) for each in found]
        if not found:
            yield from known(runtime.path, lost_by_runtime(runtime, deadline), deadline)


def broken(path: str, key: str, deadline: Deadline) -> Iterator[Finding]:
    """What keeps a program from running at all."""
    try:
        require_program(path)
    except HostFailed as error:
        remedy = error.metadata["install"]
        message = f"{path} is missing, or can't be executed"
        yield failed(message, f"{remedy}, or change {key}" if remedy else f"change {key}")
        return
    if not program_version(path, deadline.within(_VERSION_S)):
        yield failed(f"{path} --version fails", "install it again")


def known(path: str, lost: Iterable[str], deadline: Deadline) -> Iterator[Finding]:
    """The version of a program that runs, and what is lost with it."""
    version = program_version(path, deadline.within(_VERSION_S))
    oldest = _OLDEST.get(os.path.basename(path))
    if oldest and (0,) < version_number(version) < oldest:
        needed = ".".join(map(str, oldest))
        yield warning(
            f"{version} at {find_program(path)} is older than {needed}, the oldest that is tested",
            "install a newer one",
        )
    else:
        yield fine(f"{version} at {find_program(path)}")
    for each in lost:
        yield warning(each, "install a newer one")


def version_number(text: str) -> tuple[int, ...]:
    """The first version in a text, as (1, 1, 5); (0,) if there is none."""
    found = re.search(r"\d+(\.\d+)+", text)
    return tuple(map(int, found[0].split("."))) if found else (0,)
