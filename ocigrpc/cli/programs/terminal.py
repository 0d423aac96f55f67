"""The terminal that this process is at: raw for a while, and its size."""

from __future__ import annotations

import os
import termios
import tty
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ocigrpc.v1.terminal_pb2 import TerminalSize

STDIN, STDOUT, STDERR = range(3)


@contextmanager
def raw(fd: int) -> Iterator[None]:
    """Pass each key on as it is; the terminal is as before at the end of the block."""
    before = termios.tcgetattr(fd)
    # Now, since waiting and flushing would lose what is typed ahead.
    tty.setraw(fd, termios.TCSANOW)
    try:
        yield
    finally:
        # It may be gone. Now, since output that nobody reads would never drain.
        with suppress(termios.error):
            termios.tcsetattr(fd, termios.TCSANOW, before)


def size() -> TerminalSize | None:
    """The size of the terminal; None without one."""
    from ocigrpc.v1.terminal_pb2 import TerminalSize

    for fd in (STDIN, STDOUT, STDERR):
        with suppress(OSError):
            columns, rows = os.get_terminal_size(fd)
            return TerminalSize(rows=rows, columns=columns)
    return None
