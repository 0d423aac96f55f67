"""The console socket, by which an OCI runtime hands over the terminal that it makes for a program.

It does so before the program runs, and changes nothing of the terminal: a program finds it as
the kernel makes terminals, and with the requested size.
"""

from __future__ import annotations

import os
import socket
from contextlib import ExitStack
from pathlib import Path

from ocigrpc.closing import ClosingStack
from ocigrpc.errors import HostFailed
from ocigrpc.failing import host_failing
from ocigrpc.host.processes.outputs import HeldOutputs

_NAME = "console"


class Console(ClosingStack):
    """A socket in ``directory``, at a short ``path``, for one terminal; for a ``with``.

    ``held`` is where the terminal is to be held as well. Raises ``HostFailed``.
    """

    def __init__(self, directory: Path, held: HeldOutputs | None = None) -> None:
        self._held = held
        self._is_connected = False
        self.over = False
        """Whether no terminal will come any more."""
        with host_failing("make a socket in", directory), ExitStack() as stack:
            parent = os.open(directory, os.O_PATH | os.O_DIRECTORY)
            stack.callback(os.close, parent)
            self._socket = stack.enter_context(socket.socket(socket.AF_UNIX))
            self._socket.setblocking(False)
            # By the descriptor, since the whole path may be too long for an address.
            self._socket.bind(f"/proc/self/fd/{parent}/{_NAME}")
            self._socket.listen(1)
            self.path = f"/proc/{os.getpid()}/fd/{parent}/{_NAME}"
            self._stack = stack.pop_all()

    def fileno(self) -> int:
        """What to poll until :meth:`take` has returned the terminal."""
        return self._socket.fileno()

    def take(self) -> int | None:
        """The terminal's descriptor, for the caller to close; None while there is none.

        If ``over`` is set then, the runtime has failed, and there will be none. Raises
        ``HostFailed`` when no more descriptors can be opened.
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
        if self._held is not None:
            self._held.hold(found)
        return found[0]
