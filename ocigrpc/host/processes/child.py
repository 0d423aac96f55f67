"""Programs that the service starts, with nothing of its own.

A child gets an explicit environment and umask, ``/dev/null`` on standard input, pipes on the
other two and a process group of its own. Only options that keep vfork are used: forking a
process full of gRPC threads would deadlock it.
"""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from threading import Thread
from typing import NamedTuple

from ocigrpc.closing import Closing
from ocigrpc.errors import HostFailed, OcigrpcError
from ocigrpc.failing import host_failure
from ocigrpc.host.descriptors import closing_fd, limit_child
from ocigrpc.host.processes import reaper
from ocigrpc.host.processes.process import ends
from ocigrpc.log import get_logger
from ocigrpc.waiting import Deadline

# The environment of a child, unless the caller gives another.
ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
# The permissions that new files of a child lack, unless the caller gives others; umask(2).
UMASK = 0o022
# The most that is kept of a child's standard output, and of its standard error, unless the
# caller gives another limit; the rest is read and dropped.
OUTPUT_LIMIT_BYTES = 1 << 20
_CHUNK_BYTES = 1 << 16
# Whether the kernel ends other processes before this one when memory runs out.
_IS_PROTECTED = int(Path("/proc/self/oom_score_adj").read_text()) < 0
# How long a killed child may take to end; one that takes longer is blocked in the kernel.
_KILL_TIMEOUT_S = 1.0

log = get_logger()


class Completed(NamedTuple):
    """How a child ended: ``returncode`` is negative for a signal, as in ``subprocess``."""

    returncode: int
    stdout: bytes
    stderr: bytes

    @property
    def failure_text(self) -> str:
        """Standard error, or standard output if that is empty: what describes a failure."""
        return (self.stderr.strip() or self.stdout.strip()).decode(errors="replace")


class Child(Closing):
    """A started child, for a ``with``: it is killed at the end of the block.

    If it does not end soon after that, a thread waits to reap it. ``stdio`` are the three
    descriptors that it gets in place of ``/dev/null`` and two pipes. Raises ``HostFailed``
    (PROGRAM_NOT_FOUND, PROGRAM_NOT_STARTED) or ``LimitReached`` (TOO_MANY_OPEN_FILES).
    """

    def __init__(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] = ENVIRONMENT,
        cwd: str | Path | None = None,
        pass_fds: Sequence[int] = (),
        stdio: tuple[int, int, int] | None = None,
        output_limit_bytes: int = OUTPUT_LIMIT_BYTES,
        umask: int = UMASK,
    ) -> None:
        self._output_limit_bytes = output_limit_bytes
        # What was read of each pipe; and their other ends. Those stay open, so that a pipe is
        # readable only if there is something in it: not once more at the end.
        self._pipes: dict[int, bytes] = {}
        self._write_ends: list[int] = []
        with ExitStack() as undo:
            undo.callback(self._close_pipes)
            try:
                stdin, stdout, stderr = stdio or (subprocess.DEVNULL, self._pipe(), self._pipe())
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
                )
            except OSError as error:
                raise _not_started(argv[0], error) from error
            self._pidfd = self._limited()
            undo.pop_all()

    def _pipe(self) -> int:
        """A new pipe, of which the child gets this end."""
        ours, theirs = os.pipe()
        self._pipes[ours] = b""
        self._write_ends.append(theirs)
        os.set_blocking(ours, False)
        return theirs

    def _limited(self) -> int:
        """Give it its limit, and no protection of ours from a lack of memory; a pidfd of it."""
        try:
            limit_child(self._popen.pid)
            if _IS_PROTECTED:
                self.set_oom_score_adj(0)
            return os.pidfd_open(self._popen.pid)
        except OSError as error:
            self.kill()
            self._popen.wait()
            raise host_failure(error) from error

    @property
    def pid(self) -> int:
        """Its process id, which stays its own until the block ends: it is reaped only then."""
        return self._popen.pid

    def fileno(self) -> int:
        """Its pidfd, which is readable once it has ended."""
        return self._pidfd

    def wait(self, deadline: Deadline) -> Completed:
        """Wait for its end, reading its output; raises ``Timeout`` or ``Cancelled``.

        Does not wait for descendants that keep the pipes open.
        """
        ready: Sequence[object] = ()
        while self._pidfd not in ready:
            # In this order: once it has ended, all that it has written itself is in the pipes.
            ready = deadline.wait(self._pidfd, *self._pipes)
            for pipe in self._pipes:
                if pipe in ready:
                    self._read(pipe)
        output, error = self._pipes.values() or (b"", b"")
        return Completed(self._popen.wait(), output, error)

    def reap(self) -> int:
        """Its returncode, for a caller that has seen its end; see :meth:`fileno`."""
        return self._popen.wait()

    def _read(self, pipe: int) -> None:
        """Read what is there."""
        # Nothing is, when the child has opened our end in /proc and was faster.
        with suppress(BlockingIOError):
            chunk = os.read(pipe, _CHUNK_BYTES)
            kept = self._pipes[pipe]
            self._pipes[pipe] = kept + chunk[: self._output_limit_bytes - len(kept)]

    def set_oom_score_adj(self, score: int) -> None:
        """Set what it and its future children have; see proc_pid_oom_score_adj(5)."""
        with (
            suppress(OSError),
            closing_fd(os.open(f"/proc/{self.pid}/oom_score_adj", os.O_WRONLY)) as file,
        ):
            os.write(file, str(score).encode())

    def send_signal(self, number: int) -> None:
        """Send a signal to the child alone; nothing happens when it has ended."""
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._pidfd, number)

    def kill(self) -> None:
        """SIGKILL to the child and its process group."""
        if self._popen.returncode is None:
            # Not reaped yet, so neither the pid nor the group can be another's.
            with suppress(ProcessLookupError):
                os.killpg(self._popen.pid, signal.SIGKILL)

    def close(self) -> None:
        """Kill it, and reap it."""
        self.kill()
        self._close_pipes()
        if self._popen.returncode is not None or ends(self._pidfd, _KILL_TIMEOUT_S):
            self._forget()
        else:
            log.error("child.outlives_kill", pid=self.pid, argv=self._popen.args)
            Thread(target=self._forget, name="reaper", daemon=True).start()

    def _close_pipes(self) -> None:
        for fd in (*self._pipes, *self._write_ends):
            os.close(fd)

    def _forget(self) -> None:
        self._popen.wait()
        os.close(self._pidfd)


def _not_started(path: str, error: OSError) -> OcigrpcError:
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return host_failure(error)
    missing = isinstance(error, FileNotFoundError)
    return HostFailed(
        f"can't start {path}: {error.strerror}",
        reason="PROGRAM_NOT_FOUND" if missing else "PROGRAM_NOT_STARTED",
        path=path,
        error=error.strerror,
    )


def run(
    argv: Sequence[str],
    deadline: Deadline,
    *,
    env: Mapping[str, str] = ENVIRONMENT,
    cwd: str | Path | None = None,
    output_limit_bytes: int = OUTPUT_LIMIT_BYTES,
) -> Completed:
    """Run a program until it ends; it is killed at the deadline, or when the caller cancels.

    Raises ``HostFailed``, ``Timeout`` or ``Cancelled``.
    """
    with Child(argv, env=env, cwd=cwd, output_limit_bytes=output_limit_bytes) as child:
        return child.wait(deadline)


def reaper_argv(outputs: int, started: int, pid_file: Path, argv: Sequence[str]) -> list[str]:
    """The command line of a reaper, which ends as does the process that ``argv`` leaves behind.

    ``argv`` writes the id of that process to ``pid_file``. ``outputs`` is the reaper's end of
    ``HeldOutputs``, and ``started`` an eventfd to set when ``argv`` has succeeded, or -1. See
    ``ocigrpc.host.processes.reaper``.
    """
    python = (sys.executable, "-I", "-S")
    return [*python, reaper.__file__, str(outputs), str(started), str(pid_file), *argv]
