"""Where the output of programs goes: kept for the response, sent to a client, or dropped."""

from __future__ import annotations

from threading import Lock
from typing import Protocol

from ocigrpc.closing import Closing
from ocigrpc.engine.sessions.messages import ExecExit, ExecResult, Output, Reply, weight_bytes
from ocigrpc.engine.sessions.queue import PollableQueue
from ocigrpc.host.processes.stdio import STDERR, STDOUT
from ocigrpc.waiting import Latch, Waitable

# Most of each stream that a client can ask to be kept of a program whose end it waits for.
OUTPUT_LIMIT_BYTES = 16 << 20

# What is kept of each stream in any case.
OUTPUT_SURE_BYTES = 64 << 10

# Most that is kept beyond that, of all such programs together while they run.
OUTPUT_BUDGET_BYTES = 64 << 20


class Sink(Protocol):
    """Takes output."""

    @property
    def room(self) -> Waitable:
        """Ready while output should be read."""

    def write(self, stream: int, data: bytes) -> None:
        """Take output of STDOUT or STDERR."""


# What never has to be waited for.
_ALWAYS = Latch()
_ALWAYS.set()


class OutputBudget:
    """Bytes that all captured outputs share."""

    def __init__(self, available_bytes: int) -> None:
        self._available_bytes = available_bytes
        self._lock = Lock()

    def take(self, wanted_bytes: int) -> int:
        """Take as many bytes as there are, up to ``wanted_bytes``; how many that is."""
        with self._lock:
            taken = min(self._available_bytes, wanted_bytes)
            self._available_bytes -= taken
            return taken

    def give_back(self, taken_bytes: int) -> None:
        """Let others take them."""
        with self._lock:
            self._available_bytes += taken_bytes


class CapturedOutput(Closing):
    """Keeps the beginning of each stream, as much as ``budget`` allows, until it is closed."""

    room = _ALWAYS

    def __init__(self, limit_bytes: int, budget: OutputBudget) -> None:
        self._limit_bytes = limit_bytes
        self._budget = budget
        self._taken_bytes = 0
        self._kept = {STDOUT: bytearray(), STDERR: bytearray()}
        self._truncated = {STDOUT: False, STDERR: False}

    def write(self, stream: int, data: bytes) -> None:
        """Keep what is within the limits, and drop the rest."""
        if self._truncated[stream]:
            return
        kept = self._kept[stream]
        fits = min(len(data), self._limit_bytes - len(kept))
        sure = min(fits, max(0, OUTPUT_SURE_BYTES - len(kept)))
        more = self._budget.take(fits - sure)
        self._taken_bytes += more
        kept += data[: sure + more]
        self._truncated[stream] = len(data) > sure + more

    def result(self, exit_status: ExecExit) -> ExecResult:
        """All that was kept, which this keeps no longer."""
        result = ExecResult(
            bytes(self._kept.pop(STDOUT)),
            bytes(self._kept.pop(STDERR)),
            self._truncated[STDOUT],
            self._truncated[STDERR],
            exit_status,
        )
        self._truncated = {STDOUT: True, STDERR: True}
        return result

    def close(self) -> None:
        """Give back to the budget what was taken."""
        self._budget.give_back(self._taken_bytes)


class QueuedOutput:
    """Puts output into the queue to a client, and stops reading while that is full."""

    def __init__(self, queue: PollableQueue[Reply]) -> None:
        self._queue = queue
        self.room = queue.room

    def write(self, stream: int, data: bytes) -> None:
        """Put it into the queue."""
        output = Output(data, stream == STDERR)
        self._queue.put(output, weight_bytes(output))
