"""The gRPC servers: the same services behind every listener, with reflection and health."""

from __future__ import annotations

import time
from collections import ChainMap
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from ocigrpc.rpc.admission import Admission
from ocigrpc.rpc.interceptor import OTHER_STREAMS_LIMIT, Interceptor
from ocigrpc.rpc.listener import CONNECTIONS_LIMIT, Listener
from ocigrpc.rpc.methods import MethodTable, Service
from ocigrpc.rpc.pool import Pool
from ocigrpc.rpc.tcp import start_on_tcp
from ocigrpc.rpc.unix_socket import UnixSocket, open_unix_socket
from ocigrpc.settings.values import Settings

# For health checks, and to say no to the calls and streams above their limits.
_SPARE_THREADS = 16
# Of the time to drain, what is kept for undoing the calls that did not finish.
_UNDO_SHARE = 1 / 3
_OPTIONS = (
    # Two services on one address would share its clients.
    ("grpc.so_reuseport", 0),
    ("grpc.max_allowed_incoming_connections", CONNECTIONS_LIMIT),
    ("grpc.server_handshake_timeout_ms", 10_000),
    # A client whose host has gone says no more, and would hold its streams for ever.
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    # grpc waits for the answer of a ping by this one instead, if it is longer.
    ("grpc.http2.ping_timeout_ms", 20_000),
)
# For grpc to send the last answers.
_SEND_TIMEOUT_S = 1.0


class Server:
    """What serves at all doors; see :func:`serving`."""

    def __init__(self, services: Sequence[Service], settings: Settings) -> None:
        self._services = services
        self._settings = settings
        self._methods = MethodTable(services)
        self._places = self._methods.places(
            settings.limits.unary_threads, settings.limits.stream_threads
        )
        self._admission = Admission(self._places)
        self._admission.hold()
        self._health = health.HealthServicer()
        self._set_health(serving=False)
        self._servers: list[grpc.Server] = []
        self.addresses: list[str] = []
        """Where it serves, as in ``unix:/run/ocigrpc/ocigrpc.sock``."""
        self._drained: bool | None = None

    def open(self) -> None:
        """Serve all calls: the engine has recovered."""
        self._admission.open()
        self._set_health(serving=True)

    def drain(self, timeout_s: float) -> bool:
        """Let the running calls finish, within ``timeout_s``, and end; whether all did.

        New calls and all waits are answered with UNAVAILABLE from now on, and health with
        NOT_SERVING. Calls that still run when a third of the time is left are cancelled,
        for the engine to undo what they began. The second time, it does nothing.
        """
        if self._drained is None:
            until_s = time.monotonic() + timeout_s
            self._health.enter_graceful_shutdown()
            self._admission.close()
            if not self._admission.wait_empty(until_s - timeout_s * _UNDO_SHARE):
                self._admission.dismiss_all()
            self._drained = self._admission.wait_empty(until_s)
            for ended in [server.stop(_SEND_TIMEOUT_S) for server in self._servers]:
                ended.wait(2 * _SEND_TIMEOUT_S)
        return self._drained

    @contextmanager
    def at(self, listener: Listener) -> Iterator[grpc.Server]:
        """A server for one listener, to be bound and started.

        With threads of its own: clients of one listener may hold all that there are.
        """
        # So many at most: each is made when there is none to spare.
        threads = sum(self._places.values()) + OTHER_STREAMS_LIMIT + _SPARE_THREADS
        pool = Pool(threads, thread_name_prefix="rpc")
        count_limits = dict(ChainMap(*(dict(each.count_limits) for each in self._services)))
        server = grpc.server(
            pool,
            interceptors=[Interceptor(self._admission, listener, self._methods, count_limits)],
            options=[
                *_OPTIONS,
                ("grpc.max_receive_message_length", self._settings.limits.message_bytes),
            ],
            maximum_concurrent_rpcs=threads,
        )
        for service in self._services:
            service.add_to(server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        names = (*self._names(), health.SERVICE_NAME, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, server)
        try:
            self._servers.append(server)
            yield server
        finally:
            server.stop(None)
            # A call that did not end in time must not hold up the end.
            pool.shutdown(wait=False, cancel_futures=True)

    def _names(self) -> Sequence[str]:
        return [service.name for service in self._services]

    def _set_health(self, *, serving: bool) -> None:
        answer = health_pb2.HealthCheckResponse
        for name in (health.OVERALL_HEALTH, *self._names()):
            self._health.set(name, answer.SERVING if serving else answer.NOT_SERVING)


@contextmanager
def serving(services: Sequence[Service], settings: Settings) -> Iterator[Server]:
    """Servers for ``services`` at all the addresses of ``settings``, drained at the end.

    Until it is opened it answers calls that ask for the service itself, and no others.
    Raises ``InvalidSettings`` or ``HostFailed`` when an address can't be had.
    """
    with ExitStack() as stack:
        running = Server(services, settings)
        for socket, is_read_only in _sockets(settings):
            listener = Listener(f"unix:{socket.path}", is_read_only)
            server = stack.enter_context(running.at(listener))
            stack.enter_context(open_unix_socket(server, socket))
            running.addresses.append(listener.address)
        if settings.tcp.address:
            server = stack.enter_context(running.at(Listener(f"tcp:{settings.tcp.address}")))
            running.addresses.append(f"tcp:{start_on_tcp(server, settings)}")
        stack.callback(running.drain, settings.timeouts.drain_s)
        yield running


def _sockets(settings: Settings) -> Iterator[tuple[UnixSocket, bool]]:
    """The sockets of the settings, and whether they are read-only."""
    usual, readonly = settings.socket, settings.readonly_socket
    yield UnixSocket("socket.path", usual.path, usual.mode, usual.group), False
    if readonly.path:
        key = "readonly_socket.path"
        yield UnixSocket(key, readonly.path, readonly.mode, readonly.group), True
