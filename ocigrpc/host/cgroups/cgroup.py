"""Cgroups by their path, on cgroup v1, hybrid and v2 hosts alike.

A path such as ``/ocigrpc/ocigrpc-container-x`` names one group in every hierarchy that
the host has; a :class:`Cgroup` is all of those together.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import cached_property

from msgspec import Struct, structs

from ocigrpc.errors import CgroupFailed, Timeout
from ocigrpc.host.cgroups import kill as cgroup_kill
from ocigrpc.host.cgroups.controller import NO_GROUP, ControllerGroup, Populated
from ocigrpc.host.cgroups.freezer import Freezer, freezers, polls
from ocigrpc.host.processes.process import boot_id
from ocigrpc.waiting import Deadline

# How long to wait for a killed group to be empty before killing what has entered it since.
_ENTER_S = 0.1
# The longest pause between two attempts to remove a group that is busy.
_RETRY_MOST_S = 0.02


class GroupIdentity(Struct, frozen=True, omit_defaults=True):
    """The unique identity of a group: its inode in each hierarchy, by mount point, and the boot."""

    boot_id: str
    inodes: dict[str, int] = {}


class Cgroup:
    """One group in all hierarchies. It need not exist.

    Once :meth:`pinned`, it is one particular group; another one of its name is not touched.
    """

    def __init__(self, path: str, groups: tuple[ControllerGroup, ...]) -> None:
        self.path = path
        self.groups = groups
        self.is_held = False
        """Whether what :meth:`frozen` reads is kept open."""

    def __repr__(self) -> str:
        return f"Cgroup({self.path!r})"

    @cached_property
    def _freezers(self) -> Sequence[Freezer]:
        """Made once they are needed: a monitor's never are."""
        return freezers(self.groups)

    def identity(self) -> GroupIdentity:
        """Its own once it is pinned; of the group that has the name now, or nothing, before."""
        found = {group.top: group.inode or group.inode_now() for group in self.groups}
        existing = {top: inode for top, inode in found.items() if inode != NO_GROUP}
        return GroupIdentity(boot_id(), existing)

    def pinned(self, identity: GroupIdentity) -> Cgroup:
        """The group of this identity, and no other."""
        inodes = identity.inodes if identity.boot_id == boot_id() else {}
        groups = (
            structs.replace(group, inode=inodes.get(group.top, NO_GROUP)) for group in self.groups
        )
        return Cgroup(self.path, tuple(groups))

    @property
    def is_pinned(self) -> bool:
        """Whether it is one particular group."""
        return any(group.inode for group in self.groups)

    def of_controller(self, controller: str) -> ControllerGroup | None:
        """The group in the hierarchy of a v1 controller, or in cgroup2 for ""; None without one."""
        for group in self.groups:
            if controller in group.controllers if controller else group.unified:
                return group
        return None

    def child(self, name: str) -> Cgroup:
        """The group of this name directly below, in the hierarchies that this one is in."""
        groups = (group for group in self.groups if group.inode != NO_GROUP)
        below = tuple(group.at(f"{group.directory}/{name}") for group in groups)
        return Cgroup(f"{self.path}/{name}", below)

    def replacing_members(self) -> list[int]:
        """The pids in other groups that have its name now."""
        others = (group.at(group.directory) for group in self.groups if group.is_replaced())
        return sorted(set[int]().union(*(group.members() for group in others)))

    def create(self) -> bool:
        """Make it, and its parents, in every hierarchy; False if it existed in any.

        Raises ``CgroupFailed``, and then removes what it has made.
        """
        with ExitStack() as undo:
            fresh = [group.create(undo) for group in self.groups]
            undo.pop_all()
        return all(fresh)

    def require_writable(self) -> None:
        """Raise ``CgroupFailed`` if the kernel would not let it be made, or a group in it.

        As far as that shows without making one: limits on the number of groups do not.
        """
        for group in self.groups:
            directory = group.directory
            while directory != group.top and not os.access(directory, os.F_OK):
                directory = os.path.dirname(directory)
            if not os.access(directory, os.W_OK):
                raise CgroupFailed(f"no group can be made in {directory}", path=directory)

    def add(self, pid: int) -> None:
        """Move a process into it, in every hierarchy that it is in; raises ``CgroupFailed``."""
        there = [group for group in self.groups if group.inode != NO_GROUP]
        # If it is in none, the first write says so.
        for group in there or self.groups:
            group.write("cgroup.procs", str(pid))

    def exists(self) -> bool:
        """Whether any hierarchy has it."""
        return any(group.exists() for group in self.groups)

    @property
    def decisive(self) -> ControllerGroup:
        """The group that says in which cgroup a process is: see ``Hierarchies.group_of``."""
        return min(self.groups, key=lambda each: ("freezer" not in each.controllers, each.unified))

    def members(self) -> list[int]:
        """The pids in it and in the groups below it, in any hierarchy, in rising order."""
        return sorted(cgroup_kill.members(self.groups))

    def holds(self, pid: int) -> bool:
        """Whether a process is in it or below it, in any hierarchy."""
        return any(pid in group.members() for group in self.groups)

    def populated(self) -> bool:
        """Whether any process is in it or below it."""
        if not self.exists():
            return False
        if len(self.groups) == 1 and self.groups[0].unified:
            events = self.groups[0].read("cgroup.events") or ""
            return "populated 1" in events.splitlines()
        return any(group.members() for group in self.groups)

    def hold(self) -> None:
        """Keep the files open that :meth:`frozen` reads, at most two."""
        self.is_held = True
        for freezer in self._freezers:
            freezer.hold()

    def release(self) -> None:
        """Keep no files open any more."""
        self.is_held = False
        for freezer in self._freezers:
            freezer.release()

    def frozen(self) -> bool | None:
        """Whether it is frozen, or about to be; None when no hierarchy shows that."""
        known = None
        for freezer in self._freezers:
            frozen = freezer.frozen()
            if frozen:
                return True
            if frozen is not None:
                known = False
        return known

    def frozen_threads(self) -> set[int]:
        """The threads that are in it, or below it, where it is frozen or about to be."""
        found = set[int]()
        freezable = (group for group in self.groups if group.freezable)
        for group, freezer in zip(freezable, self._freezers, strict=True):
            if freezer.frozen():
                found |= group.threads()
        return found

    def freezing(self) -> bool:
        """Whether it is about to be frozen, and something in it may still run."""
        return any(freezer.freezing() for freezer in self._freezers)

    def freeze(self, deadline: Deadline) -> None:
        """Freeze all in it, where OCI runtimes do, and wait until nothing in it runs.

        Raises ``Timeout``, ``Cancelled``, or ``CgroupFailed`` when it is gone or something else
        thaws it. Then it may be frozen, or about to be: it is for the caller to thaw.
        """
        if not self._freezers:
            raise CgroupFailed(f"no hierarchy can freeze {self.path}", path=self.path)
        # The freezer of v1, if there is one.
        min(self._freezers, key=lambda freezer: freezer.unified).freeze(deadline)

    def wait_frozen(self, deadline: Deadline) -> None:
        """Wait until nothing in it runs any more, if it is about to be frozen.

        Raises ``Timeout`` or ``Cancelled``, with the group as it is.
        """
        for _ in polls(deadline):
            if not self.freezing():
                return

    def thaw_alone(self) -> None:
        """Thaw it, but not the groups below it that are frozen themselves.

        Does nothing when it is gone. Raises ``CgroupFailed``.
        """
        for group in self.groups:
            if group.freezable:
                group.set_frozen(False)

    def thaw(self) -> None:
        """Thaw it, and all groups below it; does nothing when it is gone."""
        for group in self.groups:
            if group.freezable:
                group.thaw()

    def signal(self, number: int) -> None:
        """Send a signal to every process in it and below it, frozen ones too.

        Raises ``CgroupFailed`` (CGROUP_OWN when the service itself is a member).
        """
        cgroup_kill.send_signal(self.groups, number)

    def kill(self, deadline: Deadline) -> None:
        """SIGKILL every process in it, and below it, until there is none.

        Raises ``Timeout`` when the deadline passes with any of them alive, ``Cancelled``,
        or ``CgroupFailed`` (CGROUP_OWN when the service itself is a member).
        """
        if self.populated():
            with self._named_timeout():
                cgroup_kill.kill(self.groups, deadline)

    def remove(self, deadline: Deadline) -> None:
        """Remove it and all groups below it; no error if it does not exist.

        A group is busy while processes end, and for a moment after: this tries until the
        deadline. Raises ``Timeout``, ``Cancelled`` or ``CgroupFailed``.
        """
        retry_s = cgroup_kill.RETRY_FIRST_S
        with self._named_timeout():
            while busy := self._remove_idle():
                _wait_for_less(busy, deadline, retry_s)
                retry_s = min(retry_s * 2, _RETRY_MOST_S)

    def try_remove(self) -> bool:
        """Remove it and all groups below it; false where one is busy. Raises ``CgroupFailed``."""
        return not self._remove_idle()

    def _remove_idle(self) -> list[ControllerGroup]:
        """Remove it where it is not busy; where it is."""
        busy = [group for group in self.groups if not group.try_remove()]
        if self.is_pinned and not busy:
            # It is gone for good, whatever gets its name.
            self.groups = tuple(structs.replace(each, inode=NO_GROUP) for each in self.groups)
        return busy

    def end(self, deadline: Deadline) -> None:
        """Kill all processes in it, and remove it, whatever enters it meanwhile.

        Raises what :meth:`kill` and :meth:`remove` raise.
        """
        # Most are empty by now, and to look for processes takes longer than to try.
        with suppress(CgroupFailed):
            if self.try_remove():
                return
        while True:
            self.kill(deadline)
            try:
                self.remove(deadline.within(_ENTER_S))
                return
            except Timeout:
                if not deadline.remaining_s():
                    raise

    def remove_if_empty(self) -> None:
        """Remove it where it has neither processes nor groups; for parents of groups."""
        for group in self.groups:
            group.remove_if_empty()

    def oom_kills(self) -> int | None:
        """How many processes in it the OOM killer has killed; None when that is not counted."""
        group = self.of_controller("memory") or self.of_controller("")
        return None if group is None else group.oom_kills()

    @contextmanager
    def _named_timeout(self) -> Iterator[None]:
        try:
            yield
        except Timeout as error:
            pids = self.members()
            raise Timeout(
                f"cgroup {self.path} still has {len(pids)} processes",
                path=self.path,
                pids=" ".join(map(str, pids[:64])),
            ) from error


def _wait_for_less(busy: list[ControllerGroup], deadline: Deadline, retry_s: float) -> None:
    """Wait until a busy group may have become removable."""
    if busy[0].unified:
        with suppress(FileNotFoundError), Populated(busy[0]) as populated:
            if populated.now():
                deadline.wait(populated.fileno(), timeout_s=retry_s)
                return
    deadline.wait(timeout_s=retry_s)


def check_path(path: str) -> None:
    """Raise ``CgroupFailed`` (CGROUP_PATH_INVALID) unless it names a group below the root."""
    names = path.split("/")
    # The kernel refuses newlines in names, since /proc/PID/cgroup consists of lines.
    wrong = [name for name in names[1:] if name in ("", ".", "..") or len(os.fsencode(name)) > 255]
    if names[0] or len(names) < 2 or wrong or "\0" in path or "\n" in path:
        raise CgroupFailed(
            f"{path!r} is not a cgroup path", reason="CGROUP_PATH_INVALID", path=path
        )
