"""One directory in one cgroup hierarchy, and its files, of either generation."""

from __future__ import annotations

import errno
import os
import select
from contextlib import ExitStack, suppress

from msgspec import Struct, structs

from ocigrpc.closing import ClosingStack
from ocigrpc.errors import CgroupFailed
from ocigrpc.host.descriptors import closing_fd

# Errors for a file whose group does not exist, or not any more.
GONE = (errno.ENOENT, errno.ENODEV)

_CHUNK_BYTES = 1 << 14

# The ``inode`` of a group that is known not to exist, whatever has its name.
NO_GROUP = -1

_BALANCE = "cpuset.sched_load_balance"


# With cgroup v1 a container has twenty, in no circle: the garbage collector need not know them.
class ControllerGroup(Struct, frozen=True, omit_defaults=True, gc=False):
    """A cgroup as one hierarchy has it: ``directory`` is below the mount point ``top``.

    With an ``inode`` it is that particular group: if another one has its name, this one counts
    as gone, so that nothing is done to the other. The kernel gives no inode of a cgroup twice in
    a boot.
    """

    directory: str
    top: str
    controllers: frozenset[str]
    unified: bool
    inode: int = 0

    def at(self, directory: str) -> ControllerGroup:
        """Whatever group of the same hierarchy has this directory."""
        return structs.replace(self, directory=directory, inode=0)

    def read(self, name: str) -> str | None:
        """The content of a file of the group; None when the file or the group does not exist."""
        return _read(f"{self.directory}/{name}")

    def write(self, name: str, text: str, *, gone_is_fine: bool = False) -> None:
        """Write a file of the group; raises ``CgroupFailed``."""
        if self.inode and not self.exists():
            if gone_is_fine:
                return
            gone = OSError(errno.ENOENT, os.strerror(errno.ENOENT))
            raise failed("write", f"{self.directory}/{name}", gone)
        _write(f"{self.directory}/{name}", text, gone_is_fine=gone_is_fine)

    def inode_now(self) -> int:
        """The inode of whatever directory has its name; ``NO_GROUP`` when none has."""
        try:
            return os.lstat(self.directory).st_ino
        except OSError:
            return NO_GROUP

    def _status(self) -> os.stat_result | None:
        """The status of its directory; None when it is gone."""
        if self.inode == NO_GROUP:
            return None
        try:
            found = os.lstat(self.directory)
        except OSError:
            return None
        return found if self.inode in (0, found.st_ino) else None

    def exists(self) -> bool:
        """Whether the directory exists."""
        if not self.inode:
            # An error that is raised and caught takes longer than the answer.
            return os.access(self.directory, os.F_OK)
        return self._status() is not None

    def is_replaced(self) -> bool:
        """Whether another group has its name."""
        # Mostly nothing has it any more: an error that is raised and caught takes longer.
        there = self.inode != 0 and os.access(self.directory, os.F_OK)
        return there and self.inode_now() not in (NO_GROUP, self.inode)

    def create(self, undo: ExitStack) -> bool:
        """Make the directory and its parents; False when it existed.

        ``undo`` gets the removal of what it makes.
        """
        fresh = _make(self.directory, self.top, undo)
        if "cpuset" in self.controllers:
            # While the top one balances, all are in its scheduling domain. Then this says nothing,
            # but that the kernel need not rebuild the domains when it is filled in, which takes
            # longest of all here.
            if fresh and _read(f"{self.top}/{_BALANCE}") == "1\n":
                self.write(_BALANCE, "0", gone_is_fine=True)
            # A v1 cpuset starts empty, and attaching to an empty one is ENOSPC.
            for name in ("cpuset.cpus", "cpuset.mems"):
                _inherit(self.directory, self.top, name, fresh=fresh)
        return fresh

    def tree(self) -> list[str]:
        """The directory and all below it, parents first; empty when it is gone."""
        status = self._status()
        if status is None:
            return []
        # Nearly always there is none below it.
        return _tree(self.directory) if _has_groups(status) else [self.directory]

    def has_groups(self) -> bool:
        """Whether there are groups below it; false when it is gone."""
        status = self._status()
        return status is not None and _has_groups(status)

    def members(self) -> set[int]:
        """The pids in it and below it, in the service's pid namespace."""
        return self._numbers("cgroup.procs")

    def threads(self) -> set[int]:
        """The thread ids in it and below it, in the service's pid namespace."""
        return self._numbers("cgroup.threads" if self.unified else "tasks")

    def _numbers(self, name: str) -> set[int]:
        found = set[int]()
        for directory in self.tree():
            found.update(map(int, (_read(f"{directory}/{name}", whole=True) or "").split()))
        # 0 is a process outside of the service's pid namespace.
        return found - {0}

    def try_remove(self) -> bool:
        """Remove it and all below it; False when it is busy."""
        if not self.inode and _remove_if_empty(self.directory):
            # Nearly always there is nothing below it, and to try takes less than to look.
            return True
        for directory in reversed(self.tree()):
            try:
                os.rmdir(directory)
            except OSError as error:
                if error.errno in (errno.EBUSY, errno.ENOTEMPTY):
                    return False
                if error.errno not in GONE:
                    raise failed("remove", directory, error) from error
        return True

    def remove_if_empty(self) -> None:
        """Remove it if it has neither processes nor groups."""
        if not self.inode or self.exists():
            _remove_if_empty(self.directory)

    def oom_kills(self) -> int | None:
        """How many processes in it the OOM killer has killed; None if that is not counted here."""
        if self.unified:
            # This file includes the groups below; the v1 file does not.
            return _oom_kills(f"{self.directory}/memory.events")
        counts = [_oom_kills(f"{directory}/memory.oom_control") for directory in self.tree()]
        known = [count for count in counts if count is not None]
        return sum(known) if known else None

    @property
    def freezable(self) -> bool:
        """Whether this hierarchy can freeze."""
        return self.unified or "freezer" in self.controllers

    def set_frozen(self, frozen: bool) -> None:
        """Begin to freeze all processes in it, or thaw them; does nothing when it is gone.

        What is below it and was frozen itself stays so.
        """
        if not self.inode or self.exists():
            self._set_frozen(self.directory, frozen)

    def thaw(self) -> None:
        """Thaw it and all below it, since a v1 group that was frozen itself would stay so."""
        for directory in self.tree():
            self._set_frozen(directory, False)

    def _set_frozen(self, directory: str, frozen: bool) -> None:
        name, states = "freezer.state", ("THAWED", "FROZEN")
        if self.unified:
            name, states = "cgroup.freeze", ("0", "1")
        _write(f"{directory}/{name}", states[frozen], gone_is_fine=True)


class Populated(ClosingStack):
    """Whether a cgroup2 group has processes, as something to poll.

    ``fileno`` is readable when that may have changed since :meth:`now`.
    """

    def __init__(self, group: ControllerGroup) -> None:
        """Raises ``FileNotFoundError`` when there is no such group."""
        if not group.exists():
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), group.directory)
        with ExitStack() as stack:
            path = f"{group.directory}/cgroup.events"
            self._events = stack.enter_context(closing_fd(os.open(path, os.O_RDONLY)))
            # The file is always readable and signals changes by POLLPRI; the epoll makes that
            # POLLIN, which is what a Deadline waits for.
            self._epoll = stack.enter_context(select.epoll(1))
            self._epoll.register(self._events, select.EPOLLPRI)
            self._stack = stack.pop_all()

    def now(self) -> bool:
        """Whether there is a process in the group or below; False when it is gone."""
        try:
            return b"populated 1" in os.pread(self._events, 4096, 0).splitlines()
        except OSError:
            return False

    def fileno(self) -> int:
        """A descriptor to poll for reading."""
        return self._epoll.fileno()


def failed(verb: str, path: str, error: OSError) -> CgroupFailed:
    """The error for a file or directory of a group that can't be read, written and so on."""
    return CgroupFailed(f"can't {verb} {path}: {error.strerror}", path=path, error=error.strerror)


def _read(path: str, *, whole: bool = False) -> str | None:
    # One read suffices for every file but a list of processes, and stats need many files: for
    # those, closing_fd would cost as much as the read.
    try:
        fd = os.open(path, os.O_RDONLY)
        try:
            text = chunk = os.read(fd, _CHUNK_BYTES)
            while whole and chunk:
                chunk = os.read(fd, _CHUNK_BYTES)
                text += chunk
        finally:
            os.close(fd)
    except OSError as error:
        if error.errno in GONE:
            return None
        if error.errno == errno.EOPNOTSUPP:
            # A threaded group: its processes are listed in the group above it.
            return ""
        raise failed("read", path, error) from error
    return text.decode()


def _write(path: str, text: str, *, gone_is_fine: bool = False) -> None:
    try:
        with closing_fd(os.open(path, os.O_WRONLY)) as fd:
            os.write(fd, text.encode())
    except OSError as error:
        if not (gone_is_fine and error.errno in GONE):
            raise failed("write", path, error) from error


def _make(directory: str, top: str, undo: ExitStack) -> bool:
    while True:
        try:
            os.mkdir(directory, 0o755)
        except FileExistsError:
            return False
        except OSError as error:
            parent = os.path.dirname(directory)
            if error.errno != errno.ENOENT or parent == top:
                raise failed("create", directory, error) from error
            # Try again afterwards: the empty parent may be removed meanwhile.
            _make(parent, top, undo)
        else:
            undo.callback(_remove_if_empty, directory)
            return True


def _oom_kills(path: str) -> int | None:
    for line in (_read(path) or "").splitlines():
        key, _, value = line.partition(" ")
        if key == "oom_kill":
            return int(value)
    return None


def _has_groups(status: os.stat_result) -> bool:
    # A directory without others in it has two links: its name and its ".".
    return status.st_nlink > 2


def _tree(top: str) -> list[str]:
    found: list[str] = []
    waiting = [top]
    while waiting:
        directory = waiting.pop()
        with suppress(FileNotFoundError):
            has_groups = _has_groups(os.lstat(directory))
            found.append(directory)
            if has_groups:
                with os.scandir(directory) as entries:
                    waiting += [e.path for e in entries if e.is_dir(follow_symlinks=False)]
    return found


def _remove_if_empty(directory: str) -> bool:
    try:
        os.rmdir(directory)
    except OSError:
        return False
    return True


def _inherit(directory: str, top: str, name: str, *, fresh: bool = False) -> str:
    """The value of ``name``, filled in from the nearest ancestor that has one."""
    value = "" if fresh else (_read(f"{directory}/{name}") or "").strip()
    if value or directory == top:
        return value
    value = _inherit(os.path.dirname(directory), top, name)
    _write(f"{directory}/{name}", value)
    return value
