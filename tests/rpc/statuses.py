"""The status of a failed call, from its trailers."""

from __future__ import annotations

from collections.abc import Callable

import grpc
import pytest
from google.rpc.error_details_pb2 import ErrorInfo

from tests.bed.clients.error_info import error_details


class Failure:
    """Code, reason and details of a failed call."""

    def __init__(self, error: grpc.RpcError) -> None:
        assert isinstance(error, grpc.Call)
        self.code: grpc.StatusCode = error.code()
        self.text: str = str(error.details())
        info, violations = error_details(error)
        self.info: ErrorInfo = info
        self.fields: list[str] = [each.field for each in violations.field_violations]

    @property
    def reason(self) -> str:
        return self.info.reason


def failure_of(call: Callable[[], object]) -> Failure:
    """How ``call`` fails, which it has to."""
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return Failure(caught.value)
