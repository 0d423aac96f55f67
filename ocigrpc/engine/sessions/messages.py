"""What goes to and fro while a client talks to a program: plain values in queues."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Thread
from typing import TypeAlias

from msgspec import Struct

from ocigrpc.engine.sessions.queue import PollableQueue
from ocigrpc.oci.exec import ExecProcess
from ocigrpc.waiting import Deadline

MESSAGE_BYTES = 1 << 16
"""About the most output that one message carries."""

_THING_BYTES = 256
"""What a thing takes besides its bytes: many empty ones must not count for nothing."""


class TerminalSize(Struct, frozen=True):
    """In characters."""

    rows: int
    columns: int


class ExecStart(Struct, frozen=True):
    """See ``ExecStart`` in the proto; ``timeout_s`` is infinite for no limit.

    ``output_limit_bytes`` is for a client that waits for the end, and of each stream.
    """

    container_id: str
    process: ExecProcess
    timeout_s: float
    stdin: bool = False
    terminal: bool = False
    terminal_size: TerminalSize | None = None
    keep_running: bool = False
    output_limit_bytes: int = 0


class AttachStart(Struct, frozen=True):
    """See ``AttachStart`` in the proto."""

    container_id: str
    stdin: bool = False
    stdout: bool = False
    stderr: bool = False
    terminal_size: TerminalSize | None = None


class Stdin(Struct, frozen=True):
    """Bytes for standard input."""

    data: bytes


class CloseStdin(Struct, frozen=True):
    """Nothing more comes for standard input."""


Input: TypeAlias = Stdin | TerminalSize | CloseStdin
Inputs: TypeAlias = PollableQueue[Input]


class Output(Struct, frozen=True):
    """Bytes that were written to standard output, or to standard error."""

    data: bytes
    is_stderr: bool = False


class ExecExit(Struct, frozen=True):
    """How a program ended that was run in a container."""

    exit_code: int
    signal: int | None


class ExecResult(Struct, frozen=True):
    """All that came of a program: see ``ExecSyncResponse`` in the proto."""

    stdout: bytes
    stderr: bytes
    stdout_truncated: bool
    stderr_truncated: bool
    exit: ExecExit


class Attached(Struct, frozen=True):
    """What is written from now on will be received."""


Answer: TypeAlias = Output | Attached | ExecExit


def weight_bytes(thing: Input | Answer) -> int:
    """How much a thing counts in a queue."""
    return _THING_BYTES + (len(thing.data) if isinstance(thing, Stdin | Output) else 0)


@contextmanager
def answers(
    limit_bytes: int, produce: Callable[[PollableQueue[Answer]], None]
) -> Iterator[PollableQueue[Answer]]:
    """What ``produce``, in a thread of its own, puts into the queue that it is given.

    A thread, since whoever passes the answers on is held up by a client that does not
    read, and must not hold up the time-out or the container. Ends when the thread has;
    what it raises, the queue does.
    """
    queue = PollableQueue[Answer](limit_bytes)

    def run() -> None:
        try:
            produce(queue)
        except BaseException as error:
            queue.finish(error)
        else:
            queue.finish()

    thread = Thread(target=run, name="stream", daemon=True)
    thread.start()
    try:
        yield queue
    finally:
        queue.close()
        thread.join()


@contextmanager
def leaving(deadline: Deadline) -> Iterator[None]:
    """Cancel ``deadline`` when whoever takes the answers leaves before the last one."""
    try:
        yield
    except GeneratorExit:
        deadline.cancel()
        raise


def joined(queue: PollableQueue[Answer]) -> Iterator[Answer]:
    """The answers, with output that waits already joined to fewer and larger ones."""
    held: list[bytes] = []
    is_stderr, size = False, 0
    for answer in queue.each():
        fits = isinstance(answer, Output) and answer.is_stderr == is_stderr
        if held and not (fits and size < MESSAGE_BYTES):
            yield Output(b"".join(held), is_stderr)
            held, size = [], 0
        if isinstance(answer, Output):
            is_stderr = answer.is_stderr
            held.append(answer.data)
            size += len(answer.data)
        else:
            yield answer
        if held and queue.is_empty():
            yield Output(b"".join(held), is_stderr)
            held, size = [], 0
