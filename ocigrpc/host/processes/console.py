"""Where an OCI runtime brings the terminal that it has made for a program.

It does so before the program runs, and does nothing else to it: the terminal is as the kernel
makes it, and with the size that was asked for, whatever a program looks for first.
"""

from __future__ import annotations

import os
import socket
from contextlib import ExitStack
from pathlib import Path
from typing import Self

from ocigrpc.closing import Closing
from ocigrpc.errors import HostFailed, host_failing

_NAME = "console"


class Console(Closing):
    """A socket in ``directory``, for one terminal; ``path`` is short. To be used in a ``with``.

    With ``hold``, ``held`` is a descriptor to give to a process: for as long as it has that
    open, the terminal does not hang up, even when we are no more. Raises ``HostFailed``.
    """

    def __init__(self, directory: Path, *, hold: bool = False) -> None:
        self._directory = directory
        self._hold = hold
        self.held = -1
        self.over = False
        """Whether nothing more will come."""

    def __enter__(self) -> Self:
        with host_failing("make a socket in", self._directory), ExitStack() as stack:
            directory = os.open(self._directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            stack.callback(os.close, directory)
            self._socket = stack.enter_context(socket.socket(socket.AF_UNIX))
            self._socket.setblocking(False)
            # By the descriptor: the whole path may be longer than an address can be.
            self._socket.bind(f"/proc/self/fd/{directory}/{_NAME}")
            self._socket.listen(1)
            self.path = f"/proc/{os.getpid()}/fd/{directory}/{_NAME}"
            self._is_connected = False
            if self._hold:
                self._ours, theirs = socket.socketpair()
                stack.enter_context(self._ours)
                stack.enter_context(theirs)
                self.held = theirs.fileno()
            self._stack = stack.pop_all()
        return self

    def fileno(self) -> int:
        """What to poll for until :meth:`take` has brought the terminal."""
        return self._socket.fileno()

    def take(self) -> int | None:
        """The terminal's descriptor, the caller's own from now on; None when it is not there yet.

        Or when the runtime has failed, and ``over`` is set, since none will come. Raises
        ``HostFailed`` when there are no descriptors left.
        """
        with host_failing("take a terminal"):
            try:
                if not self._is_connected:
                    connection, _ = self._socket.accept()
                    self._stack.enter_context(connection)
                    connection.setblocking(False)
                    self._socket.close()
                    self._socket, self._is_connected = connection, True
                _, found, flags, _ = socket.recv_fds(self._socket, 4096, 1, socket.MSG_CMSG_CLOEXEC)
            except BlockingIOError:
                return None
        if flags & socket.MSG_CTRUNC:
            raise HostFailed("can't take a terminal: too many open files")
        self.over = True
        if not found:
            return None
        if self._hold:
            # It waits there for ever, and is open for as long.
            socket.send_fds(self._ours, [b"\0"], found)
        return found[0]

    def close(self) -> None:
        """Close the socket."""
        self._stack.close()
