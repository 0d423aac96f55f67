"""Health checks, by the protocol ``grpc.health.v1``.

The library's own servicer keeps every name that a client has ever watched. It also sends while it
holds its only lock, so that one client that does not read keeps all others from an answer.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

HEALTH = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name
# The name of all services together.
_WHOLE = ""

_Answer = health_pb2.HealthCheckResponse


class Health(health_pb2_grpc.HealthServicer):
    """One answer for the whole and for each of the services; NOT_SERVING at first.

    Every client that watches it occupies a thread.
    """

    def __init__(self, services: Collection[str]) -> None:
        self._names = frozenset((_WHOLE, *services))
        self._changed = threading.Condition()
        self._serving = False
        self._ended = False

    def show(self, *, serving: bool) -> None:
        """Answer so from now on, unless it has ended."""
        with self._changed:
            self._serving = serving and not self._ended
            self._changed.notify_all()

    def end(self) -> None:
        """Answer NOT_SERVING for good."""
        self._ended = True
        self.show(serving=False)

    def Check(
        self, request: health_pb2.HealthCheckRequest, context: grpc.ServicerContext
    ) -> health_pb2.HealthCheckResponse:
        """The answer for one name."""
        if request.service not in self._names:
            context.abort(grpc.StatusCode.NOT_FOUND, "there is no such service")
        return _Answer(status=self._status(request.service))

    def Watch(
        self, request: health_pb2.HealthCheckRequest, context: grpc.ServicerContext
    ) -> Iterator[health_pb2.HealthCheckResponse]:
        """The answer for one name, and each one after it, until the client goes."""
        context.add_callback(self._wake)
        sent: int = _Answer.UNKNOWN
        while context.is_active():
            sent = self._other(sent, request.service, context)
            yield _Answer(status=sent)

    def _wake(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def _other(self, sent: int, name: str, context: grpc.ServicerContext) -> int:
        """What is to be answered once that has changed, or the client has gone."""
        with self._changed:
            self._changed.wait_for(lambda: self._status(name) != sent or not context.is_active())
            return self._status(name)

    def _status(self, name: str) -> int:
        if name not in self._names:
            return _Answer.SERVICE_UNKNOWN
        return _Answer.SERVING if self._serving else _Answer.NOT_SERVING
