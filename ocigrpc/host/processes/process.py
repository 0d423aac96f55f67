"""Processes: started with nothing of the service's own, and named so that no other can be meant.

A child gets an explicit environment and umask, ``/dev/null`` on standard input, pipes on the other
two and a process group of its own. Only options that keep vfork are used: forking a
process full of gRPC threads would deadlock it.
"""

from __future__ import annotations

import errno
import math
import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Thread
from typing import NamedTuple

from msgspec import Struct

from ocigrpc.closing import Closing
from ocigrpc.errors import HostFailed, host_failure
from ocigrpc.host.descriptors import limit_child
from ocigrpc.host.processes import reaper
from ocigrpc.log import get_logger
from ocigrpc.waiting import Deadline

ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
"""What every child gets, and all it gets unless more is said."""

UMASK = 0o022
"""Permissions that new files of a child lack, unless more is said; umask(2)."""

OUTPUT_LIMIT_BYTES = 1 << 20
"""Most that is kept of a child's standard output, or error, unless more is said; the rest is
read and dropped."""

_CHUNK_BYTES = 1 << 16
# For a child to end that has been killed: longer takes only what waits in the kernel.
_KILL_TIMEOUT_S = 1.0

log = get_logger()


class Completed(NamedTuple):
    """How a child ended: ``returncode`` is negative for a signal, as in ``subprocess``."""

    returncode: int
    stdout: bytes
    stderr: bytes

    @property
    def words(self) -> str:
        """What the program said of its failure: standard error, or else output."""
        return (self.stderr.strip() or self.stdout.strip()).decode(errors="replace")


class Child(Closing):
    """A started child, to be used in a ``with``: it is killed at the end of the block.

    One that the kernel does not let end soon is left to a thread that reaps it some day.
    ``stdio`` are the three descriptors that it gets in place of ``/dev/null`` and two pipes.
    Raises ``HostFailed`` (PROGRAM_NOT_FOUND, PROGRAM_NOT_STARTED) when it can't be started,
    ``LimitReached`` (TOO_MANY_OPEN_FILES).
    """

    def __init__(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] = ENVIRONMENT,
        cwd: str | Path | None = None,
        pass_fds: Sequence[int] = (),
        stdio: tuple[int, int, int] = (subprocess.DEVNULL, subprocess.PIPE, subprocess.PIPE),
        output_limit_bytes: int = OUTPUT_LIMIT_BYTES,
        umask: int = UMASK,
    ) -> None:
        self._output_limit_bytes = output_limit_bytes
        stdin, stdout, stderr = stdio
        try:
            self._popen = subprocess.Popen(
                argv,
                stdin=stdin,
                stdout=stdout,
                stderr=stderr,
                env=env,
                cwd=cwd,
                pass_fds=pass_fds,
                umask=umask,
                process_group=0,
                bufsize=0,
            )
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):
                raise host_failure(error) from error
            missing = isinstance(error, FileNotFoundError)
            raise HostFailed(
                f"can't start {argv[0]}: {error.strerror}",
                reason="PROGRAM_NOT_FOUND" if missing else "PROGRAM_NOT_STARTED",
                path=argv[0],
                error=error.strerror,
            ) from error
        self._said = [stream for stream in (self._popen.stdout, self._popen.stderr) if stream]
        try:
            limit_child(self._popen.pid)
            self._pidfd = os.pidfd_open(self._popen.pid)
        except OSError as error:
            self.kill()
            self._popen.wait()
            self._close_pipes()
            raise host_failure(error) from error
        self._pipes = {stream.fileno(): b"" for stream in self._said}
        for pipe in self._pipes:
            os.set_blocking(pipe, False)

    @property
    def pid(self) -> int:
        """Its process id, certain until the block ends since it is reaped only then."""
        return self._popen.pid

    def fileno(self) -> int:
        """Its pidfd: readable from the moment that it ends."""
        return self._pidfd

    def wait(self, deadline: Deadline) -> Completed:
        """Wait for its end, reading what it says; raises ``Timeout`` or ``Cancelled``.

        The end of the process is the end: descendants that keep the pipes open are
        not waited for.
        """
        open_pipes = list(self._pipes)
        while True:
            ready = deadline.wait(self._pidfd, *open_pipes)
            for pipe in open_pipes[:]:
                if pipe in ready and not self._read(pipe):
                    open_pipes.remove(pipe)
            if self._pidfd in ready:
                break
        for pipe in open_pipes:
            # What is left in the pipe now is all that the process itself said.
            self._read(pipe)
        output, error = self._pipes.values() or (b"", b"")
        return Completed(self._popen.wait(), output, error)

    def _read(self, pipe: int) -> bool:
        try:
            chunk = os.read(pipe, _CHUNK_BYTES)
        except BlockingIOError:
            return True
        kept = self._pipes[pipe]
        self._pipes[pipe] = kept + chunk[: self._output_limit_bytes - len(kept)]
        return bool(chunk)

    def set_oom_score_adj(self, score: int) -> None:
        """Have what it starts from now on inherit this; see proc_pid_oom_score_adj(5)."""
        with suppress(OSError):
            Path(f"/proc/{self.pid}/oom_score_adj").write_text(str(score))

    def send_signal(self, number: int) -> None:
        """Send a signal to the child alone; nothing happens when it has ended."""
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._pidfd, number)

    def kill(self) -> None:
        """SIGKILL to the child and its process group."""
        if self._popen.returncode is None:
            # Not reaped yet, so neither the pid nor the group can be anybody else's.
            with suppress(ProcessLookupError):
                os.killpg(self._popen.pid, signal.SIGKILL)

    def close(self) -> None:
        """Kill it, and reap it."""
        self.kill()
        self._close_pipes()
        if _ends(self._pidfd, _KILL_TIMEOUT_S):
            self._reap()
        else:
            log.error("child.outlives_kill", pid=self.pid, argv=self._popen.args)
            Thread(target=self._reap, name="reaper", daemon=True).start()

    def _close_pipes(self) -> None:
        for stream in self._said:
            stream.close()

    def _reap(self) -> None:
        self._popen.wait()
        os.close(self._pidfd)


def run(
    argv: Sequence[str],
    deadline: Deadline,
    *,
    env: Mapping[str, str] = ENVIRONMENT,
    cwd: str | Path | None = None,
    output_limit_bytes: int = OUTPUT_LIMIT_BYTES,
) -> Completed:
    """Run a program to its end; it is killed when the deadline passes or the caller goes.

    Raises ``HostFailed``, ``Timeout`` or ``Cancelled``.
    """
    with Child(argv, env=env, cwd=cwd, output_limit_bytes=output_limit_bytes) as child:
        return child.wait(deadline)


def reaper_argv(held: int, pid_file: Path, argv: Sequence[str]) -> list[str]:
    """The command line of a reaper, which ends as the process does that ``argv`` leaves behind.

    Its process id is in ``pid_file`` then; ``held`` is a descriptor to keep until the end, or
    -1. See ``ocigrpc.host.processes.reaper``.
    """
    return [sys.executable, "-I", "-S", reaper.__file__, str(held), str(pid_file), *argv]


class Identity(Struct, frozen=True):
    """A process in writing: its pid, when it started (clock ticks after boot), which boot."""

    pid: int
    start_ticks: int
    boot_id: str


class Process(Closing):
    """A process that is somebody else's child, held by a pidfd until :meth:`close`.

    No signal can reach another process, even after this one's pid is used again. Any thread
    may ask and wait while another closes it, which it does when it has seen the end.
    """

    def __init__(self, pid: int) -> None:
        """Raises ``ProcessLookupError`` when there is no such process."""
        self._lock = threading.Lock()
        self._fd = os.pidfd_open(pid)
        self.pid = pid
        try:
            self.identity = Identity(pid, _start_ticks(pid), boot_id())
        except BaseException as error:
            self.close()
            if isinstance(error, OSError):
                raise ProcessLookupError(pid) from error
            raise

    @classmethod
    def find(cls, identity: Identity) -> Process | None:
        """The process of this identity if it still is, and is not a zombie."""
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
        """Readable from the moment the process ends; for the one that closes it."""
        return self._fd

    def close(self) -> None:
        """Hold it no longer: from now on it counts as ended. The second time, do nothing."""
        with self._lock:
            if self._fd >= 0:
                os.close(self._fd)
                self._fd = -1

    def alive(self) -> bool:
        """Whether it has not ended; a zombie has."""
        with self._lock:
            return self._fd >= 0 and not _ends(self._fd, 0)

    def wait(self, deadline: Deadline, timeout_s: float = math.inf) -> bool:
        """Wait for its end; false when ``timeout_s`` passed first.

        Raises ``Timeout`` or ``Cancelled``.
        """
        with self.watched() as ended:
            return bool(deadline.wait(ended, timeout_s=timeout_s))

    @contextmanager
    def watched(self) -> Iterator[int]:
        """A descriptor that is readable once it has ended, for the block.

        Of its own, since nobody else may close what is polled for: the poll would go on with
        whatever gets the number next.
        """
        with self._lock:
            # Closed means ended, and /dev/null can always be read.
            fd = os.dup(self._fd) if self._fd >= 0 else os.open(os.devnull, os.O_RDONLY)
        try:
            yield fd
        finally:
            os.close(fd)

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

    def has_open(self, file: os.stat_result) -> bool:
        """Whether it holds this file open; true as well when that can't be seen."""
        try:
            with os.scandir(f"/proc/{self.pid}/fd") as found:
                return any(os.path.samestat(file, status) for status in _targets(found))
        except OSError:
            return True


def _targets(found: Iterable[os.DirEntry[str]]) -> Iterator[os.stat_result]:
    for each in found:
        # Closed meanwhile.
        with suppress(FileNotFoundError):
            yield os.stat(each.path)


def _ends(pidfd: int, timeout_s: float) -> bool:
    """Whether the process ends within the time, in which nothing else is waited for."""
    poller = select.poll()
    poller.register(pidfd, select.POLLIN)
    return bool(poller.poll(timeout_s * 1000))


def _start_ticks(pid: int) -> int:
    # proc(5): field 22; the second field is in parentheses and may hold anything.
    text = Path(f"/proc/{pid}/stat").read_bytes()
    return int(text[text.rindex(b")") + 2 :].split()[19])


_boot_id = ""


def boot_id() -> str:
    """What the kernel calls this boot; random(4)."""
    global _boot_id
    if not _boot_id:
        _boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return _boot_id
