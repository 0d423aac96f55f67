"""The signals that ask the service to end, and those that it survives."""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from types import FrameType

from ocigrpc.log import get_logger

log = get_logger()

# The signals by which people and init systems ask for the end.
_ENDING = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP})
# Those of which a second one ends the process at once. Not any two of the above do, since an
# init system may send SIGHUP together with SIGTERM.
_IMPATIENT = frozenset({signal.SIGTERM, signal.SIGINT})

_LEFT_ALONE = frozenset(
    {
        # They can't be caught;
        *(signal.SIGKILL, signal.SIGSTOP),
        # by default they end no process;
        *(signal.SIGCHLD, signal.SIGCONT, signal.SIGURG, signal.SIGWINCH),
        *(signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU),
        # Python ignores them, since the calls fail with an error instead;
        *(signal.SIGPIPE, signal.SIGXFSZ),
        # they show that the process is broken.
        *(signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGABRT),
        *(signal.SIGTRAP, signal.SIGSYS),
    }
)


@contextmanager
def termination() -> Iterator[Callable[[], str]]:
    """Catch every signal that would end the process, and the work of its threads with it.

    The block gets a function that waits for the first signal which asks for the end, and returns
    its name; it logs all others. A second SIGTERM or SIGINT ends the process at once with status
    1. It installs handlers, and neither blocks nor ignores signals, since children, and so
    containers, would inherit that. For the main thread only.
    """
    with ExitStack() as undo:
        reader, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        undo.callback(os.close, reader)
        undo.callback(os.close, writer)
        # The C handler itself writes to it: a poll that is just about to begin could miss a
        # handler that only sets a flag. If the pipe is full there is enough to read.
        undo.callback(signal.set_wakeup_fd, signal.set_wakeup_fd(writer, warn_on_full_buffer=False))
        received: list[int] = []

        def count(number: int, _: FrameType | None) -> None:
            if number in _IMPATIENT:
                received.append(number)
            if len(received) > 1:
                os._exit(1)

        for number in signal.valid_signals() - _LEFT_ALONE:
            undo.callback(signal.signal, number, signal.signal(number, count))
        yield partial(_wait, reader)


def _wait(reader: int) -> str:
    poller = select.poll()
    poller.register(reader, select.POLLIN)
    while True:
        poller.poll()
        number = os.read(reader, 1)[0]
        if number in _ENDING:
            return _name(number)
        log.warning("signal.ignored", signal=_name(number))


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"SIGRTMIN+{number - signal.SIGRTMIN}"
