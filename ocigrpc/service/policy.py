"""What holds for each RPC: one table, with a row for each by its full name."""

from __future__ import annotations

import math
from collections.abc import Mapping
from enum import Enum
from typing import NamedTuple

from ocigrpc.errors import cut
from ocigrpc.v1 import runtime_pb2

SERVICE_NAME = runtime_pb2.DESCRIPTOR.services_by_name["RuntimeService"].full_name
"""``ocigrpc.v1.RuntimeService``: the service whose RPCs the table has."""

# Of a method that there is not, in the log and in the answer.
_NAME_LIMIT_BYTES = 64

_ANSWER_S = 0.5
"""Of a client's time, at most so much is kept for the answer of a call that says itself how
long it may take: to keep more would cut that short."""

_ROUNDING_SHARE = 0.01
"""Clients round up the time that they tell the service, by so much at most: grpc sends no more
than three digits of it."""


class Kind(Enum):
    """What a call does, and so what it must not be held up by."""

    READ = "read"
    """Looks at what there is."""
    SLOW = "slow"
    """Has programs change something, for as long as they take."""
    RESCUE = "rescue"
    """Ends something; what an administrator needs when nothing else works."""
    WAIT = "wait"
    """One message and one answer, for as long as something runs."""
    STREAM = "stream"
    """Goes on until one side ends it."""


class Method(NamedTuple):
    """What holds for an RPC."""

    name: str
    """As in ``PauseContainer``."""
    kind: Kind
    budget: str
    """Methods of the same budget share its places; no other call ever takes one of them."""
    is_read_only: bool = False
    """Whether it changes nothing, so that it may come by a read-only address."""
    is_long: bool = False
    """Whether the client says how long it may take, so that there may be as many as streams."""
    while_recovering: bool = False
    """Whether it is let in before the service has found its containers again."""
    answer_share: float = 0.1
    """The part of a client's time that is kept for the answer, so that an error of ours comes
    before his own clock runs out. 0: he waits for what may happen at his last moment."""
    answer_limit_s: float = math.inf
    """Most that is kept for it, in seconds, beside what clients round."""

    @property
    def is_stream(self) -> bool:
        """Whether its end is not for the service to know: it is dismissed when that ends."""
        return self.kind in (Kind.WAIT, Kind.STREAM)

    def work_s(self, remaining_s: float) -> float:
        """Of the time that a client still has, the part for the work itself."""
        if math.isinf(remaining_s):
            return remaining_s
        most_s = self.answer_limit_s + remaining_s * _ROUNDING_SHARE
        return remaining_s - min(remaining_s * self.answer_share, most_s)


def _read(name: str, *, while_recovering: bool = False) -> Method:
    return Method(name, Kind.READ, name, is_read_only=True, while_recovering=while_recovering)


def _watch(name: str, kind: Kind = Kind.STREAM, *, is_read_only: bool = True) -> Method:
    return Method(name, kind, name, is_read_only=is_read_only, is_long=True, answer_share=0)


def _exec(name: str, kind: Kind) -> Method:
    return Method(name, kind, "Exec", is_long=True, answer_limit_s=_ANSWER_S)


_METHODS = (
    _read("Version", while_recovering=True),
    _read("Status", while_recovering=True),
    _read("ContainerStatus"),
    _read("ListContainers"),
    _read("ContainerStats"),
    _read("ListContainerStats"),
    *(
        Method(name, Kind.SLOW, name)
        for name in (
            "CreateContainer",
            "StartContainer",
            "PauseContainer",
            "ResumeContainer",
            "UpdateContainerResources",
            "ReopenContainerLog",
        )
    ),
    Method("StopContainer", Kind.RESCUE, "StopContainer", is_long=True, answer_limit_s=_ANSWER_S),
    Method("KillContainer", Kind.RESCUE, "KillContainer"),
    Method("RemoveContainer", Kind.RESCUE, "RemoveContainer"),
    _exec("ExecSync", Kind.WAIT),
    _exec("Exec", Kind.STREAM),
    _watch("WaitContainer", Kind.WAIT),
    _watch("ContainerLogs"),
    _watch("WatchEvents"),
    _watch("WatchStats"),
    _watch("Attach", is_read_only=False),
)

POLICY: Mapping[str, Method] = {f"{SERVICE_NAME}/{method.name}": method for method in _METHODS}
"""The rows, by full names such as ``ocigrpc.v1.RuntimeService/PauseContainer``."""


def method_of(full_name: str) -> Method:
    """The row of an RPC; for one that there is not, such as a client makes up, a new one."""
    known = POLICY.get(full_name)
    name = cut(full_name.rpartition("/")[2], _NAME_LIMIT_BYTES)
    return known or Method(name, Kind.READ, "")


def places(unary_limit: int, stream_limit: int) -> Mapping[str, int]:
    """How many calls each budget has room for; that of unknown methods is the empty one."""
    known = {method.budget: stream_limit if method.is_long else unary_limit for method in _METHODS}
    return {"": unary_limit, **known}
