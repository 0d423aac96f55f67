"""What clients and programs exchange: plain values that are passed on in queues."""

from __future__ import annotations

from typing import TypeAlias

from msgspec import Struct

from ocigrpc.engine.sessions.queue import PollableQueue
from ocigrpc.oci.exec import ExecProcess

# What a message weighs besides its bytes, so that many empty ones are bounded, too.
_OVERHEAD_BYTES = 256


class TerminalSize(Struct, frozen=True):
    """In characters."""

    rows: int
    columns: int


class ExecStart(Struct, frozen=True):
    """See ``ExecStart`` in the proto; ``timeout_s`` is infinite for no limit.

    ``output_limit_bytes`` is that of each stream, for a client that waits for the end. One to
    ``detach`` from is to be kept running as well.
    """

    container_id: str
    process: ExecProcess
    timeout_s: float
    stdin: bool = False
    terminal: bool = False
    terminal_size: TerminalSize | None = None
    keep_running: bool = False
    detach: bool = False
    output_limit_bytes: int = 0


class AttachStart(Struct, frozen=True):
    """See ``AttachStart`` in the proto; ``block_timeout_s`` is 0 if the program never waits."""

    container_id: str
    stdin: bool = False
    stdout: bool = False
    stderr: bool = False
    terminal_size: TerminalSize | None = None
    block_timeout_s: float = 0.0


class Stdin(Struct, frozen=True):
    """Bytes for standard input."""

    data: bytes


class CloseStdin(Struct, frozen=True):
    """The end of standard input."""


Input: TypeAlias = Stdin | TerminalSize | CloseStdin
Inputs: TypeAlias = PollableQueue[Input]


class Output(Struct, frozen=True):
    """Bytes that were written to standard output, or to standard error."""

    data: bytes
    is_stderr: bool = False


class ExecExit(Struct, frozen=True):
    """How a program that was run in a container ended."""

    exit_code: int
    signal: int | None


class ExecStarted(Struct, frozen=True):
    """A program that runs on without its client, by its process id on the host."""

    pid: int


class ExecResult(Struct, frozen=True):
    """The output and the end of a program: see ``ExecSyncResponse`` in the proto."""

    stdout: bytes
    stderr: bytes
    stdout_truncated: bool
    stderr_truncated: bool
    exit: ExecExit


class Attached(Struct, frozen=True):
    """All output from here on will be received."""


Reply: TypeAlias = Output | Attached | ExecStarted | ExecExit


def weight_bytes(message: Input | Reply) -> int:
    """How much a message weighs in a queue."""
    return _OVERHEAD_BYTES + (len(message.data) if isinstance(message, Stdin | Output) else 0)
