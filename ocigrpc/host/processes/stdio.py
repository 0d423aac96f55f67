"""Our side of a program's standard streams: three pipes, or one terminal."""

from __future__ import annotations

import fcntl
import os
import select
import struct
import termios
from contextlib import ExitStack, suppress
from typing import Self

from ocigrpc.closing import Closing
from ocigrpc.errors import host_failing
from ocigrpc.host.processes.console import Console

STDOUT, STDERR, RUNTIME = 1, 2, 3
"""Streams: the third one is what a runtime says itself."""

END_OF_FILE = b"\x04"
"""What Ctrl-D types; termios(3), VEOF."""

_CHUNK_BYTES = 1 << 16


class Stdio(Closing):
    """To be used in a ``with``; ``theirs`` goes to a ``Child``, and then :meth:`let_go`.

    With a ``console``, a terminal comes there later on: see :meth:`arrive`. Then ``theirs``
    are for the one that brings it, and what that says is of stream ``RUNTIME``.

    Our ends never block. Raises ``HostFailed`` when there are no descriptors left.
    """

    def __init__(self, *, stdin: bool, console: Console | None = None) -> None:
        self._stdin_wanted = stdin
        self._console = console
        self._size = (0, 0)
        self._terminal = -1
        self.outputs: dict[int, int] = {}
        """From descriptors that may still say something to STDOUT, STDERR or RUNTIME."""

    def __enter__(self) -> Self:
        with host_failing("open standard streams"), ExitStack() as stack:
            self._theirs = stack.enter_context(ExitStack())
            self._writable = stack.enter_context(select.epoll())
            self._stdin = stack.enter_context(ExitStack())
            self._input = -1
            if self._console is not None:
                null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
                self._theirs.callback(os.close, null)
                self.theirs = (null, null, self._open_output(stack, RUNTIME))
            else:
                self._open_pipes(stack)
            if self._input >= 0:
                self._writable.register(self._input, select.EPOLLOUT)
            self._stack = stack.pop_all()
        return self

    def _open_pipes(self, stack: ExitStack) -> None:
        if self._stdin_wanted:
            reading, self._input = os.pipe()
            os.set_blocking(self._input, False)
            self._stdin.callback(os.close, self._input)
        else:
            reading = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        self._theirs.callback(os.close, reading)
        self.theirs = (reading, self._open_output(stack, STDOUT), self._open_output(stack, STDERR))

    def _open_output(self, stack: ExitStack, stream: int) -> int:
        reading, writing = os.pipe()
        stack.callback(os.close, reading)
        self._theirs.callback(os.close, writing)
        os.set_blocking(reading, False)
        self.outputs[reading] = stream
        return writing

    @property
    def terminal(self) -> bool:
        """Whether it is a terminal, or will be."""
        return self._console is not None

    @property
    def awaited(self) -> int | None:
        """What to poll for until the terminal is there; None when nothing is to come."""
        if self._console is None or self._console.over:
            return None
        return self._console.fileno()

    def arrive(self) -> None:
        """Take the terminal, if it is there now; see ``awaited``."""
        assert self._console is not None
        terminal = self._console.take()
        if terminal is None:
            return
        self._stack.callback(os.close, terminal)
        self._terminal = terminal
        os.set_blocking(terminal, False)
        self.resize(*self._size)
        self.outputs[terminal] = STDOUT
        if self._stdin_wanted:
            self._input = terminal
            self._writable.register(terminal, select.EPOLLOUT)

    def let_go(self) -> None:
        """Close the child's ends, which it has now: else we would never see it close them."""
        self._theirs.close()

    def read(self, fd: int) -> bytes | None:
        """What one of ``outputs`` has to say; None if nothing now, empty at its end."""
        try:
            chunk = os.read(fd, _CHUNK_BYTES)
        except BlockingIOError:
            return None
        except OSError:
            # EIO: nobody holds the other side of the terminal any more.
            chunk = b""
        if not chunk:
            del self.outputs[fd]
        return chunk

    @property
    def takes_input(self) -> bool:
        """Whether there is a standard input that has not been closed by either side."""
        return self._input >= 0

    @property
    def writable(self) -> select.epoll:
        """To be polled for reading: is so when :meth:`write` would do something."""
        return self._writable

    def write(self, data: memoryview) -> memoryview:
        """Write to standard input; what is left of ``data``, nothing if nobody reads any more."""
        try:
            return data[os.write(self._input, data) :]
        except BlockingIOError:
            return data
        except OSError:
            self.close_stdin()
            return data[:0]

    def close_stdin(self) -> None:
        """Write nothing more; with pipes, let the child see the end."""
        if self.takes_input:
            self._writable.unregister(self._input)
            self._input = -1
            self._stdin.close()

    def resize(self, rows: int, columns: int) -> None:
        """Set the size of the terminal; nothing without one. See ioctl_tty(2)."""
        self._size = (rows, columns)
        if self._terminal >= 0 and (rows or columns):
            with suppress(OSError):
                size = struct.pack("4H", rows, columns, 0, 0)
                fcntl.ioctl(self._terminal, termios.TIOCSWINSZ, size)

    def keep_outputs(self) -> list[int]:
        """Descriptors of the caller's own for all ``outputs``, which end here with that."""
        kept = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3) for fd in self.outputs]
        self.outputs.clear()
        return kept

    def waiting_bytes(self, fd: int) -> int:
        """How much one of ``outputs`` has to say now."""
        (count,) = struct.unpack("i", fcntl.ioctl(fd, termios.FIONREAD, bytes(4)))
        return int(count)

    def close(self) -> None:
        """Close our ends."""
        self._stack.close()
