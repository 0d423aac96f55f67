"""A time limit for the first message of a call.

A call occupies a thread from its headers on, and grpc itself would wait for the message as long
as the client stays connected.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import grpc

from ocigrpc.errors import Cancelled, InvalidArgument, Timeout

# How long a client may take to send the whole first message of a call.
MESSAGE_LIMIT_S = 30.0


class FirstMessageTimeout:
    """Cancels calls whose first message does not arrive in time.

    One thread watches all of them. It runs only while calls wait, and until the last limit.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        # In the order in which they began, which is also the order in which they expire.
        self._expiries_s: dict[grpc.ServicerContext, float] = {}
        self._has_watcher = False

    def message(self, messages: Iterator[bytes], context: grpc.ServicerContext) -> bytes:
        """The first of the messages.

        Raises ``Timeout`` (REQUEST_TIMEOUT) when it does not arrive in time, after the call has
        been cancelled; ``InvalidArgument`` when the client sends none; ``Cancelled``.
        """
        message, gone = None, False
        self._begin(context)
        try:
            message = next(messages, None)
        except grpc.RpcError as error:
            # grpc keeps the error, whose traceback would keep everything that the call holds.
            error.__traceback__ = None
            gone = True
        if self._end(context):
            raise message_late()
        if gone:
            raise Cancelled("the caller has gone")
        if message is None:
            raise InvalidArgument.of("request", "is missing", reason="MALFORMED_MESSAGE")
        return message

    def _begin(self, context: grpc.ServicerContext) -> None:
        with self._lock:
            self._expiries_s[context] = time.monotonic() + MESSAGE_LIMIT_S
            if not self._has_watcher:
                self._has_watcher = True
                threading.Thread(target=self._watch, name="first-message", daemon=True).start()

    def _end(self, context: grpc.ServicerContext) -> bool:
        """Stop the limit; whether it had passed."""
        with self._lock:
            return self._expiries_s.pop(context, None) is None

    def _watch(self) -> None:
        never = threading.Event()
        while (expiry_s := self._next_expiry_s()) is not None:
            never.wait(max(0.0, expiry_s - time.monotonic()))

    def _next_expiry_s(self) -> float | None:
        """Cancel the expired calls, and give the next expiry, if there is one."""
        with self._lock:
            for context, expiry_s in list(self._expiries_s.items()):
                if expiry_s > time.monotonic():
                    return expiry_s
                del self._expiries_s[context]
                context.cancel()
            self._has_watcher = False
            return None


def message_late() -> Timeout:
    """The error for a first message that did not arrive in time."""
    return Timeout(
        f"the first message did not come in {MESSAGE_LIMIT_S:g} s",
        reason="REQUEST_TIMEOUT",
        limit_s=f"{MESSAGE_LIMIT_S:g}",
    )
