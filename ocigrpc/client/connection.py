"""A connection to a service, and calls whose failures are the service's exceptions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Protocol, TypeVar

from ocigrpc.client.channel import DEFAULT_ADDRESS, Tls, open_channel
from ocigrpc.client.failures import require_reachable, translated
from ocigrpc.client.stream import Stream
from ocigrpc.closing import Closing
from ocigrpc.v1.image_pb2_grpc import ImageServiceStub
from ocigrpc.v1.runtime_pb2_grpc import RuntimeServiceStub

if TYPE_CHECKING:
    import grpc

# How long a call that should end soon may take, unless the client was made with another limit.
_CALL_LIMIT_S = 120.0

_Request = TypeVar("_Request")
_Response = TypeVar("_Response")
_Response_co = TypeVar("_Response_co", covariant=True)


class _Responses(Protocol[_Response_co]):
    """A stream's responses, as gRPC has them."""

    def __iter__(self) -> Iterator[_Response_co]: ...

    def cancel(self) -> bool: ...


class Connection(Closing):
    """What the client has beside its methods; see :class:`ocigrpc.client.Client`."""

    def __init__(
        self,
        address: str = DEFAULT_ADDRESS,
        *,
        tls: Tls | None = None,
        timeout_s: float = _CALL_LIMIT_S,
    ) -> None:
        self.address = address
        self._timeout_s = timeout_s
        require_reachable(address, timeout_s)
        self._channel = open_channel(address, tls)
        self._runtime = RuntimeServiceStub(self._channel)
        self._images = ImageServiceStub(self._channel)

    def close(self) -> None:
        """Close the connection; calls that still run are cancelled."""
        self._channel.close()

    def _call(
        self, call: grpc.UnaryUnaryMultiCallable[_Request, _Response], request: _Request
    ) -> _Response:
        return self._call_within(self._timeout_s, call, request)

    def _call_within(
        self,
        limit_s: float | None,
        call: grpc.UnaryUnaryMultiCallable[_Request, _Response],
        request: _Request,
    ) -> _Response:
        with translated(self.address):
            return call(request, timeout=limit_s)

    def _stream(self, responses: _Responses[_Response]) -> Stream[_Response]:
        """The responses of a call that has begun."""
        return Stream(responses, iter(responses), self.address)
