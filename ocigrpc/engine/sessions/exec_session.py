"""A program that runs in a container beside its first process, and the relay to its client."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from ocigrpc.engine.model.signals import exit_signal
from ocigrpc.engine.sessions.exec_output import Sink
from ocigrpc.engine.sessions.exec_workspace import ExecWorkspace
from ocigrpc.engine.sessions.messages import (
    CloseStdin,
    ExecExit,
    ExecStart,
    Inputs,
    Stdin,
    TerminalSize,
)
from ocigrpc.errors import CgroupFailed, RuntimeFailed, Timeout, WrongState
from ocigrpc.host.cgroups.cgroup import Cgroup
from ocigrpc.host.cgroups.descendants import descendants, gather
from ocigrpc.host.descriptors import is_out_of_descriptors
from ocigrpc.host.processes.child import Child
from ocigrpc.host.processes.process import Process
from ocigrpc.host.processes.stdio import END_OF_FILE, RUNTIME, STDERR, Stdio
from ocigrpc.oci.exec import exec_failure, not_run
from ocigrpc.waiting import Deadline, Pollable, Waitable

# Of what the runtime writes to standard error, which says why it could not run the program.
_FAILURE_LIMIT_BYTES = 8192
_NOTHING = memoryview(b"")

# How often to check whether the runtime has written the program's process id, until it has.
_PID_INTERVAL_S = 0.01


@dataclass
class ExecSession:
    """A program that has been started, and the child that waits for it: the runtime, or a reaper.

    ``initial_group`` is where the runtime puts the program, if it can't put it into the
    workspace's cgroup. With ``ends_with_program`` the relay ends when the program has ended,
    though other processes may hold its output open; ``kept_outputs`` are descriptors of that
    then, for the caller to close. ``held`` is what was written to standard error before the program
    was seen to run: it may be the runtime's, and is part of the error then.
    """

    start: ExecStart
    workspace: ExecWorkspace
    stdio: Stdio
    child: Child
    limit: Deadline
    initial_group: Cgroup | None = None
    known_pids: set[int] = field(default_factory=set)
    ends_with_program: bool = False
    kept_outputs: Sequence[int] = ()
    process: Process | None = None
    is_found: bool = False
    stderr: bytes = b""
    held: bytes = b""
    pending: memoryview = _NOTHING

    def relay(self, inputs: Inputs | None, sink: Sink, deadline: Deadline) -> ExecExit:
        """Relay input and output until the program has ended and its last byte is read.

        Raises ``RuntimeFailed`` (EXEC_FAILED) or ``WrongState`` when it could not be run,
        ``Timeout`` (EXEC_TIMEOUT, unless it runs on after its caller's deadline), ``Cancelled``.
        """
        with self._limited(deadline) as limited:
            self._relay_all(inputs, sink, limited)
        returncode = self.child.reap()
        stderr = self.stderr.decode(errors="replace")
        failure = exec_failure(self.workspace.files, self.workspace.container_id, stderr)
        if failure is not None:
            raise failure
        self._release(sink)
        if self.start.keep_running:
            self.workspace.spare()
        # A runtime that a signal has killed does not report how the program ended.
        exit_code = returncode if returncode >= 0 else 128 - returncode
        return ExecExit(exit_code, exit_signal(exit_code))

    def await_start(self, deadline: Deadline) -> int:
        """Wait until a program to ``detach`` from runs; its process id, though it may have ended.

        Raises as :meth:`relay` does.
        """
        started = self.stdio.started
        assert started is not None, "is not to be detached from"
        ready: Sequence[object] = ()
        with self._limited(deadline) as limited:
            while started.fileno() not in ready and self.child.fileno() not in ready:
                ready = limited.wait(started, self.child, *self.stdio.outputs)
                for fd in self.stdio.outputs.keys() & set(ready):
                    self._take_output(fd)
        if started.fileno() not in ready:
            raise self._not_started()
        # Whoever is told may count on the program being known.
        self._find_process()
        return self.workspace.files.pid_written()

    def _not_started(self) -> RuntimeFailed | WrongState:
        """Why a program to ``detach`` from does not run, as far as it is known."""
        stderr = self.stderr.decode(errors="replace")
        unseen = ""
        if not self.stdio.terminal:
            # The program would have had the runtime's standard error, too.
            unseen = (
                f"it ended with exit code {self.child.reap()} and logged nothing; without detach, "
                "or with a terminal, its error can be read"
            )
        return not_run(self.workspace.files, self.workspace.container_id, stderr, unseen)

    @contextmanager
    def _limited(self, deadline: Deadline) -> Iterator[Deadline]:
        """The earlier of a caller's deadline and the program's; raises ``Timeout`` as ``relay``."""
        began_s = time.monotonic()
        try:
            yield deadline.within(self.limit.remaining_s())
        except Timeout as error:
            if self.start.keep_running and self.limit.remaining_s():
                raise
            ran_s = min(self.start.timeout_s, round(time.monotonic() - began_s, 3))
            raise Timeout(
                f"the program was still running after {ran_s:g} s, and was killed",
                reason="EXEC_TIMEOUT",
                container_id=self.workspace.container_id,
                timeout_s=ran_s,
            ) from error

    def drop_input(self) -> None:
        """Send the program nothing more."""
        self.pending = _NOTHING
        self.stdio.close_stdin()

    def close(self) -> None:
        """Close the program's pidfd."""
        if self.process is not None:
            self.known_pids.discard(self.process.pid)
            self.process.close()
            self.process = None

    def _relay_all(self, inputs: Inputs | None, sink: Sink, deadline: Deadline) -> None:
        running = True
        while running or self.stdio.outputs:
            searching = running and not self.is_found
            watched = self._watched(inputs, sink, running)
            timeout_s = _PID_INTERVAL_S if searching else math.inf
            ready = deadline.wait(*watched, timeout_s=timeout_s)
            # Before any descriptor is closed: what is opened next may have its number.
            ended = running and self._has_ended(ready)
            # Before output is passed on: whoever has that may count on the program being known.
            if searching and not ended:
                ended = self._find_process()
            if self.is_found:
                self._release(sink)
            if self.stdio.console_fd in ready:
                self.stdio.take_terminal()
            for fd in self.stdio.outputs.keys() & set(ready):
                self._read(fd, sink)
            if self.stdio.writable.fileno() in ready:
                self.pending = self.stdio.write(self.pending)
            if inputs is not None and inputs.filled in ready:
                inputs = self._take_input(inputs)
            if ended:
                running = self.child.fileno() not in ready
                self._end_rest(running, sink)

    def _watched(
        self, inputs: Inputs | None, sink: Sink, running: bool
    ) -> Sequence[int | Pollable | Waitable]:
        watched: list[int | Pollable | Waitable] = []
        if self.stdio.outputs:
            watched += self.stdio.outputs if sink.room.is_ready() else [sink.room]
        if running:
            watched.append(self.child)
            if self.stdio.console_fd is not None:
                # Until the terminal has arrived, input can't be written.
                watched.append(self.stdio.console_fd)
            elif self.pending:
                watched.append(self.stdio.writable)
            elif inputs is not None:
                watched.append(inputs.filled)
            if self.process is not None:
                watched.append(self.process.pidfd)
        return watched

    def _read(self, fd: int, sink: Sink) -> int:
        """Pass on what can be read from one output; how many bytes that was."""
        stream, chunk = self._take_output(fd)
        if stream == STDERR and not self.is_found:
            self.held += chunk
            if len(self.held) > _FAILURE_LIMIT_BYTES:
                self._release(sink)
        elif chunk and stream != RUNTIME:
            sink.write(stream, chunk)
        return len(chunk)

    def _take_output(self, fd: int) -> tuple[int, bytes]:
        """One output's stream, and what can be read from it, which may be the runtime's words."""
        stream = self.stdio.outputs[fd]
        chunk = self.stdio.read(fd) or b""
        if stream in (STDERR, RUNTIME):
            self.stderr += chunk[: _FAILURE_LIMIT_BYTES - len(self.stderr)]
        return stream, chunk

    def _release(self, sink: Sink) -> None:
        """Pass on what was held."""
        if self.held:
            sink.write(STDERR, self.held)
            self.held = b""

    def _take_input(self, inputs: Inputs) -> Inputs | None:
        """Handle one input; None when there will be no more of them."""
        message = inputs.take()
        match message:
            case Stdin(data) if self.stdio.takes_input:
                self.pending = memoryview(data)
            case TerminalSize(rows, columns):
                self.stdio.resize(rows, columns)
            case CloseStdin():
                self._close_stdin()
        if message is None and inputs.ended():
            self._close_stdin()
            return None
        return inputs

    def _close_stdin(self) -> None:
        if self.stdio.terminal and self.stdio.takes_input:
            self.pending = memoryview(END_OF_FILE)
        else:
            self.stdio.close_stdin()

    def _find_process(self) -> bool:
        """Open the program's pidfd once the runtime has written its pid.

        True if the program has ended already.
        """
        try:
            return self._open_process()
        except (OSError, CgroupFailed) as error:
            if not is_out_of_descriptors(error):
                raise
            # The program runs all the same; the next attempt may find a free descriptor.
            self.close()
            self.is_found = False
            return False

    def _open_process(self) -> bool:
        pid = self.workspace.files.pid_written()
        if not pid:
            return False
        self.is_found = True
        group = self.workspace.group
        with suppress(ProcessLookupError):
            self.process = Process(pid)
            if self.initial_group is not None and pid in descendants([self.child.pid]):
                gather(pid, self.initial_group, group)
            if group.holds(pid):
                self.known_pids.add(pid)
                return False
            # Either it has ended, and the number may be another's; or it is on its way, as
            # crun writes the pid before the process is in its group.
            self.is_found = not self.process.alive()
            self.close()
        return self.is_found

    def _has_ended(self, ready: Sequence[object]) -> bool:
        """Whether the program has ended, or the child that waits for it."""
        if self.process is not None and self.process.pidfd in ready:
            self.close()
            return True
        return self.child.fileno() in ready

    def _end_rest(self, is_waited_for: bool, sink: Sink) -> None:
        """Deal with processes that the program has left, which may hold its output open."""
        if not self.start.keep_running:
            self.workspace.end_group()
        elif self.ends_with_program and not is_waited_for:
            for fd in list(self.stdio.outputs):
                self._read_written(fd, sink)
            self.kept_outputs = self.stdio.detach_outputs()

    def _read_written(self, fd: int, sink: Sink) -> None:
        """Read what has been written by now to an output that may never end."""
        waiting = self.stdio.waiting_bytes(fd)
        # Once more after the last byte, for the end, if nobody holds it open any more.
        while waiting >= 0 and fd in self.stdio.outputs:
            waiting -= self._read(fd, sink) or waiting + 1
