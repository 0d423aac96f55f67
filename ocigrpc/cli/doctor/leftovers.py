"""What a service has left that was killed; it is reported, and never touched."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from ocigrpc.cli.doctor.findings import Finding, Host, fine, warning
from ocigrpc.engine.containers.cgroups import id_of_group
from ocigrpc.host.cgroups.systemd import slice_path
from ocigrpc.host.files.directory import lock_holder
from ocigrpc.host.files.tree import mounts_at
from ocigrpc.settings.values import CgroupManager

_SHOWN = 4


def check_leftovers(host: Host) -> Iterator[Finding]:
    """Containers, monitors, cgroups and mounts, while no service looks after them."""
    run_dir = host.settings.run_dir
    if not host.is_root:
        yield warning(f"{run_dir}: only root may look there", "run doctor as root")
        return
    is_there = os.path.isdir(run_dir)
    if host.is_answering or (is_there and lock_holder(run_dir) is not None):
        yield fine("the service runs, and looks after its own")
        return
    yield from list(_left(host)) or [fine("nothing is left of an earlier service")]


def _left(host: Host) -> Iterator[Finding]:
    directory = Path(host.context.paths("x").bundle).parent
    ids = {each.name for each in directory.iterdir()} if directory.is_dir() else set[str]()
    monitors = _monitors(str(directory))
    start = "start the service, which finds them again"
    if living := ids & monitors.keys():
        yield warning(f"{_named(living)} have their conmon, and no service", start)
    if ended := ids - monitors.keys():
        yield warning(f"{_named(ended)} have no conmon any more, and no service", start)
    for container_id in sorted(monitors.keys() - ids):
        pid = monitors[container_id]
        problem = f"conmon {pid} has lost the directory of its container, {container_id}"
        yield warning(problem, f"kill {pid}")
    for path in _cgroups(host):
        if id_of_group(os.path.basename(path)) not in ids:
            yield warning(f"{path} is the cgroup of no container", f"rmdir {path}")
    for container_id in sorted(ended):
        for path in mounts_at(str(directory), f"{directory}/{container_id}"):
            yield warning(f"something is mounted at {path}", f"umount {path}")


def _named(ids: Collection[str]) -> str:
    shown = ", ".join(each[:12] for each in sorted(ids)[:_SHOWN])
    more = ", ..." if len(ids) > _SHOWN else ""
    return f"{len(ids)} containers ({shown}{more})"


def _monitors(directory: str) -> Mapping[str, int]:
    """The pids of monitors, by their containers, whose directories are in ``directory``."""
    found = dict[str, int]()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            argv = os.fsdecode((entry / "cmdline").read_bytes()).split("\0")
        except OSError:
            continue
        if "-b" in argv[:-1]:
            parent, container_id = os.path.split(argv[argv.index("-b") + 1])
            if parent == directory and container_id:
                found[container_id] = int(entry.name)
    return found


def _cgroups(host: Host) -> Iterator[str]:
    """The directories of groups with names as containers and monitors have them."""
    settings = host.settings
    is_slice = settings.cgroup.manager is CgroupManager.SYSTEMD
    for parent in {settings.cgroup.parent, settings.conmon.cgroup_parent} - {""}:
        path = slice_path(parent) if is_slice else parent
        for hierarchy in host.context.hierarchies.all:
            directory = Path(hierarchy.mount_point + path)
            yield from map(str, sorted(directory.glob("ocigrpc-*-*/")))
