"""What holds for each RPC: a row for each method, by its full name, in the service that has it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from typing import NamedTuple

import grpc

from ocigrpc.errors import cut

# Of a method that there is not, in the log and in the answer.
_NAME_LIMIT_BYTES = 64

# Clients round up the time that they tell the service, by so much at most: grpc sends no more
# than three digits of it.
_ROUNDING_SHARE = 0.01


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

    full_name: str
    """As in ``ocigrpc.v1.RuntimeService/PauseContainer``."""
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
    def service_name(self) -> str:
        """As in ``ocigrpc.v1.RuntimeService``."""
        return self.full_name.rpartition("/")[0]

    @property
    def name(self) -> str:
        """As in ``PauseContainer``."""
        return self.full_name.rpartition("/")[2]

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


class Service(NamedTuple):
    """A service, as it is handed to a server."""

    name: str
    """As in ``ocigrpc.v1.RuntimeService``."""
    add_to: Callable[[grpc.Server], None]
    """Makes a server serve it; its handlers are given a ``Call`` for a context."""
    methods: Sequence[Method]
    """A row for each of its methods."""
    count_limits: Mapping[str, int] = {}
    """Most entries of some lists and maps of its requests, by the full names of their fields."""


class MethodTable:
    """The rows of all services of a server."""

    def __init__(self, services: Sequence[Service]) -> None:
        self._service_names = {service.name for service in services}
        self._rows = {row.full_name: row for service in services for row in service.methods}

    def find(self, path: str) -> Method | None:
        """The row of an RPC by its HTTP path, as in ``/ocigrpc.v1.RuntimeService/Version``.

        None for a service that has no rows. For a method that there is not, such as a client
        makes up, a new one.
        """
        service_name, _, name = path[1:].rpartition("/")
        if service_name not in self._service_names:
            return None
        unknown = Method(f"{service_name}/{cut(name, _NAME_LIMIT_BYTES)}", Kind.READ, "")
        return self._rows.get(path[1:], unknown)

    def places(self, unary_limit: int, stream_limit: int) -> Mapping[str, int]:
        """How many calls each budget has room for; that of unknown methods is the empty one."""
        return {
            "": unary_limit,
            **{
                method.budget: stream_limit if method.is_long else unary_limit
                for method in self._rows.values()
            },
        }
