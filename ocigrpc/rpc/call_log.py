"""The end of each call in the log, and how much it matters to operators, in metrics and traces.

A warning means that somebody should look at the node; what a client has to correct is not one.
"""

from __future__ import annotations

import time

import grpc

from ocigrpc.errors import Cancelled, OcigrpcError, cut
from ocigrpc.log import get_logger
from ocigrpc.metrics import CALL_DURATION
from ocigrpc.rpc.errors import code_of, is_of_node
from ocigrpc.rpc.methods import UNKNOWN, Method
from ocigrpc.settings.values import LoggedCalls
from ocigrpc.traces import end_call

log = get_logger()


class CallLog:
    """Writes a line when a call ends; ``calls`` are those whose line is logged as info.

    The lines of others are for debugging, unless the node is at fault.
    """

    def __init__(self, calls: LoggedCalls) -> None:
        self.calls = calls

    def finished(self, method: Method, began_ns: int) -> None:
        """Log a call that did what it was asked to."""
        line = log.info if self._is_shown(method.is_read_only) else log.debug
        line("rpc.finished", code="OK", duration_ms=_counted_ms(method, "OK", began_ns))
        end_call("OK")

    def failed(
        self, method: Method, failure: OcigrpcError, error: Exception | None, began_ns: int
    ) -> None:
        """Log a call that failed by ``error``, as the client's ``failure`` says."""
        unexpected = error is not None and not isinstance(error, OcigrpcError | grpc.RpcError)
        # To cancel it is how a client ends a stream.
        is_usual = method.is_read_only and isinstance(failure, Cancelled)
        if unexpected:
            line = log.error
        elif is_of_node(failure):
            line = log.warning
        else:
            line = log.info if self._is_shown(is_usual) else log.debug
        code = code_of(failure).name
        line(
            "rpc.finished",
            code=code,
            duration_ms=_counted_ms(method, code, began_ns),
            reason=failure.reason,
            message=cut(failure.message),
            metadata={key: cut(value) for key, value in failure.metadata.items()},
            exc_info=error if unexpected else None,
        )
        end_call(code, failure.reason, failure.message)

    def _is_shown(self, is_read: bool) -> bool:
        return self.calls == "all" or (self.calls == "changes" and not is_read)


def _counted_ms(method: Method, code: str, began_ns: int) -> float:
    """How long a call took, which is counted."""
    took_ns = time.perf_counter_ns() - began_ns
    CALL_DURATION.observe(took_ns / 1e9, method.name if method.budget else UNKNOWN, code)
    return took_ns // 1000 / 1000
