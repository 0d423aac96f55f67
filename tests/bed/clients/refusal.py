"""What a call is refused with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import grpc
import pytest

from ocigrpc.errors import OcigrpcError
from ocigrpc.rpc import errors
from tests.bed.clients.error_info import code_of, error_details, on_the_wire


class Refusal:
    """What a call was refused with: the fields of ErrorInfo, and of BadRequest."""

    reason: str
    metadata: Mapping[str, str]
    fields: list[str]
    message: str


@contextmanager
def refused(code: str, reason: str = "") -> Iterator[Refusal]:
    """Expect a call to be refused with this status code and, unless empty, reason.

    What the Client raises must be of the same kind as the answer, and say the same.
    """
    refusal = Refusal()
    with pytest.raises((OcigrpcError, grpc.RpcError)) as caught:
        yield refusal
    error = caught.value
    assert isinstance(error, OcigrpcError | grpc.RpcError)
    info, violations = error_details(error)
    refusal.reason = info.reason
    refusal.metadata = info.metadata
    refusal.fields = [each.field for each in violations.field_violations]
    refusal.message = on_the_wire(error).details() or ""
    assert (code_of(error).name, info.reason) == (code, reason or info.reason), error
    assert info.domain == "ocigrpc"
    if isinstance(error, OcigrpcError):
        assert errors.code_of(error).name == code
        assert (error.reason, error.message) == (info.reason, refusal.message)
        assert error.metadata == info.metadata
