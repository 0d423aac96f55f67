"""What a call is refused with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import grpc
import pytest

from tests.bed.clients.error_info import error_details


class Refusal:
    """What a call was refused with: the fields of ErrorInfo, and of BadRequest."""

    reason: str
    metadata: Mapping[str, str]
    fields: list[str]
    message: str


@contextmanager
def refused(code: str, reason: str = "") -> Iterator[Refusal]:
    """Expect a call to be refused with this status code and, unless empty, reason."""
    refusal = Refusal()
    with pytest.raises(grpc.RpcError) as caught:
        yield refusal
    info, violations = error_details(caught.value)
    refusal.reason = info.reason
    refusal.metadata = info.metadata
    refusal.fields = [each.field for each in violations.field_violations]
    refusal.message = caught.value.details() or ""
    assert (caught.value.code().name, info.reason) == (code, reason or info.reason), caught.value
    assert info.domain == "ocigrpc"
