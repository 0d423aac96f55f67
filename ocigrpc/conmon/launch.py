"""conmon, the monitor that stays with each container: its argv, its pipes, its words.

One conmon holds one container's output, terminal and exit status, and outlives the
service. Written against conmon 2.1.6 to 2.2; what differs between versions is hidden here.
"""

from __future__ import annotations

import socket
from contextlib import ExitStack, suppress
from typing import Self

import msgspec
from msgspec import Struct

from ocigrpc.closing import Closing
from ocigrpc.errors import MonitorFailed, cut
from ocigrpc.host.processes.process import ENVIRONMENT, Child
from ocigrpc.host.processes.provenance import bundle_mark
from ocigrpc.oci.options import Option
from ocigrpc.oci.paths import ContainerPaths
from ocigrpc.oci.runtime_errors import create_failed
from ocigrpc.oci.runtime_log import logged_error
from ocigrpc.waiting import Deadline

SYNC_LINE_LIMIT_BYTES = 1 << 16
"""conmon passes on at most 8 KiB of the runtime's stderr, escaped; more is not conmon."""


OPTIONS = (
    Option("--exit-dir", "exit codes are in one place only", "/x"),
    Option("--persist-dir", "exit codes and ends for want of memory are told with less", "/x"),
    Option("--socket-dir-path", "Attach may not work", "/x"),
    Option("--full-attach", "Attach may not work where run_dir has a long name"),
    Option("--log-level", "conmon_log_level is of no effect", "warning"),
    Option("--leave-stdin-open", "standard input ends with the first client of Attach that leaves"),
    Option(
        "--log-size-max",
        "CreateContainer refuses log_size_max_bytes, and logs that the service rotates may "
        "grow beyond log_max_bytes meanwhile",
        "1000",
    ),
    Option("--no-pivot", "CreateContainer refuses no_pivot"),
)
"""What we pass to conmon, besides what all its versions know."""


class ConmonOptions(Struct, frozen=True):
    """All that decides how conmon is started for a container."""

    conmon_path: str
    container_id: str
    paths: ContainerPaths
    runtime_path: str
    runtime_argv: tuple[str, ...]
    log_path: str
    log_level: str
    log_size_max_bytes: int = 0
    systemd_cgroup: bool = False
    terminal: bool = False
    stdin: bool = False
    stdin_once: bool = False
    no_pivot: bool = False
    shows_bundle: bool = False
    """Whether the runtime's bundle is the one shown, and not the container's own directory."""
    unknown: frozenset[str] = frozenset()
    """Options of conmon, and of the runtime, that they do not know."""


def create_argv(monitor: ConmonOptions) -> list[str]:
    """The command line that makes conmon create the container and stay with it."""
    paths = monitor.paths
    argv = [monitor.conmon_path]
    if monitor.systemd_cgroup:
        argv.append("-s")
    argv += [
        *("-c", monitor.container_id),
        *("-u", monitor.container_id),
        *("-r", monitor.runtime_path),
        *("-b", str(paths.bundle)),
        *("-p", str(paths.init_pid_file)),
        *("-P", str(paths.monitor_pid_file)),
        *("-l", monitor.log_path),
    ]
    for words in (
        ("--persist-dir", str(paths.persist)),
        ("--exit-dir", str(paths.exits)),
        ("--socket-dir-path", str(paths.sockets)),
        ("--full-attach",),
        ("--log-level", monitor.log_level),
    ):
        if words[0] not in monitor.unknown:
            argv += words
    if monitor.terminal:
        argv.append("-t")
    if monitor.stdin:
        argv.append("-i")
        if not monitor.stdin_once and "--leave-stdin-open" not in monitor.unknown:
            # Else the first client to leave ends it for the others, too.
            argv.append("--leave-stdin-open")
    if monitor.log_size_max_bytes and "--log-size-max" not in monitor.unknown:
        argv += ["--log-size-max", str(monitor.log_size_max_bytes)]
    if monitor.no_pivot:
        argv.append("--no-pivot")
    if monitor.shows_bundle:
        # Of two the runtime takes the later one; conmon's own is where its sockets are.
        argv.append(f"--runtime-opt=--bundle={paths.shown}")
    argv += [f"--runtime-arg={word}" for word in monitor.runtime_argv]
    if not monitor.unknown & {"--log", "--log-format"}:
        argv += [f"--runtime-arg=--log={paths.runtime_log}", "--runtime-arg=--log-format=json"]
    return argv


class Launch(Closing):
    """conmon on its way, to be used in a ``with``: start, :meth:`go`, :meth:`created_pid`.

    It holds still until :meth:`go`, so that it can be put where it belongs first. Leaving
    the block before that does not stop it, since conmon takes the closed pipe for a go:
    whoever gives up kills what is in its cgroup.
    """

    def __init__(self, monitor: ConmonOptions) -> None:
        self._argv = create_argv(monitor)
        self._paths = monitor.paths
        self._stack = ExitStack()
        self._line = b""

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            # conmon must hold the only other ends, or we never see it go.
            with ExitStack() as theirs:
                self._sync, theirs_sync = _socket_pair(stack, theirs)
                self._start, theirs_start = _socket_pair(stack, theirs)
                pipes = {
                    "_OCI_SYNCPIPE": str(theirs_sync.fileno()),
                    "_OCI_STARTPIPE": str(theirs_start.fileno()),
                }
                self._child = stack.enter_context(
                    Child(
                        self._argv,
                        env=ENVIRONMENT | pipes | bundle_mark(str(self._paths.bundle)),
                        # conmon to 2.1.12 leaves its `oom` file where it stands.
                        cwd=self._paths.persist,
                        pass_fds=(theirs_sync.fileno(), theirs_start.fileno()),
                    )
                )
            self._stack = stack.pop_all()
        return self

    @property
    def pid(self) -> int:
        """Process id of conmon before it makes itself a daemon."""
        return self._child.pid

    def go(self, deadline: Deadline) -> int:
        """Let it go, and answer the process id of the daemon that it has become.

        Raises ``MonitorFailed`` with conmon's words when it refuses its arguments or
        (MONITOR_PID_MISSING) can't write its process id, ``Timeout`` or ``Cancelled``.
        """
        # If it is gone already, its exit status and words say why.
        with suppress(OSError):
            self._start.send(b"\0")
        ended = self._child.wait(deadline)
        if ended.returncode != 0:
            raise MonitorFailed(
                f"conmon ended with status {ended.returncode}: {cut(ended.words)}",
                returncode=ended.returncode,
                output=cut(ended.words),
            )
        path = self._paths.monitor_pid_file
        try:
            return int(path.read_bytes())
        except (OSError, ValueError) as error:
            raise MonitorFailed(
                f"conmon has not written its process id to {path}: {error}",
                reason="MONITOR_PID_MISSING",
                path=path,
                error=error,
            ) from error

    def created_pid(self, deadline: Deadline) -> int:
        """Wait for the container; the process id of its first process.

        Raises ``RuntimeFailed`` with the runtime's words, ``MonitorFailed`` when conmon
        talks nonsense, ``Timeout`` or ``Cancelled``.
        """
        while b"\n" not in self._line:
            deadline.wait(self._sync.fileno())
            chunk = self._sync.recv(4096)
            self._line += chunk
            if not chunk or len(self._line) > SYNC_LINE_LIMIT_BYTES:
                break
        if not self._line.strip():
            # What a runtime that fails without a word looks like through conmon.
            raise create_failed(logged_error(self._paths.runtime_log))
        answer = parse_sync_line(self._line)
        if answer.pid > 0:
            return answer.pid
        raise create_failed(logged_error(self._paths.runtime_log) or answer.message)

    def close(self) -> None:
        """Close what belongs to the launch."""
        self._stack.close()


def _socket_pair(ours: ExitStack, theirs: ExitStack) -> tuple[socket.socket, socket.socket]:
    one, other = socket.socketpair()
    return ours.enter_context(one), theirs.enter_context(other)


class SyncLine(Struct, frozen=True):
    """What conmon says on its sync pipe: a process id, or -1 and a message."""

    pid: int
    message: str = ""


class _SyncJson(Struct, frozen=True):
    pid: int | None = None
    data: int | None = None
    message: str = ""


# Made now: msgspec crashes when two threads make one for the same type for the first time.
_SYNC_JSON = msgspec.json.Decoder(_SyncJson)


def parse_sync_line(line: bytes) -> SyncLine:
    """Read either form of the line: ``{"pid": N}``, or ``{"data": N}`` with --api-version.

    Raises ``MonitorFailed`` (SYNC_MALFORMED) when it is neither.
    """
    text = line.decode(errors="replace")
    try:
        decoded = _SYNC_JSON.decode(text)
    except msgspec.DecodeError as error:
        raise _malformed(text) from error
    number = decoded.data if decoded.pid is None else decoded.pid
    if number is None:
        raise _malformed(text)
    return SyncLine(number, decoded.message)


def _malformed(text: str) -> MonitorFailed:
    return MonitorFailed(
        f"conmon said on its sync pipe: {cut(text)!r}", reason="SYNC_MALFORMED", output=cut(text)
    )
