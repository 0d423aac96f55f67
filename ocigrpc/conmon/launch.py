"""conmon on its way to become a container's monitor.

One conmon holds one container's output, terminal and exit status, and outlives the service.
"""

from __future__ import annotations

from contextlib import ExitStack

from ocigrpc.closing import ClosingStack
from ocigrpc.conmon.argv import ConmonOptions, create_argv
from ocigrpc.conmon.pipes import Pipes, parse_sync_line
from ocigrpc.errors import MonitorFailed, cut
from ocigrpc.host.processes.child import ENVIRONMENT, Child
from ocigrpc.host.processes.provenance import bundle_mark
from ocigrpc.log import get_logger
from ocigrpc.oci.runtime_errors import create_failed, logged_error
from ocigrpc.waiting import Deadline

log = get_logger()


class Launch(ClosingStack):
    """To be used in a ``with``: conmon is started, then :meth:`go`, then :meth:`created_pid`.

    It waits for :meth:`go`, so that it can be put into its cgroup first. Leaving the block
    before that does not stop it, since conmon takes the closed pipe for a go: a caller that
    gives up kills what is in its cgroup.
    """

    def __init__(self, options: ConmonOptions) -> None:
        argv, self._paths = create_argv(options), options.paths
        log.debug("monitor.starting", argv=argv)
        with ExitStack() as stack:
            self._pipes = stack.enter_context(Pipes())
            env = ENVIRONMENT | self._pipes.env | bundle_mark(self._paths.bundle)
            # conmon up to 2.1.12 writes its `oom` file to its working directory.
            child = Child(argv, env=env, cwd=self._paths.bundle, pass_fds=self._pipes.fds)
            self._child = stack.enter_context(child)
            self._pipes.release()
            self._stack = stack.pop_all()

    @property
    def pid(self) -> int:
        """Process id of conmon before it makes itself a daemon."""
        return self._child.pid

    def go(self, deadline: Deadline) -> int:
        """Let it begin; the process id of the daemon that it has become.

        Raises ``MonitorFailed`` with conmon's output when it refuses its arguments or
        (MONITOR_PID_MISSING) can't write its process id, ``Timeout`` or ``Cancelled``.
        """
        self._pipes.start()
        ended = self._child.wait(deadline)
        if ended.returncode != 0:
            raise MonitorFailed(
                f"conmon ended with status {ended.returncode}: {cut(ended.failure_text)}",
                returncode=ended.returncode,
                output=cut(ended.failure_text),
            )
        path = self._paths.monitor_pid_file
        try:
            with open(path, "rb", buffering=0) as file:
                return int(file.read())
        except (OSError, ValueError) as error:
            raise MonitorFailed(
                f"conmon has not written its process id to {path}: {error}",
                reason="MONITOR_PID_MISSING",
                path=path,
                error=error,
            ) from error

    def created_pid(self, deadline: Deadline) -> int:
        """Wait for the container; the process id of its first process.

        Raises ``RuntimeFailed`` with the runtime's error, ``MonitorFailed`` when conmon's
        report is malformed, ``Timeout`` or ``Cancelled``.
        """
        line = self._pipes.read_sync_line(deadline)
        if not line.strip():
            # A runtime that fails without an error message looks like this through conmon.
            raise create_failed(logged_error(self._paths.runtime_log))
        report = parse_sync_line(line)
        if report.pid > 0:
            return report.pid
        raise create_failed(logged_error(self._paths.runtime_log) or report.message)
