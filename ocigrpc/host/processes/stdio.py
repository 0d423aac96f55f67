"""Our side of a program's standard streams: three pipes, or one terminal."""

from __future__ import annotations

import fcntl
import os
import select
import struct
import termios
from collections.abc import Collection
from contextlib import ExitStack, suppress

from ocigrpc.closing import ClosingStack
from ocigrpc.failing import host_failing
from ocigrpc.host.processes.console import Console
from ocigrpc.host.processes.null_device import open_null
from ocigrpc.waiting import EventFd

# Streams; the third one is the output of the runtime itself.
STDOUT, STDERR, RUNTIME = 1, 2, 3
# The character of Ctrl-D; termios(3), VEOF.
END_OF_FILE = b"\x04"

_CHUNK_BYTES = 1 << 16


class Stdio(ClosingStack):
    """Our ends, for a ``with``; ``theirs`` are for a ``Child``, and then :meth:`close_theirs`.

    With a ``console``, the terminal comes later; see :meth:`take_terminal`. Then ``theirs`` are
    for the runtime that sends it, whose output is stream ``RUNTIME``. With ``detached`` there is
    ``started``, for the child to set, and without a terminal all of ``theirs`` are a null device:
    the program has them as well, and may write to them when nobody is there to read.

    Our ends never block. Raises ``HostFailed`` when no more descriptors can be opened.
    """

    def __init__(
        self, *, stdin: bool = False, detached: bool = False, console: Console | None = None
    ) -> None:
        self._stdin_wanted = stdin
        self._console = console
        self._size = (0, 0)
        self._terminal = self._input = -1
        self.started: EventFd | None = None
        self.outputs: dict[int, int] = {}
        """STDOUT, STDERR or RUNTIME, by the descriptor that may still have output of it."""
        with host_failing("open standard streams"), ExitStack() as stack:
            self._theirs = stack.enter_context(ExitStack())
            self.writable = stack.enter_context(select.epoll())
            """To be polled for reading: it is readable when :meth:`write` would not block."""
            self._stdin = stack.enter_context(ExitStack())
            if detached:
                self.started = stack.enter_context(EventFd())
            if console is not None:
                null = self._open_null()
                self.theirs = (null, null, self._open_output(stack, RUNTIME))
            elif detached:
                null = self._open_null()
                self.theirs = (null, null, null)
            else:
                self._open_pipes(stack)
            if self._input >= 0:
                self.writable.register(self._input, select.EPOLLOUT)
            self._stack = stack.pop_all()

    def _open_pipes(self, stack: ExitStack) -> None:
        if self._stdin_wanted:
            reading, self._input = os.pipe()
            os.set_blocking(self._input, False)
            self._stdin.callback(os.close, self._input)
            self._theirs.callback(os.close, reading)
        else:
            reading = self._open_null()
        self.theirs = (reading, self._open_output(stack, STDOUT), self._open_output(stack, STDERR))

    def _open_null(self) -> int:
        null = open_null()
        self._theirs.callback(os.close, null)
        return null

    def _open_output(self, stack: ExitStack, stream: int) -> int:
        reading, writing = os.pipe()
        stack.callback(os.close, reading)
        self._theirs.callback(os.close, writing)
        os.set_blocking(reading, False)
        self.outputs[reading] = stream
        return writing

    def pipes(self) -> Collection[int]:
        """Those of ``outputs`` that are the program's own pipes."""
        return [fd for fd, stream in self.outputs.items() if stream in (STDOUT, STDERR)]

    @property
    def terminal(self) -> bool:
        """Whether it is a terminal, or will be."""
        return self._console is not None

    @property
    def console_fd(self) -> int | None:
        """What to poll until the terminal has come; None if none is expected."""
        if self._console is None or self._console.over:
            return None
        return self._console.fileno()

    def take_terminal(self) -> None:
        """Take the terminal if it has come; see ``console_fd``."""
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
            self.writable.register(terminal, select.EPOLLOUT)

    def close_theirs(self) -> None:
        """Close the child's ends, which it has inherited: otherwise there would be no EOF."""
        self._theirs.close()

    def read(self, fd: int) -> bytes | None:
        """Output of one of ``outputs``; None if there is none now, empty at its end."""
        try:
            chunk = os.read(fd, _CHUNK_BYTES)
        except BlockingIOError:
            return None
        except OSError:
            # EIO: no process has the other side of the terminal open any more.
            chunk = b""
        if not chunk:
            del self.outputs[fd]
        return chunk

    @property
    def takes_input(self) -> bool:
        """Whether there is a standard input that neither side has closed."""
        return self._input >= 0

    def write(self, data: memoryview) -> memoryview:
        """Write to standard input; the rest of ``data``, empty once it has no reader."""
        try:
            return data[os.write(self._input, data) :]
        except BlockingIOError:
            return data
        except OSError:
            self.close_stdin()
            return data[:0]

    def close_stdin(self) -> None:
        """Write nothing more; with pipes, the child gets the end of its input."""
        if self.takes_input:
            self.writable.unregister(self._input)
            self._input = -1
            self._stdin.close()

    def resize(self, rows: int, columns: int) -> None:
        """Set the size of the terminal, if there is one; ioctl_tty(2)."""
        self._size = (rows, columns)
        if self._terminal >= 0 and (rows or columns):
            with suppress(OSError):
                size = struct.pack("4H", rows, columns, 0, 0)
                fcntl.ioctl(self._terminal, termios.TIOCSWINSZ, size)

    def detach_outputs(self) -> list[int]:
        """Duplicates of all ``outputs`` for the caller to close; here they are read no more."""
        kept = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3) for fd in self.outputs]
        self.outputs.clear()
        return kept

    def waiting_bytes(self, fd: int) -> int:
        """How many bytes one of ``outputs`` has now."""
        (count,) = struct.unpack("i", fcntl.ioctl(fd, termios.FIONREAD, bytes(4)))
        return int(count)
