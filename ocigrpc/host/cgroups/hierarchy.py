"""The cgroup hierarchies of a host, and where they are mounted: from mountinfo, not guessed.

Formats: proc_pid_mountinfo(5) and cgroups(7).
"""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from contextlib import suppress
from enum import StrEnum
from pathlib import Path
from typing import Self

from msgspec import Struct, structs

from ocigrpc.errors import CgroupFailed
from ocigrpc.host.cgroups.cgroup import Cgroup, check_path
from ocigrpc.host.cgroups.controller import ControllerGroup
from ocigrpc.host.files.mounts import unescape
from ocigrpc.host.processes.process import read_proc


class Kind(StrEnum):
    """The three kinds of host."""

    V1 = "v1"
    HYBRID = "hybrid"
    V2 = "v2"


class Hierarchy(Struct, frozen=True):
    """One cgroup hierarchy, once, however often it is mounted.

    ``root`` is the group that is visible at ``mount_point``: "/" unless a part of the
    hierarchy is bind-mounted, as in a container. ``controllers`` is empty for cgroup2.
    """

    mount_point: str
    root: str
    controllers: frozenset[str]
    unified: bool

    def below_root(self, path: str) -> str:
        """The path below the mount point of a ``path`` in /proc/PID/cgroup.

        Raises ``CgroupFailed`` (CGROUP_OUTSIDE) when it is not visible there.
        """
        path = path.removesuffix(" (deleted)")
        prefix = self.root.rstrip("/")
        if path.startswith("/..") or not f"{path}/".startswith(f"{prefix}/"):
            raise CgroupFailed(
                f"cgroup {path} is outside {self.mount_point}",
                reason="CGROUP_OUTSIDE",
                path=path,
                mount_point=self.mount_point,
            )
        return path[len(prefix) :] or "/"


class Hierarchies(Struct, frozen=True):
    """The cgroup hierarchies of this host, and its kind."""

    kind: Kind
    all: tuple[Hierarchy, ...]

    @classmethod
    def parse(cls, mountinfo: str) -> Self:
        """From the text of a mountinfo; ``CgroupFailed`` (CGROUPS_MISSING) if it has none."""
        found = tuple(parse_mountinfo(mountinfo))
        if not found:
            raise CgroupFailed("no cgroup hierarchy is mounted", reason="CGROUPS_MISSING")
        generations = {hierarchy.unified for hierarchy in found}
        hybrid = Kind.HYBRID if True in generations else Kind.V1
        return cls(Kind.V2 if generations == {True} else hybrid, found)

    @classmethod
    def detect(cls, mountinfo: str | Path = "/proc/self/mountinfo") -> Self:
        """From the mounts that this process sees."""
        return cls.parse(Path(mountinfo).read_text(errors="surrogateescape"))

    def group(self, path: str) -> Cgroup:
        """The group at an absolute path below the hierarchies' mount points; never "/".

        Raises ``CgroupFailed`` (CGROUP_PATH_INVALID) for any other path.
        """
        check_path(path)
        groups = (
            ControllerGroup(top.rstrip("/") + path, top, controllers, unified)
            for top, _, controllers, unified in map(structs.astuple, self.all)
        )
        return Cgroup(path, tuple(groups))

    def controllers(self) -> frozenset[str]:
        """The controllers that this host has."""
        found = frozenset[str]().union(*(hierarchy.controllers for hierarchy in self.all))
        if self.kind is Kind.V2:
            (top,) = (hierarchy.mount_point for hierarchy in self.all)
            group = ControllerGroup(top, top, frozenset(), unified=True)
            found |= set((group.read("cgroup.controllers") or "").split())
        return found

    def group_of(self, pid: int) -> str:
        """The path of the group that a process is in; "/" is possible.

        Where a v1 process is in several, the freezer's: it is what pause acts on. Raises
        ``ProcessLookupError``, or ``CgroupFailed`` (CGROUP_OUTSIDE).
        """
        try:
            text = read_proc(f"/proc/{pid}/cgroup").decode(errors="surrogateescape")
        except OSError as error:
            raise ProcessLookupError(errno.ESRCH, os.strerror(errno.ESRCH)) from error
        return self.parse_group_of(text)

    def all_groups_of(self, pid: int | str) -> frozenset[str]:
        """The paths of the groups that a process is in, without the topmost ones."""
        paths = parse_proc_cgroup(Path(f"/proc/{pid}/cgroup").read_text(errors="surrogateescape"))
        found = set[str]()
        for hierarchy in self.all:
            with suppress(CgroupFailed, KeyError):
                found.add(hierarchy.below_root(paths[hierarchy.controllers]))
        return frozenset(found - {"/"})

    def parse_group_of(self, proc_cgroup: str) -> str:
        """What :meth:`group_of` returns, from the text of a /proc/PID/cgroup."""
        paths = parse_proc_cgroup(proc_cgroup)
        known = [hierarchy for hierarchy in self.all if hierarchy.controllers in paths]
        if not known:
            raise CgroupFailed("the process is in none of the hierarchies", reason="CGROUP_OUTSIDE")
        # False sorts first: the freezer, else any v1 hierarchy, else cgroup2; as Cgroup.decisive.
        decisive = min(known, key=lambda h: ("freezer" not in h.controllers, h.unified))
        return decisive.below_root(paths[decisive.controllers])


class _Mount(Struct, frozen=True):
    mount_id: str
    parent_id: str
    device: str
    root: str
    mount_point: str
    fs_type: str
    options: frozenset[str]


# Options of a v1 mount that name no controller: cgroup_v1 show_options in the kernel.
_NOT_CONTROLLERS = frozenset(
    "rw ro noprefix xattr cpuset_v2_mode clone_children favordynmods seclabel".split()
)


def parse_mountinfo(text: str) -> Sequence[Hierarchy]:
    """The hierarchies that can be reached, in the order in which they were mounted.

    A mount that another one hides does not count. Of several mounts of one hierarchy, the one
    that shows most of it counts.
    """
    mounts = [_parse_mount(line) for line in text.splitlines()]
    best: dict[str, _Mount] = {}
    for mount in mounts:
        if mount.fs_type not in ("cgroup", "cgroup2") or _visible_at(mount, mounts) != mount:
            continue
        known = best.setdefault(mount.device, mount)
        if len(mount.root) < len(known.root):
            best[mount.device] = mount
    return tuple(
        Hierarchy(each.mount_point, each.root, _controllers(each), each.fs_type == "cgroup2")
        for each in best.values()
    )


def _parse_mount(line: str) -> _Mount:
    # 36 35 98:0 /root /mnt rw,noatime master:1 - ext3 /dev/root rw,errors=continue
    left, _, right = line.partition(" - ")
    mount_id, parent_id, device, root, mount_point, *_ = left.split(" ")
    fs_type, _source, options = right.split(" ", 2)
    root, mount_point = unescape(root), unescape(mount_point)
    named = frozenset(options.split(","))
    return _Mount(mount_id, parent_id, device, root, mount_point, fs_type, named)


def _visible_at(mount: _Mount, mounts: Sequence[_Mount]) -> _Mount:
    """The mount that a walk to the mount point of ``mount`` ends on."""
    over = {(other.parent_id, other.mount_point): other for other in mounts}
    ids = {other.mount_id for other in mounts}
    here = next((other for other in mounts if other.parent_id not in ids), mount)
    names = mount.mount_point.rstrip("/").split("/")
    for depth in range(len(names)):
        point = "/".join(names[: depth + 1]) or "/"
        while (here.mount_id, point) in over:
            upper = over[here.mount_id, point]
            if upper == here:
                break
            here = upper
    return here


def _controllers(mount: _Mount) -> frozenset[str]:
    if mount.fs_type == "cgroup2":
        return frozenset()
    named = mount.options - _NOT_CONTROLLERS
    return frozenset(each for each in named if "=" not in each or each.startswith("name="))


def parse_proc_cgroup(text: str) -> dict[frozenset[str], str]:
    """A /proc/PID/cgroup: the path in each hierarchy, by its controllers (none: cgroup2)."""
    paths = {}
    for line in text.splitlines():
        _, controllers, path = line.split(":", 2)
        paths[frozenset(filter(None, controllers.split(",")))] = path
    return paths
