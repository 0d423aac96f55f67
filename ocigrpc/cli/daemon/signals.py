"""The signals that ask the service to end or to do something, and those that it survives."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from queue import SimpleQueue
from types import FrameType

from ocigrpc.log import get_logger

log = get_logger()

# The signals by which people and init systems ask for the end.
_ENDING = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGQUIT})
# Those of which a second one ends the process at once.
_IMPATIENT = frozenset({signal.SIGTERM, signal.SIGINT})

_STDERR = 2

# How long an action that is under way may go on when the service ends.
_END_TIMEOUT_S = 1.0

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


class Signals:
    """What has been received; see :func:`handled_signals`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._actions: dict[int, Callable[[], None]] = {}
        self._kept: dict[int, bool] = {}
        # None when there will be no more.
        self._others: SimpleQueue[int | None] = SimpleQueue()
        self._ending: SimpleQueue[str] = SimpleQueue()
        self._had_terminal = os.isatty(_STDERR)

    def on(self, number: signal.Signals, action: Callable[[], None]) -> None:
        """Do something whenever this signal comes, after what others had done, beside the end.

        What it raises is logged. If the signal has been kept, it is done now.
        """
        with self._lock:
            self._actions[number] = action
            if self._kept.pop(number, False):
                self._others.put(number)

    def keep(self, number: signal.Signals) -> None:
        """Have this signal, if it comes, wait for its action."""
        with self._lock:
            self._kept[number] = False

    def wait_for_end(self) -> str:
        """The name of the first signal that asks for the end, once it has come."""
        return self._ending.get()

    def _listen(self, reader: int) -> None:
        """Sort the signals that are written to a pipe, until it is closed.

        Nothing else, so that no action can delay the end.
        """
        while number := int.from_bytes(os.read(reader, 1)):
            if number in _ENDING or (number == signal.SIGHUP and self._has_lost_terminal()):
                self._ending.put(_name(number))
            else:
                self._others.put(number)
        self._others.put(None)

    def _act(self) -> None:
        """Do what is to be done for the signals that don't ask for the end."""
        while number := self._others.get():
            with self._lock:
                action = self._actions.get(number)
                is_kept = action is None and number in self._kept
                if is_kept:
                    self._kept[number] = True
            if action:
                try:
                    action()
                except Exception:
                    log.error("signal.failed", signal=_name(number), exc_info=True)
            elif not is_kept:
                log.info("signal.ignored", signal=_name(number))

    def _has_lost_terminal(self) -> bool:
        """Whether the signal means that the terminal of the service has been closed."""
        return self._had_terminal and not os.isatty(_STDERR)


@contextmanager
def handled_signals() -> Iterator[Signals]:
    """Catch every signal that would end the process, and the work of its threads with it.

    One thread notes those that ask for the end, also when the main one hangs, and another does
    what :meth:`Signals.on` says, also when that hangs. A second SIGTERM or
    SIGINT ends the process at once with status 1. It installs handlers, and neither blocks nor
    ignores signals, since children, and so containers, would inherit that. For the main thread
    only.
    """
    with ExitStack() as undo:
        reader, writer = os.pipe2(os.O_CLOEXEC)
        undo.callback(os.close, reader)
        signals = Signals()
        listener = threading.Thread(target=signals._listen, args=(reader,), name="signals")
        actor = threading.Thread(target=signals._act, name="signal-actions", daemon=True)
        # An action that hangs must not delay the end.
        undo.callback(lambda: actor.join(_END_TIMEOUT_S))
        undo.callback(listener.join)
        # The listener reads the end of the pipe as no number.
        undo.callback(os.close, writer)
        os.set_blocking(writer, False)
        # The C handler itself writes to it. If the pipe is full there is enough to read.
        undo.callback(signal.set_wakeup_fd, signal.set_wakeup_fd(writer, warn_on_full_buffer=False))
        received: list[int] = []

        def count(number: int, _: FrameType | None) -> None:
            if number in _IMPATIENT:
                received.append(number)
            if len(received) > 1:
                os._exit(1)

        for number in signal.valid_signals() - _LEFT_ALONE:
            undo.callback(signal.signal, number, signal.signal(number, count))
        listener.start()
        actor.start()
        yield signals


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"SIGRTMIN+{number - signal.SIGRTMIN}"
