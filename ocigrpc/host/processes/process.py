"""Processes that are not the service's children, held so that no other can be signalled."""

from __future__ import annotations

import math
import os
import select
import signal
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

from msgspec import Struct

from ocigrpc.closing import Closing
from ocigrpc.host.descriptors import closing_fd
from ocigrpc.waiting import Deadline

_CHUNK_BYTES = 1 << 14


class Identity(Struct, frozen=True):
    """The unique identity of a process: its pid, its start (clock ticks after boot), the boot."""

    pid: int
    start_ticks: int
    boot_id: str


class Process(Closing):
    """A process that the service has not started, held by a pidfd until :meth:`close`.

    No signal can reach another process, even after this one's pid is used again. One thread may
    close it, after its end, while others use it and wait.
    """

    def __init__(self, pid: int) -> None:
        """Raises ``ProcessLookupError`` when there is no such process."""
        self._lock = threading.Lock()
        self._fd = os.pidfd_open(pid)
        self.pid = pid
        try:
            self.identity = Identity(pid, int(stat_fields(f"/proc/{pid}")[19]), boot_id())
        except BaseException as error:
            self.close()
            if isinstance(error, OSError):
                raise ProcessLookupError(pid) from error
            raise

    @classmethod
    def find(cls, identity: Identity) -> Process | None:
        """The process of this identity, if it exists and is not a zombie."""
        if identity.boot_id != boot_id():
            return None
        try:
            process = cls(identity.pid)
        except ProcessLookupError:
            return None
        if process.identity == identity and process.alive():
            return process
        process.close()
        return None

    @property
    def pidfd(self) -> int:
        """A descriptor that is readable once it has ended; for the thread that closes it."""
        return self._fd

    def close(self) -> None:
        """Hold it no longer: from now on it counts as ended. May be called twice."""
        with self._lock:
            # In this order: see ``alive_among``.
            fd, self._fd = self._fd, -1
            if fd >= 0:
                os.close(fd)

    def alive(self) -> bool:
        """Whether it has not ended; a zombie has."""
        with self._lock:
            return self._fd >= 0 and not ends(self._fd, 0)

    def wait(self, deadline: Deadline, timeout_s: float = math.inf) -> bool:
        """Wait for its end; False if ``timeout_s`` passes first.

        Raises ``Timeout`` or ``Cancelled``.
        """
        with self.watched() as ended:
            return bool(deadline.wait(ended, timeout_s=timeout_s))

    @contextmanager
    def watched(self) -> Iterator[int]:
        """A descriptor for the block, readable once the process has ended.

        A duplicate, since the pidfd may be closed by another thread, and then a poll would go
        on with whatever gets its number next.
        """
        with self._lock:
            # Closed means ended, and /dev/null can always be read.
            fd = os.dup(self._fd) if self._fd >= 0 else os.open(os.devnull, os.O_RDONLY)
        with closing_fd(fd):
            yield fd

    def send_signal(self, number: int) -> None:
        """Send a signal; nothing happens when the process has ended."""
        with self._lock, suppress(ProcessLookupError):
            if self._fd >= 0:
                signal.pidfd_send_signal(self._fd, number)

    def program(self) -> tuple[int, int] | None:
        """Device and inode of the file that it executes; None when it has ended."""
        if self._fd < 0:
            return None
        try:
            status = os.stat(f"/proc/{self.pid}/exe")
        except OSError:
            return None
        return status.st_dev, status.st_ino

    def has_other_users(self) -> bool:
        """Whether it is in another user namespace than we are; false when it has ended."""
        if self._fd < 0:
            return False
        try:
            theirs, ours = (os.stat(f"/proc/{each}/ns/user") for each in (self.pid, "self"))
        except OSError:
            return False
        return not os.path.samestat(theirs, ours)

    def has_open(self, file: os.stat_result) -> bool:
        """Whether it has this file open; also True if that can't be found out."""
        try:
            with os.scandir(f"/proc/{self.pid}/fd") as found:
                return any(os.path.samestat(file, status) for status in _targets(found))
        except OSError:
            return True


def _targets(found: Iterable[os.DirEntry[str]]) -> Iterator[os.stat_result]:
    for each in found:
        # It may have been closed meanwhile.
        with suppress(FileNotFoundError):
            yield os.stat(each.path)


def alive_among(processes: Iterable[Process]) -> set[Process]:
    """Those that have not ended, by one poll of all: a poll of each takes five times as long."""
    poller = select.poll()
    held = [(process, fd) for process in processes if (fd := process.pidfd) >= 0]
    for _, fd in held:
        poller.register(fd, select.POLLIN)
    ended = {fd for fd, _ in poller.poll(0)}
    # Of one that was closed meanwhile, the number may have been polled as another file's.
    return {process for process, fd in held if fd not in ended and process.pidfd == fd}


def ends(pidfd: int, timeout_s: float) -> bool:
    """Whether the process of a pidfd ends within the time, in which nothing can cancel."""
    poller = select.poll()
    poller.register(pidfd, select.POLLIN)
    return bool(poller.poll(timeout_s * 1000))


def read_proc(path: str) -> bytes:
    """Content of a small file below /proc, in a third of the time that ``open`` takes for it.

    Raises ``OSError``.
    """
    with closing_fd(os.open(path, os.O_RDONLY | os.O_CLOEXEC)) as file:
        content = chunk = os.read(file, _CHUNK_BYTES)
        while chunk:
            chunk = os.read(file, _CHUNK_BYTES)
            content += chunk
    return content


def stat_fields(directory: str) -> list[bytes]:
    """The fields of a process's or thread's ``stat`` from the state on; proc_pid_stat(5).

    ``directory`` is its own below /proc. Raises ``OSError``.
    """
    text = read_proc(f"{directory}/stat")
    # The second field is in parentheses and may hold anything.
    return text[text.rindex(b")") + 2 :].split()


@cache
def boot_id() -> str:
    """The kernel's id of this boot; random(4)."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
