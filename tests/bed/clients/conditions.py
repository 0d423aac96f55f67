"""The conditions of a service."""

from __future__ import annotations

from ocigrpc.v1 import runtime_pb2


def works(condition: runtime_pb2.Condition) -> bool:
    """Whether a condition is met; it must be one or the other."""
    assert condition.status != runtime_pb2.CONDITION_STATUS_UNSPECIFIED
    return condition.status == runtime_pb2.CONDITION_STATUS_TRUE
