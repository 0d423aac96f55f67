"""Clients that talk to a container's first process, any number of them at once."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

from ocigrpc.conmon.attach import Attachment
from ocigrpc.engine.containers.container import Container
from ocigrpc.engine.containers.registry import ContainerRegistry
from ocigrpc.engine.containers.status import ALIVE, guarded_state, require_state
from ocigrpc.engine.model.values import State
from ocigrpc.engine.sessions.messages import (
    Answer,
    Attached,
    AttachStart,
    CloseStdin,
    Inputs,
    Output,
    Stdin,
    TerminalSize,
    answers,
    joined,
    leaving,
    weight_bytes,
)
from ocigrpc.engine.sessions.queue import PollableQueue
from ocigrpc.errors import LimitReached, PreconditionFailed
from ocigrpc.waiting import Deadline, Pollable, Waitable

BACKLOG_LIMIT_BYTES = 4 << 20
"""Output that waits for a slow client; one with more is dropped, so that conmon, which
waits for nobody else, never has to wait for it."""

ALL_BACKLOGS_LIMIT_BYTES = 128 << 20
"""The same for all clients together: when there are many, less waits for each."""

BACKLOG_SURE_BYTES = 256 << 10
"""What may wait for each of them, however many there are."""

_MAY_ATTACH = (*ALIVE, State.UNKNOWN)


class Attaching:
    """Attaches clients to the containers of a registry."""

    def __init__(self, registry: ContainerRegistry) -> None:
        self._registry = registry
        self._shares = _Shares()

    def attach(self, start: AttachStart, inputs: Inputs, deadline: Deadline) -> Iterator[Answer]:
        """Talk to the container until it has ended and its last byte is read.

        Raises what ``Attach`` in the proto says.
        """
        container = self._registry.get(start.container_id)
        paths = container.paths

        def produce(queue: PollableQueue[Answer]) -> None:
            with (
                guarded_state(container, deadline, *_MAY_ATTACH),
                Attachment(
                    paths, terminal=container.record.terminal, deadline=deadline
                ) as attachment,
            ):
                queue.put(Attached())
                with self._shares.shared():
                    _AttachSession(container, start, attachment, queue, self._shares).go(
                        inputs, deadline
                    )

        require_state(container, deadline, *_MAY_ATTACH)
        if start.stdin and not container.record.stdin:
            raise _not_possible(container, "STDIN_NOT_OPEN", "has no standard input")
        with answers(BACKLOG_LIMIT_BYTES, produce) as queue, leaving(deadline):
            yield from joined(queue)


class _Shares:
    """What the clients that there are have together for output that waits."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._clients = 0

    @contextmanager
    def shared(self) -> Iterator[None]:
        """Count one more client in a ``with``."""
        with self._lock:
            self._clients += 1
        try:
            yield
        finally:
            with self._lock:
                self._clients -= 1

    @property
    def each_bytes(self) -> int:
        """How much may wait for each of them."""
        fair = ALL_BACKLOGS_LIMIT_BYTES // max(1, self._clients)
        return min(BACKLOG_LIMIT_BYTES, max(BACKLOG_SURE_BYTES, fair))


class _AttachSession:
    """One client's talk with a container."""

    def __init__(
        self,
        container: Container,
        start: AttachStart,
        attachment: Attachment,
        queue: PollableQueue[Answer],
        shares: _Shares,
    ) -> None:
        self._shares = shares
        self._container = container
        self._sizes: list[TerminalSize] = []
        self._start = start
        self._attachment = attachment
        self._queue = queue
        self._pending = memoryview(b"")

    def go(self, inputs: Inputs | None, deadline: Deadline) -> None:
        """Pass on both ways until the container's end."""
        if self._start.terminal_size is not None:
            self._resize(self._start.terminal_size)
        while True:
            watched: list[Pollable | Waitable] = [self._attachment]
            if self._pending:
                watched.append(self._attachment.writable)
            elif inputs is not None:
                watched.append(inputs.filled)
            if self._sizes:
                watched.append(self._attachment.resizable)
            ready = deadline.wait(*watched, timeout_s=math.inf)
            if self._attachment.fileno() in ready and not self._receive():
                return
            if self._attachment.writable.fileno() in ready:
                self._pending = self._attachment.send(self._pending)
            if self._sizes and self._attachment.resizable.fileno() in ready:
                size = self._sizes.pop()
                self._attachment.resize(size.rows, size.columns)
            if inputs is not None and inputs.filled in ready:
                inputs = self._listen(inputs)

    def _receive(self) -> bool:
        """Pass on a packet; false at the end."""
        packet = self._attachment.receive()
        if packet is None:
            return True
        data, is_stderr = packet
        if not data:
            return False
        if self._start.stderr if is_stderr else self._start.stdout:
            limit_bytes = self._shares.each_bytes
            if self._queue.weight_bytes >= limit_bytes:
                raise LimitReached(
                    f"{limit_bytes} bytes of output waited to be read",
                    reason="ATTACH_TOO_SLOW",
                    limit_bytes=limit_bytes,
                    container_id=self._container.container_id,
                )
            output = Output(data, is_stderr)
            self._queue.put(output, weight_bytes(output))
        return True

    def _listen(self, inputs: Inputs) -> Inputs | None:
        """Do what one input says; None when there will be no more of them."""
        thing = inputs.take()
        match thing:
            case Stdin(data) if self._start.stdin:
                # An empty packet would be the end of input.
                self._pending = memoryview(data)
            case TerminalSize():
                self._resize(thing)
            case CloseStdin():
                self._close_stdin()
        return None if thing is None and inputs.ended() else inputs

    def _resize(self, size: TerminalSize) -> None:
        if not self._container.record.terminal:
            raise _not_possible(self._container, "NO_TERMINAL", "has no terminal")
        # Of several in quick succession only the last one counts. Twice, since conmon passes
        # sizes on to itself by a pipe, and of two that it finds there loses the second.
        self._sizes = [size, size]

    def _close_stdin(self) -> None:
        if not (self._start.stdin and self._container.record.stdin_once):
            # conmon was told to leave it open, and would only stop listening to us.
            raise _not_possible(
                self._container, "STDIN_STAYS_OPEN", "was not created with stdin_once"
            )
        self._attachment.end_input()


def _not_possible(container: Container, reason: str, what: str) -> PreconditionFailed:
    return PreconditionFailed(
        f"container {container.container_id!r} {what}",
        reason=reason,
        container_id=container.container_id,
    )
