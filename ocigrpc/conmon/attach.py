"""conmon's attach socket, and with a terminal its control FIFO: a container's input and output.

The socket carries packets. Of output: one byte for the stream, then up to 8192 bytes. Of
input: up to 32768 bytes, longer ones are cut. An empty one is the end of input, for everybody
unless conmon was started with ``--leave-stdin-open``. conmon 2.1.6 does not wait for a
container that does not read, but stops for a client that does not.
"""

from __future__ import annotations

import errno
import os
import select
import socket
from contextlib import ExitStack
from typing import NamedTuple

from ocigrpc.closing import ClosingStack
from ocigrpc.conmon.control import ControlFifo
from ocigrpc.errors import HostFailed, MonitorFailed
from ocigrpc.oci.paths import ContainerPaths
from ocigrpc.waiting import Deadline

# The first byte of a packet of standard error; that of standard output is 2.
_STDERR_PIPE = 3

_OUTPUT_BYTES = 1 + 8192
_INPUT_BYTES = 16384

# How often to try to connect: the kernel does not report when there is room.
_RETRY_S = 0.05


class Packet(NamedTuple):
    """Output of a container; without data it is the end."""

    data: bytes
    is_stderr: bool = False


class Attachment(ClosingStack):
    """A connection to conmon, to be used in a ``with``; no method blocks.

    ``writable`` is to be polled for reading: readable when :meth:`send` would send something.
    With ``terminal``, its size can be set, when ``resizable`` can be read from.
    Raises ``MonitorFailed`` (MONITOR_GONE) when conmon has ended, ``HostFailed`` with the path
    when its socket is missing; ``Timeout`` or ``Cancelled`` by the deadline when conmon accepts
    no connection.
    """

    def __init__(self, paths: ContainerPaths, *, terminal: bool, deadline: Deadline) -> None:
        self._paths = paths
        self._control: ControlFifo | None = None
        with ExitStack() as stack:
            packets = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            self._socket = stack.enter_context(packets)
            self.writable = stack.enter_context(select.epoll())
            try:
                if terminal:
                    self._control = stack.enter_context(ControlFifo(paths.control_fifo))
                self._connect(deadline)
            except OSError as error:
                if error.errno == errno.ENOENT:
                    path = paths.bundle
                    raise HostFailed(
                        f"the sockets of {path} are missing", path=path, error=error.strerror
                    ) from error
                if error.errno not in (errno.ECONNREFUSED, errno.ENXIO):
                    raise
                raise self._gone(error) from error
            self.writable.register(self._socket, select.EPOLLOUT)
            self._stack = stack.pop_all()

    def _connect(self, deadline: Deadline) -> None:
        self._socket.setblocking(False)
        directory, name = os.path.split(self._paths.attach_socket)
        fd = os.open(directory, os.O_PATH | os.O_CLOEXEC)
        try:
            while True:
                try:
                    # The path itself may be longer than the 107 bytes of unix(7).
                    self._socket.connect(f"/proc/self/fd/{fd}/{name}")
                    return
                except BlockingIOError:
                    # So many connections wait already that there is no room for one more.
                    deadline.wait(timeout_s=_RETRY_S)
        finally:
            os.close(fd)

    def fileno(self) -> int:
        """Readable when there is output, or its end."""
        return self._socket.fileno()

    def receive(self) -> Packet | None:
        """The next packet; None if there is none now."""
        try:
            packet = self._socket.recv(_OUTPUT_BYTES)
        except BlockingIOError:
            return None
        except OSError:
            packet = b""
        return Packet(packet[1:], packet.startswith(bytes([_STDERR_PIPE])))

    def send(self, data: memoryview) -> memoryview:
        """Send a packet of input; the rest of ``data``, or nothing if conmon has ended."""
        try:
            return data[self._socket.send(data[:_INPUT_BYTES]) :]
        except BlockingIOError:
            return data
        except OSError:
            return data[:0]

    @property
    def resizable(self) -> select.epoll:
        """To be polled for reading: readable when conmon has read the size before."""
        return self._fifo().empty

    def resize(self, rows: int, columns: int) -> None:
        """Set the size of the container's terminal."""
        try:
            self._fifo().resize(rows, columns)
        except OSError as error:
            raise self._gone(error) from error

    def end_input(self) -> None:
        """Send the end of input."""
        try:
            self._socket.send(b"")
        except OSError as error:
            if error.errno not in (errno.EPIPE, errno.ECONNRESET):
                raise self._gone(error) from error

    def _fifo(self) -> ControlFifo:
        assert self._control is not None, "there is a terminal"
        return self._control

    def _gone(self, error: OSError) -> MonitorFailed:
        container_id = self._paths.container_id
        return MonitorFailed(
            f"conmon of container {container_id!r} does not answer: {error.strerror}",
            reason="MONITOR_GONE",
            container_id=container_id,
            output=error.strerror,
        )
