"""The details of a refused call, for programs."""

from __future__ import annotations

import grpc
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo
from grpc_status import rpc_status


def error_details(error: grpc.RpcError) -> tuple[ErrorInfo, BadRequest]:
    """The details of an error, empty where it has none."""
    info, violations = ErrorInfo(), BadRequest()
    try:
        status = rpc_status.from_call(error)  # type: ignore[arg-type]  # it is a call too
    except ValueError:
        # The client may give up while the service's answer is on its way: then the code is the
        # client's own, and the details are of an answer that has come too late.
        assert isinstance(error, grpc.Call)
        if error.code() not in (grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED):
            raise
        status = None
    for detail in status.details if status is not None else ():
        detail.Unpack(info)
        detail.Unpack(violations)
    return info, violations
