"""The policy of each RPC: one row per method, by its full name, in the service that has it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from typing import NamedTuple

import grpc

from ocigrpc.errors import cut

# Longest name of an unknown method in the log and in the answer.
_NAME_LIMIT_BYTES = 64

# What metrics and traces call all methods that a service does not have, and their budget: clients
# can invent any number of names.
UNKNOWN = "unknown"

# Clients round up the time that they send, by at most this share: grpc sends no more than three
# digits of it.
_ROUNDING_SHARE = 0.01


class Kind(Enum):
    """What a call does, and so which others must not delay it."""

    READ = "read"
    """Reads state."""
    SLOW = "slow"
    """Runs programs that change something, and takes as long as they do."""
    RESCUE = "rescue"
    """Ends something; an administrator needs it when nothing else works."""
    WAIT = "wait"
    """Takes one request, and answers when something ends."""
    STREAM = "stream"
    """Continues until one side ends it."""


class Method(NamedTuple):
    """The policy of one RPC."""

    full_name: str
    """As in ``ocigrpc.v1.RuntimeService/PauseContainer``."""
    kind: Kind
    budget: str
    """Methods with the same budget share its places, and no other call takes one of them."""
    is_read_only: bool = False
    """Whether it changes nothing, and so may be called at a read-only address."""
    is_long: bool = False
    """Whether the client decides how long it takes; the limit is then that of streams."""
    while_recovering: bool = False
    """Whether it is admitted before the service has found its containers again."""
    answer_share: float = 0.1
    """The share of the client's time that is reserved for the answer, so that our error arrives
    before the client's own deadline. 0 if even the last moment can matter to the client."""
    answer_limit_s: float = math.inf
    """Most seconds that are reserved for the answer, besides the clients' rounding."""
    is_single: bool = False
    """Whether only one may run at a time, at all listeners together, whatever the limits."""

    @property
    def service_name(self) -> str:
        """As in ``ocigrpc.v1.RuntimeService``."""
        return self.full_name.rpartition("/")[0]

    @property
    def name(self) -> str:
        """As in ``PauseContainer``."""
        return self.full_name.rpartition("/")[2]

    @property
    def known_name(self) -> str:
        """The full name, in which ``unknown`` is all that the service does not have."""
        return self.full_name if self.budget else f"{self.service_name}/{UNKNOWN}"

    @property
    def is_stream(self) -> bool:
        """Whether it may never end by itself, so that it is dismissed when the service stops."""
        return self.kind in (Kind.WAIT, Kind.STREAM)

    def places(self, unary_limit: int, stream_limit: int) -> int:
        """The number of calls in its budget."""
        if self.is_single:
            return 1
        return stream_limit if self.is_long else unary_limit

    def work_s(self, remaining_s: float) -> float:
        """The part of the client's remaining time that the work itself may take."""
        if math.isinf(remaining_s):
            return remaining_s
        answer_s = self.answer_limit_s + remaining_s * _ROUNDING_SHARE
        return remaining_s - min(remaining_s * self.answer_share, answer_s)


class Service(NamedTuple):
    """A service, as a server gets it."""

    name: str
    """As in ``ocigrpc.v1.RuntimeService``."""
    add_to: Callable[[grpc.Server], None]
    """Registers it with a server; its handlers get a ``Call`` as the context."""
    methods: Sequence[Method]
    """The policies of its methods."""
    count_limits: Mapping[str, int] = {}
    """Limits of ``check_counts``: most entries of lists and maps, by full names of fields."""


class MethodTable:
    """The policies of all services of a server."""

    def __init__(self, services: Sequence[Service]) -> None:
        self._service_names = {service.name for service in services}
        self._rows = {row.full_name: row for service in services for row in service.methods}

    def find(self, path: str) -> Method | None:
        """The policy of an RPC by its HTTP path, as in ``/ocigrpc.v1.RuntimeService/Version``.

        None for a service without policies; a new one for a method that a service does not have.
        """
        service_name, _, name = path[1:].rpartition("/")
        if service_name not in self._service_names:
            return None
        unknown = Method(f"{service_name}/{cut(name, _NAME_LIMIT_BYTES)}", Kind.READ, "")
        return self._rows.get(path[1:], unknown)

    def places(self, unary_limit: int, stream_limit: int) -> Mapping[str, int]:
        """The number of calls in each budget; the one of unknown methods has an empty name."""
        return {
            "": unary_limit,
            **{
                method.budget: method.places(unary_limit, stream_limit)
                for method in self._rows.values()
            },
        }
