"""conmon's control FIFO: one line for each thing that it is to do.

conmon before 2.2.0 loses the second of two lines that it reads at once. So the FIFO is made
to hold one page, and a line is written only when it is empty. A line that conmon has not
read in time is taken back, so that what has failed does not happen later all the same.
"""

from __future__ import annotations

import errno
import fcntl
import os
import select

from ocigrpc.closing import Closing
from ocigrpc.waiting import Deadline

REOPEN_LOG = b"2 0 0\n"
"""Close the log and make a new one, in place of whatever has its name by then."""

_PAGE_BYTES = 4096


class Control(Closing):
    """A conmon's control FIFO, to be used in a ``with``."""

    def __init__(self, path: str) -> None:
        """Raises ``ConnectionError`` when no conmon reads it, and other ``OSError``."""
        try:
            # Without O_NONBLOCK it would wait for a conmon that is dead.
            self._fd = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            if error.errno in (errno.ENXIO, errno.ENOENT):
                raise ConnectionError(error.errno, error.strerror, path) from error
            raise
        self._path = path
        try:
            # A FIFO with one page can be written to, says poll, only when that page is empty.
            fcntl.fcntl(self._fd, fcntl.F_SETPIPE_SZ, _PAGE_BYTES)
        except OSError:
            os.close(self._fd)
            raise

    def send(self, line: bytes, deadline: Deadline) -> None:
        """Write a line when conmon has read the one before; raises ``Timeout``, ``Cancelled``."""
        with select.epoll(1) as empty:
            # An epoll makes POLLOUT what a Deadline waits for.
            empty.register(self._fd, select.EPOLLOUT)
            deadline.wait(empty)
        os.write(self._fd, line)

    def take_back(self) -> bool:
        """Take back what conmon has not read; False when it has read all."""
        fd = os.open(self._path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            return bool(os.read(fd, _PAGE_BYTES))
        except BlockingIOError:
            return False
        finally:
            os.close(fd)

    def close(self) -> None:
        """Close the control FIFO."""
        os.close(self._fd)
