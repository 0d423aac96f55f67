"""conmon's attach socket and control FIFO: what a container says, hears and is sized.

The socket carries packets. Of output: one byte for the stream, then up to 8192 bytes. Of
input: up to 32768 bytes, what is longer is cut; an empty one is the end of input, and
closes it for everybody unless conmon was told ``--leave-stdin-open``. conmon 2.1.6
neither waits for a container that does not read, nor goes on while a client does not.
"""

from __future__ import annotations

import errno
import fcntl
import os
import select
import socket
from contextlib import ExitStack
from typing import Self

from ocigrpc.closing import Closing
from ocigrpc.errors import HostFailed, MonitorFailed
from ocigrpc.oci.paths import ContainerPaths
from ocigrpc.waiting import Deadline

STDOUT, STDERR = 2, 3
"""What the first byte of a packet of output says."""

_OUTPUT_BYTES = 1 + 8192
_INPUT_BYTES = 16384

_RETRY_S = 0.05
"""How often to try again to connect: the kernel does not tell when there is room."""


class Attachment(Closing):
    """A connection to conmon, to be used in a ``with``; no method blocks after that.

    With ``terminal``, its size can be set, when ``resizable`` can be read from.
    Raises ``MonitorFailed`` (MONITOR_GONE) when there is no conmon any more, ``HostFailed``
    with the path when its socket is not there; ``Timeout`` or ``Cancelled`` by the deadline
    when it takes up no connections.
    """

    def __init__(self, paths: ContainerPaths, *, terminal: bool, deadline: Deadline) -> None:
        self._paths = paths
        self._terminal = terminal
        self._deadline = deadline

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            packets = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            self._socket = stack.enter_context(packets)
            self._writable = stack.enter_context(select.epoll())
            self._resizable = stack.enter_context(select.epoll())
            try:
                if self._terminal:
                    self._open_control(stack)
                self._connect()
            except FileNotFoundError as error:
                path = self._paths.bundle
                raise HostFailed(
                    f"the sockets of {path} are not there", path=path, error=error.strerror
                ) from error
            except OSError as error:
                if error.errno not in (errno.ECONNREFUSED, errno.ENXIO):
                    raise
                raise _gone(self._paths.container_id, error) from error
            self._writable.register(self._socket, select.EPOLLOUT)
            self._stack = stack.pop_all()
        return self

    def _connect(self) -> None:
        self._socket.setblocking(False)
        directory = os.open(self._paths.bundle, os.O_PATH | os.O_CLOEXEC)
        try:
            # The path itself may be longer than the 107 bytes of unix(7).
            while not _is_connected(self._socket, f"/proc/self/fd/{directory}/attach"):
                self._deadline.wait(timeout_s=_RETRY_S)
        finally:
            os.close(directory)

    def _open_control(self, stack: ExitStack) -> None:
        # Opening would wait for ever for a conmon that has died.
        flags = os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC
        self._control = os.open(self._paths.bundle / "ctl", flags)
        stack.callback(os.close, self._control)
        # conmon before 2.2 loses the second of two lines that it finds. With one page, the
        # FIFO can be written to, says poll, only when it is empty.
        fcntl.fcntl(self._control, fcntl.F_SETPIPE_SZ, select.PIPE_BUF)
        self._resizable.register(self._control, select.EPOLLOUT)

    def fileno(self) -> int:
        """Readable when there is output, or its end."""
        return self._socket.fileno()

    def receive(self) -> tuple[int, bytes] | None:
        """The stream and bytes of a packet; of no bytes at the end; None if nothing now."""
        try:
            packet = self._socket.recv(_OUTPUT_BYTES)
        except BlockingIOError:
            return None
        except OSError:
            packet = b""
        return (packet[0], packet[1:]) if packet else (0, b"")

    @property
    def writable(self) -> select.epoll:
        """To be polled for reading: is so when :meth:`send` would do something."""
        return self._writable

    def send(self, data: memoryview) -> memoryview:
        """Send a packet of input; what is left of ``data``, nothing if nobody takes it."""
        try:
            return data[self._socket.send(data[:_INPUT_BYTES]) :]
        except BlockingIOError:
            return data
        except OSError:
            return data[:0]

    @property
    def resizable(self) -> select.epoll:
        """To be polled for reading: is so when conmon has read the size before."""
        return self._resizable

    def resize(self, rows: int, columns: int) -> None:
        """Set the size of the container's terminal."""
        try:
            os.write(self._control, b"1 %d %d\n" % (rows, columns))
        except OSError as error:
            raise _gone(self._paths.container_id, error) from error

    def end_input(self) -> None:
        """Send the end of input."""
        try:
            self._socket.send(b"")
        except OSError as error:
            if error.errno not in (errno.EPIPE, errno.ECONNRESET):
                raise _gone(self._paths.container_id, error) from error

    def close(self) -> None:
        """Disconnect from conmon."""
        self._stack.close()


def _is_connected(packets: socket.socket, path: str) -> bool:
    """Connect; false when so many wait to be taken up already that there is no room to wait."""
    try:
        packets.connect(path)
    except BlockingIOError:
        return False
    return True


def _gone(container_id: str, error: OSError) -> MonitorFailed:
    return MonitorFailed(
        f"conmon of container {container_id!r} does not answer: {error.strerror}",
        reason="MONITOR_GONE",
        container_id=container_id,
        output=error.strerror,
    )
