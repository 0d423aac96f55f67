"""What a refused call says for programs."""

from __future__ import annotations

import grpc
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo
from grpc_status import rpc_status


def error_details(error: grpc.RpcError) -> tuple[ErrorInfo, BadRequest]:
    """The details of an error, empty where it has none."""
    info, violations = ErrorInfo(), BadRequest()
    status = rpc_status.from_call(error)  # type: ignore[arg-type]  # it is a call too
    for detail in status.details if status is not None else ():
        detail.Unpack(info)
        detail.Unpack(violations)
    return info, violations
