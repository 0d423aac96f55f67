"""A program that runs in a container beside its first process, and the talk with it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Protocol

from ocigrpc.conmon.exit_file import exit_signal
from ocigrpc.engine.sessions.messages import (
    CloseStdin,
    ExecExit,
    ExecStart,
    Inputs,
    Stdin,
    TerminalSize,
)
from ocigrpc.errors import CgroupFailed, Timeout
from ocigrpc.host.cgroups.cgroup import Cgroup
from ocigrpc.host.cgroups.descendants import descendants, gather
from ocigrpc.host.descriptors import is_want_of_descriptors
from ocigrpc.host.processes.child import Child
from ocigrpc.host.processes.process import Process
from ocigrpc.host.processes.stdio import END_OF_FILE, RUNTIME, STDERR, Stdio
from ocigrpc.oci.exec import ExecFiles, exec_failure
from ocigrpc.waiting import Deadline, Pollable, Waitable

_FAILURE_LIMIT_BYTES = 8192
_NOTHING = memoryview(b"")
_LOOK_S = 0.005
"""How often to look whether the runtime has named the program's process, until it has."""


class Sink(Protocol):
    """Where output goes."""

    @property
    def room(self) -> Waitable:
        """Ready when there is room."""

    def has_room(self) -> bool:
        """Whether output should be read."""

    def write(self, stream: int, data: bytes) -> None:
        """Take output of STDOUT or STDERR."""


@dataclass
class ExecSession:
    """A program that has been started, and who waits for it: the runtime, or a reaper.

    ``ends_alone`` is whether the talk is over when the program has ended, though others may
    hold its output; ``left`` are descriptors of that then, for the caller to close.
    ``begins_in`` is where the runtime puts the program, if it can't do so into ``group``.
    """

    start: ExecStart
    files: ExecFiles
    group: Cgroup
    stdio: Stdio
    child: Child
    limit: Deadline
    end_group: Callable[[], None]
    spare_rest: Callable[[], None]
    begins_in: Cgroup | None = None
    known_pids: set[int] = field(default_factory=set)
    ends_alone: bool = False
    left: Sequence[int] = ()
    process: Process | None = None
    is_known: bool = False
    stderr: bytes = b""
    pending: memoryview = _NOTHING

    def talk(self, inputs: Inputs | None, sink: Sink, deadline: Deadline) -> ExecExit:
        """Pass everything on until the program has ended and its last byte is read.

        Raises ``RuntimeFailed`` (EXEC_FAILED) or ``WrongState`` when it could not be run,
        ``Timeout`` (EXEC_TIMEOUT, unless it runs on when its caller's time is up), ``Cancelled``.
        """
        began_s = time.monotonic()
        try:
            self._talk(inputs, sink, deadline.within(self.limit.remaining_s()))
        except Timeout as error:
            if self.start.keep_running and self.limit.remaining_s():
                raise
            ran_s = min(self.start.timeout_s, round(time.monotonic() - began_s, 3))
            raise Timeout(
                f"the program was still running after {ran_s:g} s, and was killed",
                reason="EXEC_TIMEOUT",
                container_id=self.start.container_id,
                timeout_s=ran_s,
            ) from error
        returncode = self.child.wait(deadline).returncode
        failure = exec_failure(
            self.files, self.start.container_id, self.stderr.decode(errors="replace")
        )
        if failure is not None:
            raise failure
        if self.start.keep_running:
            self.spare_rest()
        # The runtime itself killed by a signal knows nothing of the program.
        exit_code = returncode if returncode >= 0 else 128 - returncode
        return ExecExit(exit_code, exit_signal(exit_code))

    def forsake(self) -> None:
        """Send it nothing more."""
        self.pending = _NOTHING
        self.stdio.close_stdin()

    def close(self) -> None:
        """Hold its process no longer."""
        if self.process is not None:
            self.known_pids.discard(self.process.pid)
            self.process.close()
            self.process = None

    def _talk(self, inputs: Inputs | None, sink: Sink, deadline: Deadline) -> None:
        running = True
        while running or self.stdio.outputs:
            watched: list[int | Pollable | Waitable] = []
            if self.stdio.outputs:
                watched += self.stdio.outputs if sink.has_room() else [sink.room]
            if running:
                watched.append(self.child)
                if self.stdio.awaited is not None:
                    # Until it is there, input has nowhere to go.
                    watched.append(self.stdio.awaited)
                elif self.pending:
                    watched.append(self.stdio.writable)
                elif inputs is not None:
                    watched.append(inputs.filled)
                if self.process is not None:
                    watched.append(self.process.pidfd)
            looking = running and not self.is_known
            ready = deadline.wait(*watched, timeout_s=_LOOK_S if looking else math.inf)
            # Before any descriptor is closed: what is opened next may have its number.
            ended = running and self._has_ended(ready)
            if self.stdio.awaited in ready:
                self.stdio.arrive()
            self._read(ready, sink)
            if self.stdio.writable.fileno() in ready:
                self.pending = self.stdio.write(self.pending)
            if inputs is not None and inputs.filled in ready:
                inputs = self._listen(inputs)
            if ended or (looking and self._look()):
                running = self.child.fileno() not in ready
                self._end_rest(running, sink)

    def _read(self, ready: Sequence[object], sink: Sink) -> None:
        for fd in self.stdio.outputs.keys() & set(ready):
            self._read_one(fd, sink)

    def _read_one(self, fd: int, sink: Sink) -> int:
        """Pass on what one descriptor has to say; how many bytes that was."""
        stream = self.stdio.outputs[fd]
        chunk = self.stdio.read(fd) or b""
        if chunk and stream in (STDERR, RUNTIME):
            self.stderr += chunk[: _FAILURE_LIMIT_BYTES - len(self.stderr)]
        if chunk and stream != RUNTIME:
            sink.write(stream, chunk)
        return len(chunk)

    def _listen(self, inputs: Inputs) -> Inputs | None:
        """Do what one input says; None when there will be no more of them."""
        thing = inputs.take()
        match thing:
            case Stdin(data) if self.stdio.takes_input:
                self.pending = memoryview(data)
            case TerminalSize(rows, columns):
                self.stdio.resize(rows, columns)
            case CloseStdin():
                self._close_stdin()
        if thing is None and inputs.ended():
            self._close_stdin()
            return None
        return inputs

    def _close_stdin(self) -> None:
        if self.stdio.terminal and self.stdio.takes_input:
            self.pending = memoryview(END_OF_FILE)
        else:
            self.stdio.close_stdin()

    def _look(self) -> bool:
        """Hold the program's process as soon as the runtime names it; whether it is gone."""
        try:
            return self._hold()
        except (OSError, CgroupFailed) as error:
            if not is_want_of_descriptors(error):
                raise
            # It runs all the same; the next look may find more.
            self.close()
            self.is_known = False
            return False

    def _hold(self) -> bool:
        pid = self.files.pid_written()
        if not pid:
            return False
        self.is_known = True
        with suppress(ProcessLookupError):
            self.process = Process(pid)
            if self.begins_in is not None and pid in descendants([self.child.pid]):
                gather(pid, self.begins_in, self.group)
            if pid in self.group.members():
                self.known_pids.add(pid)
                return False
            # It has ended, and the number may be another's. Or it is on its way: crun names it
            # before it is in its group.
            self.is_known = not self.process.alive()
            self.close()
        return self.is_known

    def _has_ended(self, ready: Sequence[object]) -> bool:
        """Whether the program has, or the runtime that waits for it."""
        if self.process is not None and self.process.pidfd in ready:
            self.close()
            return True
        return self.child.fileno() in ready

    def _end_rest(self, is_waited_for: bool, sink: Sink) -> None:
        """See to what the program left behind, which may hold its output open."""
        if not self.start.keep_running:
            self.end_group()
        elif self.ends_alone and not is_waited_for:
            for fd in list(self.stdio.outputs):
                self._read_waiting(fd, sink)
            self.left = self.stdio.keep_outputs()

    def _read_waiting(self, fd: int, sink: Sink) -> None:
        """Read what has been written by now, of what may never end."""
        waiting = self.stdio.waiting_bytes(fd)
        # Once more after the last byte, for the end, if nobody holds it open any more.
        while waiting >= 0 and fd in self.stdio.outputs:
            waiting -= self._read_one(fd, sink) or waiting + 1
