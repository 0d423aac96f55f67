"""How the service is asked to end."""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import FrameType


class Termination:
    """The first SIGTERM or SIGINT, as something to wait for."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def wait(self) -> str:
        """The name of the signal, as soon as it has come."""
        poller = select.poll()
        poller.register(self._descriptor, select.POLLIN)
        poller.poll()
        return signal.Signals(os.read(self._descriptor, 1)[0]).name


@contextmanager
def termination() -> Iterator[Termination]:
    """Catch SIGTERM and SIGINT; the second of them ends the process at once with status 1.

    Handlers rather than a blocked signal mask: children would inherit the mask, and with
    it every container. For the main thread only.
    """
    with ExitStack() as undo:
        reader, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        undo.callback(os.close, reader)
        undo.callback(os.close, writer)
        # Written by the C handler itself: one that only sets a flag can be missed by a
        # poll that is just about to begin.
        undo.callback(signal.set_wakeup_fd, signal.set_wakeup_fd(writer))
        received: list[int] = []

        def count(number: int, _: FrameType | None) -> None:
            received.append(number)
            if len(received) > 1:
                os._exit(1)

        for number in (signal.SIGTERM, signal.SIGINT):
            undo.callback(signal.signal, number, signal.signal(number, count))
        yield Termination(reader)
