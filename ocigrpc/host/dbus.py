"""A connection to a D-Bus message bus on which nothing waits longer than a deadline.

jeepney has the wire format; its own connections wait without limit for a bus that accepts a
connection and never answers, so the socket is driven here.
"""

from __future__ import annotations

import os
import select
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from jeepney import DBusAddress, HeaderFields, Message, MessageType, Parser, new_method_call
from jeepney.auth import BEGIN, Authenticator
from jeepney.bus import get_connectable_addresses

from ocigrpc.errors import CgroupFailed
from ocigrpc.waiting import Deadline

# The address of the system bus without DBUS_SYSTEM_BUS_ADDRESS; D-Bus specification.
SYSTEM_BUS = "unix:path=/run/dbus/system_bus_socket"

_BUS = DBusAddress("/org/freedesktop/DBus", "org.freedesktop.DBus", "org.freedesktop.DBus")
_RETRY_S = 0.01


class Refused(Exception):
    """The answer was an error, with its D-Bus ``name`` and ``text``."""

    def __init__(self, name: str, text: str) -> None:
        super().__init__(f"{name}: {text}")
        self.name = name
        self.text = text


# A call that was sent, for :meth:`Bus.reply`.
Pending = int


class Bus:
    """A connection that sends calls ahead of the answers, and keeps signals for :meth:`signal`."""

    def __init__(self, connected: socket.socket, deadline: Deadline) -> None:
        self._socket = connected
        self._deadline = deadline
        self._parser = Parser()
        self._serial = 0
        self._replies: dict[int, Message] = {}
        self._signals: list[Message] = []
        # A bus expects this as the first call; its answer is not needed.
        self.send(_BUS, "Hello")

    def send(
        self, address: DBusAddress, method: str, signature: str = "", *arguments: object
    ) -> Pending:
        """Send a call without waiting for its answer."""
        call = new_method_call(address, method, signature or None, arguments)
        self._serial += 1
        _send(self._socket, call.serialise(serial=self._serial), self._deadline)
        return self._serial

    def reply(self, pending: Pending) -> Sequence[object]:
        """The answer to a call; raises ``Refused`` when it is an error."""
        while pending not in self._replies:
            self._receive()
        answer = self._replies.pop(pending)
        if answer.header.message_type == MessageType.error:
            name = answer.header.fields.get(HeaderFields.error_name, "")
            raise Refused(name, str(answer.body[0]) if answer.body else "")
        return tuple(answer.body)

    def call(
        self, address: DBusAddress, method: str, signature: str = "", *arguments: object
    ) -> Sequence[object]:
        """Send a call and wait for its answer; raises ``Refused``."""
        return self.reply(self.send(address, method, signature, *arguments))

    def match(self, rule: str) -> None:
        """Subscribe to the signals of a match rule, without waiting for the bus's answer."""
        self.send(_BUS, "AddMatch", "s", rule)

    def signal(self, member: str, wanted: Callable[[Sequence[object]], bool]) -> Sequence[object]:
        """The body of the first signal of this name that is ``wanted``, waiting if need be."""
        while True:
            while self._signals:
                message = self._signals.pop(0)
                body: Sequence[object] = tuple(message.body)
                if message.header.fields.get(HeaderFields.member) == member and wanted(body):
                    return body
            self._receive()

    def _receive(self) -> None:
        message = self._parser.get_next_message()
        while message is None:
            self._parser.add_data(_receive(self._socket, self._deadline))
            message = self._parser.get_next_message()
        if message.header.message_type == MessageType.signal:
            self._signals.append(message)
        elif answered := message.header.fields.get(HeaderFields.reply_serial):
            self._replies[answered] = message


@contextmanager
def connect(deadline: Deadline) -> Iterator[Bus]:
    """The system bus, for the length of the block and of the deadline.

    Raises ``CgroupFailed`` (BUS_UNREACHABLE), ``Timeout`` or ``Cancelled``, and so does
    every method of the bus.
    """
    address = os.environ.get("DBUS_SYSTEM_BUS_ADDRESS", "") or SYSTEM_BUS
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as connection:
        try:
            _connect(connection, next(get_connectable_addresses(address)), deadline)
            _authenticate(connection, deadline)
            yield Bus(connection, deadline)
        except (OSError, ValueError, RuntimeError) as error:
            # jeepney raises ValueError for what is not D-Bus, RuntimeError for other transports.
            text = getattr(error, "strerror", None) or str(error)
            raise CgroupFailed(
                f"can't reach the system bus at {address}: {text}",
                reason="BUS_UNREACHABLE",
                address=address,
                error=text,
            ) from error


def _connect(connection: socket.socket, path: str, deadline: Deadline) -> None:
    while True:
        try:
            return connection.connect(path)
        except BlockingIOError:
            # unix(7): the backlog is full, and no event shows when it is shorter.
            deadline.wait(timeout_s=_RETRY_S)


def _authenticate(connection: socket.socket, deadline: Deadline) -> None:
    conversation = Authenticator(inc_null_byte=True)
    for line in conversation:
        _send(connection, line, deadline)
        conversation.feed(_receive(connection, deadline))
    _send(connection, BEGIN, deadline)


def _send(connection: socket.socket, data: bytes, deadline: Deadline) -> None:
    while data:
        try:
            data = data[connection.send(data, socket.MSG_NOSIGNAL) :]
        except BlockingIOError:
            # A Deadline polls for reading; an epoll is readable when its event is there.
            with select.epoll(1) as writable:
                writable.register(connection, select.EPOLLOUT)
                deadline.wait(writable.fileno())


def _receive(connection: socket.socket, deadline: Deadline) -> bytes:
    while True:
        deadline.wait(connection.fileno())
        try:
            data = connection.recv(1 << 16)
        except BlockingIOError:
            continue
        if not data:
            raise ConnectionResetError("the bus closed the connection")
        return data
