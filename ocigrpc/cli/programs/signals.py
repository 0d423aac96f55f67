"""The signals that this process gets while it runs a program elsewhere."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Self

# What ends a program that does not expect it. SIGTSTP and the like stop this process as ever.
_ENDING = (
    signal.SIGHUP,
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGTERM,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGALRM,
    *range(signal.SIGRTMIN, signal.SIGRTMAX + 1),
)


class Interrupted(Exception):
    """A signal asks this process to end."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class Signals:
    """In a ``with``: signals raise ``Interrupted`` in the main thread, or are passed on."""

    def __init__(self) -> None:
        self._passes = False
        self._ignores = False

    def __enter__(self) -> Self:
        # What the caller ignores, as nohup(1) does, stays so.
        self._before = {
            number: before
            for number in (*_ENDING, signal.SIGWINCH)
            if (before := signal.getsignal(number)) is not signal.SIG_IGN
        }
        for number in self._before:
            signal.signal(number, self._handle)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for number, before in self._before.items():
            # When they are ignored, this process is ending with a status that is decided.
            signal.signal(number, signal.SIG_IGN if self._ignores else before)

    @contextmanager
    def passed_to(self, fd: int) -> Iterator[None]:
        """Write the number of each signal as a byte instead; also of SIGWINCH.

        At once, whatever the main thread does. ``fd`` must not block.
        """
        before = signal.set_wakeup_fd(fd, warn_on_full_buffer=False)
        self._passes = True
        try:
            yield
        finally:
            self._passes = False
            signal.set_wakeup_fd(before)

    def ignore(self) -> None:
        """Ignore all signals that follow, to the end of this process."""
        self._ignores = True

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if not (self._passes or self._ignores) and number != signal.SIGWINCH:
            raise Interrupted(number)


def leave(number: int) -> None:
    """Raise ``Interrupted``: what is done with a signal that is not for a program."""
    raise Interrupted(number)
