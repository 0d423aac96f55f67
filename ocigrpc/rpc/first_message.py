"""The one message of a call, waited for no longer than is good for others.

A call holds a thread from its first bytes on, and grpc itself would wait for its message
for as long as the client stays.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import grpc

from ocigrpc.errors import Cancelled, InvalidArgument, Timeout

# How long a client may take to send the first message of a call, and all of it.
MESSAGE_LIMIT_S = 30.0


class FirstMessageTimeout:
    """Ends calls whose message does not come in time.

    With one thread for all of them, which is there only when somebody waits, or soon before.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        # In the order in which they began, and so in that of their ends.
        self._expiries_s: dict[grpc.ServicerContext, float] = {}
        self._watched = False

    def message(self, messages: Iterator[bytes], context: grpc.ServicerContext) -> bytes:
        """The first of the messages.

        Raises ``Timeout`` (REQUEST_TIMEOUT) when it has not come in time: then the call has
        been cancelled; ``InvalidArgument`` when none will come, ``Cancelled``.
        """
        message, gone = None, False
        self._begin(context)
        try:
            message = next(messages, None)
        except grpc.RpcError as error:
            # grpc keeps it, and with its traceback what the call holds.
            error.__traceback__ = None
            gone = True
        if self._end(context):
            raise late()
        if gone:
            raise Cancelled("the caller has gone")
        if message is None:
            raise InvalidArgument.of("request", "is missing", reason="MALFORMED_MESSAGE")
        return message

    def _begin(self, context: grpc.ServicerContext) -> None:
        with self._lock:
            self._expiries_s[context] = time.monotonic() + MESSAGE_LIMIT_S
            if not self._watched:
                self._watched = True
                threading.Thread(target=self._watch, name="patience", daemon=True).start()

    def _end(self, context: grpc.ServicerContext) -> bool:
        """Wait no more; whether it was too late."""
        with self._lock:
            return self._expiries_s.pop(context, None) is None

    def _watch(self) -> None:
        never = threading.Event()
        while (expiry_s := self._next_expiry_s()) is not None:
            never.wait(max(0.0, expiry_s - time.monotonic()))

    def _next_expiry_s(self) -> float | None:
        """Cancel the calls whose time is up; when that of the next one is, if there is one."""
        with self._lock:
            for context, expiry_s in list(self._expiries_s.items()):
                if expiry_s > time.monotonic():
                    return expiry_s
                del self._expiries_s[context]
                context.cancel()
            self._watched = False
            return None


def late() -> Timeout:
    """The error that a message has not come in time."""
    return Timeout(
        f"the first message did not come in {MESSAGE_LIMIT_S:g} s",
        reason="REQUEST_TIMEOUT",
        limit_s=f"{MESSAGE_LIMIT_S:g}",
    )
