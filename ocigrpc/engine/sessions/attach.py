"""Clients that are attached to a container's first process, any number of them at once."""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock

from ocigrpc.conmon.attach import Attachment
from ocigrpc.engine.containers.container import Container
from ocigrpc.engine.containers.status import ALIVE, guarded_state, require_state
from ocigrpc.engine.model.values import State
from ocigrpc.engine.sessions.messages import (
    Attached,
    AttachStart,
    CloseStdin,
    Inputs,
    Output,
    Reply,
    Stdin,
    TerminalSize,
    weight_bytes,
)
from ocigrpc.engine.sessions.queue import PollableQueue
from ocigrpc.engine.sessions.stream import produced
from ocigrpc.errors import LimitReached, PreconditionFailed
from ocigrpc.waiting import Deadline, Pollable, Waitable

# Output that waits for a slow client. One with more is disconnected, so that conmon, which
# waits for every client, never has to wait for it.
BACKLOG_LIMIT_BYTES = 4 << 20

# The same for all clients together: when there are many, less waits for each.
ALL_BACKLOGS_LIMIT_BYTES = 128 << 20

# What may wait for each of them, however many there are; and for one that the program waits for.
BACKLOG_SURE_BYTES = 256 << 10

# Beside that, what a program that waited for its client may leave in its pipes and in conmon's
# socket, which has to be kept: 64 KiB in each pipe, and 208 KiB in the socket, unless it has asked
# for larger ones.
BACKLOG_LEFT_BYTES = 512 << 10

_NOTHING = memoryview(b"")
_ATTACHABLE = (*ALIVE, State.UNKNOWN)


class AttachBacklogs:
    """The room for output that waits, which all attached clients share."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._clients = 0

    @contextmanager
    def client(self) -> Iterator[None]:
        """Count one more client in a ``with``."""
        with self._lock:
            self._clients += 1
        try:
            yield
        finally:
            with self._lock:
                self._clients -= 1

    @property
    def limit_bytes(self) -> int:
        """How much may wait for each of them now."""
        fair = ALL_BACKLOGS_LIMIT_BYTES // max(1, self._clients)
        return min(BACKLOG_LIMIT_BYTES, max(BACKLOG_SURE_BYTES, fair))

    @property
    def ended_limit_bytes(self) -> int:
        """The same for one that the program has waited for, once that has ended."""
        return max(self.limit_bytes, BACKLOG_SURE_BYTES + BACKLOG_LEFT_BYTES)


def attach(
    container: Container,
    start: AttachStart,
    inputs: Inputs,
    backlogs: AttachBacklogs,
    deadline: Deadline,
) -> Generator[Reply]:
    """Relay until the container has ended and its last byte is read.

    Raises the proto's errors of ``Attach``.
    """
    record = container.record

    def produce(queue: PollableQueue[Reply]) -> None:
        with (
            guarded_state(container, deadline, *_ATTACHABLE),
            Attachment(container.paths, terminal=record.terminal, deadline=deadline) as attachment,
        ):
            queue.put(Attached())
            with backlogs.client():
                session = _AttachSession(container, start, attachment, queue, backlogs)
                session.relay(inputs, deadline)

    require_state(container, deadline, *_ATTACHABLE)
    if start.stdin and not record.stdin:
        raise _not_possible(container, "STDIN_NOT_OPEN", "has no standard input")
    limit_bytes = BACKLOG_SURE_BYTES if start.block_timeout_s else BACKLOG_LIMIT_BYTES
    yield from produced(limit_bytes, produce, deadline)


@dataclass
class _AttachSession:
    """The relay between one client and a container.

    ``blocked`` is until when the program waits for the client, if it does now.
    """

    container: Container
    start: AttachStart
    attachment: Attachment
    queue: PollableQueue[Reply]
    backlogs: AttachBacklogs
    sizes: Sequence[TerminalSize] = ()
    pending: memoryview = _NOTHING
    blocked: Deadline | None = None

    def relay(self, inputs: Inputs | None, deadline: Deadline) -> None:
        """Relay input and output until the container's end."""
        if self.start.terminal_size is not None:
            self._resize(self.start.terminal_size)
        while True:
            watched = list(self._awaited_output())
            if self.pending:
                watched.append(self.attachment.writable)
            elif inputs is not None:
                watched.append(inputs.filled)
            if self.sizes:
                watched.append(self.attachment.resizable)
            limit_s = self.blocked.remaining_s() if self.blocked is not None else math.inf
            ready = deadline.wait(*watched, timeout_s=limit_s)
            if self.attachment.fileno() in ready and not self._receive():
                return
            if self.attachment.writable.fileno() in ready:
                self.pending = self.attachment.send(self.pending)
            if self.sizes and self.attachment.resizable.fileno() in ready:
                size, *self.sizes = self.sizes
                self.attachment.resize(size.rows, size.columns)
            if inputs is not None and inputs.filled in ready:
                inputs = self._take_input(inputs)

    def _awaited_output(self) -> Sequence[Pollable | Waitable]:
        """What there is to wait for until the next packet is to be received."""
        ended = self.container.ending.init_ended
        # conmon stops while nobody takes its packets, and the program with it. Once that has ended,
        # conmon must not be held up: it has to report how.
        if not self.start.block_timeout_s or self.queue.room.is_ready() or ended.is_set():
            self.blocked = None
            return [self.attachment]
        if self.blocked is None:
            self.blocked = Deadline(self.start.block_timeout_s)
        if not self.blocked.remaining_s():
            raise self._too_slow(BACKLOG_SURE_BYTES)
        return [self.queue.room, ended]

    def _receive(self) -> bool:
        """Pass on a packet; False at the end."""
        packet = self.attachment.receive()
        if packet is None:
            return True
        data, is_stderr = packet
        if not data:
            return False
        if self.start.stderr if is_stderr else self.start.stdout:
            limit_bytes = (
                self.backlogs.ended_limit_bytes
                if self.start.block_timeout_s
                else self.backlogs.limit_bytes
            )
            if self.queue.weight_bytes >= limit_bytes:
                raise self._too_slow(limit_bytes)
            output = Output(data, is_stderr)
            self.queue.put(output, weight_bytes(output))
        return True

    def _too_slow(self, limit_bytes: int) -> LimitReached:
        return LimitReached(
            f"{limit_bytes} bytes of output waited to be read",
            reason="ATTACH_TOO_SLOW",
            limit_bytes=limit_bytes,
            container_id=self.container.container_id,
        )

    def _take_input(self, inputs: Inputs) -> Inputs | None:
        """Handle one input; None when there will be no more of them."""
        message = inputs.take()
        match message:
            case Stdin(data) if self.start.stdin:
                # An empty packet would be the end of input.
                self.pending = memoryview(data)
            case TerminalSize():
                self._resize(message)
            case CloseStdin():
                self._close_stdin()
        return None if message is None and inputs.ended() else inputs

    def _resize(self, size: TerminalSize) -> None:
        if not self.container.record.terminal:
            raise _not_possible(self.container, "NO_TERMINAL", "has no terminal")
        # Of several in quick succession only the last one counts. Twice, since conmon passes
        # sizes on to itself by a pipe, and loses the second of two that it finds there.
        self.sizes = [size, size]

    def _close_stdin(self) -> None:
        if not (self.start.stdin and self.container.record.stdin_once):
            # conmon keeps it open, and would only stop reading from this client.
            raise _not_possible(
                self.container, "STDIN_STAYS_OPEN", "was not created with stdin_once"
            )
        self.attachment.end_input()


def _not_possible(container: Container, reason: str, what: str) -> PreconditionFailed:
    return PreconditionFailed(
        f"container {container.container_id!r} {what}",
        reason=reason,
        container_id=container.container_id,
    )
