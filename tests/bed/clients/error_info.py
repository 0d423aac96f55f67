"""The details of a refused call, for programs."""

from __future__ import annotations

import grpc
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo
from grpc_status import rpc_status

from ocigrpc.errors import OcigrpcError


def on_the_wire(error: grpc.RpcError | OcigrpcError) -> grpc.RpcError:
    """How a call failed, for gRPC: what a client's exception was made of."""
    if isinstance(error, OcigrpcError):
        assert isinstance(error.__context__, grpc.RpcError), error
        return error.__context__
    return error


def code_of(error: grpc.RpcError | OcigrpcError) -> grpc.StatusCode:
    """The status code of a failed call."""
    return on_the_wire(error).code()


def error_details(error: grpc.RpcError | OcigrpcError) -> tuple[ErrorInfo, BadRequest]:
    """The details of an error, empty where it has none."""
    call = on_the_wire(error)
    info, violations = ErrorInfo(), BadRequest()
    try:
        status = rpc_status.from_call(call)  # type: ignore[arg-type]  # it is a call too
    except ValueError:
        # The client may give up while the service's answer is on its way: then the code is the
        # client's own, and the details are of an answer that has come too late.
        assert isinstance(call, grpc.Call)
        if call.code() not in (grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED):
            raise
        status = None
    for detail in status.details if status is not None else ():
        detail.Unpack(info)
        detail.Unpack(violations)
    return info, violations
