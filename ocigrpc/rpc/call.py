"""One RPC."""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Callable, Mapping

import grpc

from ocigrpc.rpc.listener import Listener
from ocigrpc.rpc.methods import Method
from ocigrpc.waiting import Deadline

# The key of the metadata by which a client can name its request, to find it in the log.
REQUEST_ID_KEY = "x-request-id"

# grpc represents a missing deadline as one in the far future.
_FOREVER_S = 1e9

_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,64}")


class Call:
    """One RPC, as its handler sees it instead of grpc's own context.

    ``deadline`` is the client's, minus the share that the method reserves for the answer; it is
    cancelled when the client goes away or the service stops. ``request_id`` is in every log
    line of the call. ``listener`` is where the call came in. ``count_streams``
    counts the calls that wait or stream now, by the names of their RPCs. ``began_ns`` is of
    ``time.perf_counter_ns``. ``cancel`` ends it at once, without an answer of the handler's.
    """

    __slots__ = (
        "began_ns",
        "cancel",
        "count_streams",
        "deadline",
        "dismissed",
        "listener",
        "method",
        "request_id",
    )

    def __init__(
        self,
        method: Method,
        listener: Listener,
        context: grpc.ServicerContext,
        count_streams: Callable[[], Mapping[str, int]] = dict,
    ) -> None:
        self.began_ns = time.perf_counter_ns()
        self.cancel = context.cancel
        self.count_streams = count_streams
        self.method = method
        self.listener = listener
        self.deadline = _deadline(method, context.time_remaining())
        self.request_id = _request_id(context)
        self.dismissed = False
        if not context.add_callback(self.deadline.cancel):
            self.deadline.cancel()

    def dismiss(self) -> None:
        """Have the handler end the call because the service stops."""
        self.dismissed = True
        self.deadline.cancel()


def _deadline(method: Method, remaining_s: float) -> Deadline:
    if remaining_s >= _FOREVER_S:
        return Deadline()
    work_s = method.work_s(remaining_s)
    return Deadline(work_s, answer_s=remaining_s - work_s)


def _request_id(context: grpc.ServicerContext) -> str:
    for key, value in context.invocation_metadata() or ():
        if key == REQUEST_ID_KEY and isinstance(value, str) and _REQUEST_ID.fullmatch(value):
            return value
    return secrets.token_hex(6)
