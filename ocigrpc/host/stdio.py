"""Both sides of a child's standard streams: three pipes, or one terminal."""

from __future__ import annotations

import errno
import fcntl
import os
import select
import struct
import termios
import tty
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from types import TracebackType
from typing import Self

from ocigrpc.errors import HostFailed

STDOUT, STDERR = 1, 2

END_OF_FILE = b"\x04"
"""What Ctrl-D types; termios(3), VEOF."""

_CHUNK_BYTES = 1 << 16

_PTS_MAJORS = range(136, 144)
# Documentation/admin-guide/devices.txt of the kernel: UNIX98_PTY_SLAVE_MAJOR.


class Stdio:
    """To be used in a ``with``; ``theirs`` goes to a ``Child``, and then :meth:`let_go`.

    Our ends never block. Raises ``HostFailed`` when there are no descriptors left.
    """

    def __init__(self, *, stdin: bool, terminal: bool) -> None:
        self.terminal = terminal
        self._stdin_wanted = stdin
        self.outputs: dict[int, int] = {}
        """From descriptors that may still say something to STDOUT or STDERR."""

    def __enter__(self) -> Self:
        try:
            with ExitStack() as stack:
                self._theirs = stack.enter_context(ExitStack())
                self._writable = stack.enter_context(select.epoll())
                self._stdin = stack.enter_context(ExitStack())
                self._input = -1
                if self.terminal:
                    self._open_terminal(stack)
                else:
                    self._open_pipes(stack)
                if self._input >= 0:
                    self._writable.register(self._input, select.EPOLLOUT)
                self._stack = stack.pop_all()
        except OSError as error:
            raise HostFailed(
                f"can't open standard streams: {error.strerror}", error=error.strerror
            ) from error
        return self

    def _open_terminal(self, stack: ExitStack) -> None:
        master, slave = os.openpty()
        stack.callback(os.close, master)
        self._theirs.callback(os.close, slave)
        # The runtime does so too, but nothing of ours must be echoed until then: the
        # terminal that the program sees is another one, in the container.
        tty.setraw(slave)
        attributes = termios.tcgetattr(slave)
        # runc turns output processing on again, which must find nothing to do.
        attributes[1] = 0
        termios.tcsetattr(slave, termios.TCSANOW, attributes)
        os.set_blocking(master, False)
        self.outputs[master] = STDOUT
        self.theirs = (slave, slave, slave)
        self._master = master
        if self._stdin_wanted:
            self._input = master

    def _open_pipes(self, stack: ExitStack) -> None:
        if self._stdin_wanted:
            reading, self._input = os.pipe()
            os.set_blocking(self._input, False)
            self._stdin.callback(os.close, self._input)
        else:
            reading = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
        self._theirs.callback(os.close, reading)
        self.theirs = (reading, self._open_output(stack, STDOUT), self._open_output(stack, STDERR))

    def _open_output(self, stack: ExitStack, stream: int) -> int:
        reading, writing = os.pipe()
        stack.callback(os.close, reading)
        self._theirs.callback(os.close, writing)
        os.set_blocking(reading, False)
        self.outputs[reading] = stream
        return writing

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
        if self.terminal:
            _set_size(self._master, rows, columns)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()


def resize_of(pid: int, rows: int, columns: int) -> None:
    """Set the size of the terminal that a process has for standard input, if it has one.

    crun 1.8 passes the news of a new size on, but not the size.
    """
    with suppress(OSError), _terminal_of(pid) as fd:
        _set_size(fd, rows, columns)


def restore_newlines(pid: int) -> None:
    """Let the terminal of a process write its lines as terminals do from their birth.

    runc takes ONLCR from it, for the one that it is started on itself to do the work; but
    that one does not know when a program wants its bytes unchanged.
    """
    with suppress(OSError, termios.error), _terminal_of(pid) as fd:
        attributes = termios.tcgetattr(fd)
        attributes[1] |= termios.ONLCR
        termios.tcsetattr(fd, termios.TCSANOW, attributes)


@contextmanager
def _terminal_of(pid: int) -> Iterator[int]:
    """The terminal of a process, for no longer than needed: while it is open, it has no end.

    Raises ``OSError``.
    """
    path = f"/proc/{pid}/fd/0"
    # Only opened if it is a pseudoterminal: opening may do something to other devices.
    if os.major(os.stat(path).st_rdev) not in _PTS_MAJORS:
        raise OSError(errno.ENOTTY, os.strerror(errno.ENOTTY))
    fd = os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)


def _set_size(fd: int, rows: int, columns: int) -> None:
    with suppress(OSError):
        fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("4H", rows, columns, 0, 0))
