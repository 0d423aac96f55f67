"""What a program's output is read from, for when the service ends before the program does.

A terminal that nobody holds hangs up, a pipe without a reader ends whoever writes to it, and either
blocks a program when it is full. So the program's reaper holds what the service reads, and reads it
once the service is gone, however that was.
"""

from __future__ import annotations

import socket
from collections.abc import Collection
from contextlib import ExitStack

from ocigrpc.closing import ClosingStack
from ocigrpc.failing import host_failing


class HeldOutputs(ClosingStack):
    """A socket to a reaper, for a ``with``, which is to last as long as the reaper.

    ``theirs`` is the end for the reaper. Raises ``HostFailed`` when it can't be opened.
    """

    def __init__(self) -> None:
        with host_failing("open a socket"), ExitStack() as stack:
            self._ours, theirs = socket.socketpair()
            stack.enter_context(self._ours)
            stack.enter_context(theirs)
            self.theirs = theirs.fileno()
            self._stack = stack.pop_all()

    def hold(self, fds: Collection[int]) -> None:
        """Have the reaper hold these as well, at most four."""
        if fds:
            socket.send_fds(self._ours, [b"\0"], list(fds))
