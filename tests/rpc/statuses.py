"""The status of a failed call, from its trailers."""

from __future__ import annotations

from collections.abc import Callable

import grpc
import pytest
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo
from google.rpc.status_pb2 import Status
from grpc_status import rpc_status


class Failure:
    """Code, reason and details of a failed call."""

    def __init__(self, error: grpc.RpcError) -> None:
        assert isinstance(error, grpc.Call)
        self.code: grpc.StatusCode = error.code()
        self.text: str = str(error.details())
        self.info: ErrorInfo = ErrorInfo()
        self.bad_request: BadRequest = BadRequest()
        status: Status | None = rpc_status.from_call(error)
        for detail in status.details if status else ():
            detail.Unpack(self.info)
            detail.Unpack(self.bad_request)

    @property
    def reason(self) -> str:
        return self.info.reason

    @property
    def fields(self) -> list[str]:
        return [each.field for each in self.bad_request.field_violations]


def failure_of(call: Callable[[], object]) -> Failure:
    """How ``call`` fails, which it has to."""
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return Failure(caught.value)
