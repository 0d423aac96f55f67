"""How the service is asked to end, and what else it lives through."""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import FrameType

from ocigrpc.log import get_logger

log = get_logger()

_ENDING = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP})
"""What people and init systems send for it."""

_IMPATIENT = frozenset({signal.SIGTERM, signal.SIGINT})
"""Those of which a second one does not wait any more. An init system may send SIGHUP besides
SIGTERM, so that not any two will do."""

_LEFT_ALONE = frozenset(
    {
        # Nobody can catch them;
        *(signal.SIGKILL, signal.SIGSTOP),
        # they kill nobody unless they are asked to,
        *(signal.SIGCHLD, signal.SIGCONT, signal.SIGURG, signal.SIGWINCH),
        *(signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU),
        # Python ignores them already, for the calls that fail then say so,
        *(signal.SIGPIPE, signal.SIGXFSZ),
        # or the process is broken.
        *(signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGABRT),
        *(signal.SIGTRAP, signal.SIGSYS),
    }
)


class Termination:
    """The first signal that asks for the end, as something to wait for."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def wait(self) -> str:
        """The name of the signal, as soon as it has come. Others are logged, and no more."""
        poller = select.poll()
        poller.register(self._descriptor, select.POLLIN)
        while True:
            poller.poll()
            number = os.read(self._descriptor, 1)[0]
            if number in _ENDING:
                return signal.Signals(number).name
            log.warning("signal.ignored", signal=_name(number))


@contextmanager
def termination() -> Iterator[Termination]:
    """Catch every signal that would end the process, and the work of its threads with it.

    A second SIGTERM or SIGINT ends the process at once with status 1. Handlers rather than a
    blocked signal mask, or signals that are ignored: children would inherit those, and with
    them every container. For the main thread only.
    """
    with ExitStack() as undo:
        reader, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        undo.callback(os.close, reader)
        undo.callback(os.close, writer)
        # Written by the C handler itself: one that only sets a flag can be missed by a
        # poll that is just about to begin. When it is full there is enough to read.
        undo.callback(signal.set_wakeup_fd, signal.set_wakeup_fd(writer, warn_on_full_buffer=False))
        received: list[int] = []

        def count(number: int, _: FrameType | None) -> None:
            if number in _IMPATIENT:
                received.append(number)
            if len(received) > 1:
                os._exit(1)

        for number in signal.valid_signals() - _LEFT_ALONE:
            undo.callback(signal.signal, number, signal.signal(number, count))
        yield Termination(reader)


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"SIGRTMIN+{number - signal.SIGRTMIN}"
