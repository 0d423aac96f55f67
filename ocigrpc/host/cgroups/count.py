"""Whether a frozen cgroup has all processes of a container, by counting them."""

from __future__ import annotations

import os
import re
from contextlib import ExitStack
from pathlib import Path

from ocigrpc.host.cgroups.cgroup import Cgroup

# The fewest processes that are counted; a few are sooner looked at.
_COUNTED = 16
_MOUNT_FLAGS = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def holds_all_of(cgroup: Cgroup, first_pid: int) -> bool:
    """Whether a frozen cgroup has as many processes as there are in the first one's pid namespace.

    That takes a few reads for any number of them, where
    :func:`ocigrpc.host.cgroups.descendants.unfrozen` looks at each. It is also False for less than
    ``_COUNTED`` of them, and where it can't be counted so: in a pid namespace that is another's
    as well, without its /proc, or with groups below, as a program of exec has one. The runtime
    that starts it is in there for a moment, and might be counted for one that is elsewhere.
    """
    freezer = min((group for group in cgroup.groups if group.freezable), key=lambda g: g.unified)
    pids = freezer if freezer.unified else cgroup.of_controller("pids")
    threads = pids.read("pids.current") if pids is not None else None
    if (threads is not None and int(threads) < _COUNTED) or freezer.has_groups():
        return False
    members = freezer.members()
    if first_pid not in members or len(members) < _COUNTED:
        return False
    # A thread of v1 may be in another group than its process; the hierarchy of pids counts them.
    if not freezer.unified and threads != f"{len(freezer.threads())}\n":
        return False
    try:
        return len(members) == _count_in_namespace(first_pid)
    except (OSError, ValueError):
        return False


def _count_in_namespace(first_pid: int) -> int:
    """How many processes its /proc shows, which must be that of its own pid namespace."""
    with ExitStack() as stack:
        mount = os.open(f"/proc/{first_pid}/root/proc", _MOUNT_FLAGS)
        stack.callback(os.close, mount)
        # Whatever else is mounted there may hang when it is read, as it may be served by one
        # of the frozen processes.
        (mount_id,) = re.findall(r"mnt_id:\t(\d+)", Path(f"/proc/self/fdinfo/{mount}").read_text())
        mounts = Path(f"/proc/{first_pid}/mountinfo").read_text(errors="surrogateescape")
        if not re.search(rf"^{mount_id} \d+ \S+ / .* - proc ", mounts, re.MULTILINE):
            raise ValueError(f"no procfs at /proc of process {first_pid}")
        seen, own = os.stat("1/ns/pid", dir_fd=mount), os.stat(f"/proc/{first_pid}/ns/pid")
        if not os.path.samestat(seen, own):
            raise ValueError(f"the /proc of process {first_pid} is of another pid namespace")
        return sum(map(str.isdecimal, os.listdir(f"/proc/self/fd/{mount}")))
