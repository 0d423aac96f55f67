"""What a call is refused with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import grpc
import pytest
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo
from grpc_status import rpc_status


class Refusal:
    """What a call was refused with: the fields of ErrorInfo, and of BadRequest."""

    metadata: Mapping[str, str]
    fields: list[str]
    message: str


@contextmanager
def refused(code: str, reason: str = "") -> Iterator[Refusal]:
    """Expect a call to be refused with this status code and, unless empty, reason."""
    refusal = Refusal()
    with pytest.raises(grpc.RpcError) as caught:
        yield refusal
    status = rpc_status.from_call(caught.value)  # type: ignore[arg-type]  # it is a call too
    assert status is not None, caught.value
    info, violations = ErrorInfo(), BadRequest()
    for detail in status.details:
        detail.Unpack(info)
        detail.Unpack(violations)
    refusal.metadata = info.metadata
    refusal.fields = [each.field for each in violations.field_violations]
    refusal.message = status.message
    assert (caught.value.code().name, info.reason) == (code, reason or info.reason), status
    assert info.domain == "ocigrpc"
