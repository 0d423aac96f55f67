"""conmon's control FIFO, to which one line is written for each thing that it is to do.

conmon before 2.2.0 loses the second of two lines that it reads at once. So the FIFO is made
to hold one page, and a line is written only when it is empty. A line that conmon has not
read in time can be taken back, so that a call which has failed has no effect later.
"""

from __future__ import annotations

import errno
import fcntl
import os
import select
from contextlib import ExitStack

from ocigrpc.closing import ClosingStack
from ocigrpc.waiting import Deadline

_PAGE_BYTES = 4096


class ControlFifo(ClosingStack):
    """A conmon's control FIFO, open for writing; to be used in a ``with``.

    ``empty`` is to be polled for reading: readable when conmon has read the line before.
    """

    def __init__(self, path: str) -> None:
        """Raises ``ConnectionError`` when no conmon reads it, and other ``OSError``."""
        self._path = path
        with ExitStack() as stack:
            try:
                # Without O_NONBLOCK this would wait for a conmon that is dead.
                self._fd = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            except OSError as error:
                if error.errno in (errno.ENXIO, errno.ENOENT):
                    raise ConnectionError(error.errno, error.strerror, path) from error
                raise
            stack.callback(os.close, self._fd)
            # poll calls a FIFO of one page writable only when that page is empty.
            fcntl.fcntl(self._fd, fcntl.F_SETPIPE_SZ, _PAGE_BYTES)
            # An epoll makes POLLOUT something that a Deadline can wait for.
            self.empty = stack.enter_context(select.epoll(1))
            self.empty.register(self._fd, select.EPOLLOUT)
            self._stack = stack.pop_all()

    def resize(self, rows: int, columns: int) -> None:
        """Set the terminal's size; to be called when ``empty``. Raises ``OSError``."""
        os.write(self._fd, b"1 %d %d\n" % (rows, columns))

    def reopen_log(self, deadline: Deadline) -> None:
        """Have a new log made, in place of any file that has the log's name by then.

        Waits until conmon has read the line before; raises ``Timeout`` or ``Cancelled``.
        """
        deadline.wait(self.empty)
        os.write(self._fd, b"2 0 0\n")

    def take_back(self) -> bool:
        """Take back what conmon has not read; False when it has read all."""
        fd = os.open(self._path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            return bool(os.read(fd, _PAGE_BYTES))
        except BlockingIOError:
            return False
        finally:
            os.close(fd)
