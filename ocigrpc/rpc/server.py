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
from ocigrpc.settings.values import Settings, SocketSettings

# For health checks, and to refuse calls and streams above their limits.
_SPARE_THREADS = 16
# The share of the time to drain that is reserved for undoing calls that did not finish.
_UNDO_SHARE = 1 / 3
_OPTIONS = (
    # With it, two services on one address would share the clients.
    ("grpc.so_reuseport", 0),
    ("grpc.max_allowed_incoming_connections", CONNECTIONS_LIMIT),
    ("grpc.server_handshake_timeout_ms", 10_000),
    # Without it, a client whose host has disappeared would keep its streams open forever.
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    # If this is longer than the keepalive timeout, grpc uses it instead for the ping's answer.
    ("grpc.http2.ping_timeout_ms", 20_000),
)
# How long grpc may take to send the last answers.
_SEND_TIMEOUT_S = 1.0


class Server:
    """The gRPC servers at all listeners; see :func:`serving`."""

    def __init__(self, services: Sequence[Service], settings: Settings) -> None:
        self._services = services
        self._settings = settings
        self._methods = MethodTable(services)
        self._places = self._methods.places(
            settings.limits.unary_threads, settings.limits.stream_threads
        )
        self._admission = Admission(self._places, recovering=True)
        self._health = health.HealthServicer()
        self._set_health(serving=False)
        self._servers: list[grpc.Server] = []
        self.addresses: list[str] = []
        """The addresses of the listeners, as in ``unix:/run/ocigrpc/ocigrpc.sock``."""
        self._drained: bool | None = None

    def open(self) -> None:
        """Serve all calls, after the engine has recovered."""
        self._admission.end_recovery()
        self._set_health(serving=True)

    def drain(self, timeout_s: float) -> bool:
        """Let the running calls finish within ``timeout_s``, and stop; whether all finished.

        From now on, new calls and all waits are answered with UNAVAILABLE, and health checks
        with NOT_SERVING. Calls that still run when a third of the time remains are cancelled,
        so that the engine can undo what they began. A second call does nothing.
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
        """A server for one listener, which the caller binds and starts.

        It has its own threads, since the clients of one listener may occupy all of them.
        """
        # An upper limit: the pool only makes a thread when no other one is idle.
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
            # A call that did not end in time must not delay the end of the service.
            pool.shutdown(wait=False, cancel_futures=True)

    def _names(self) -> Sequence[str]:
        return [service.name for service in self._services]

    def _set_health(self, *, serving: bool) -> None:
        answer = health_pb2.HealthCheckResponse
        for name in (health.OVERALL_HEALTH, *self._names()):
            self._health.set(name, answer.SERVING if serving else answer.NOT_SERVING)


@contextmanager
def serving(services: Sequence[Service], settings: Settings) -> Iterator[Server]:
    """Servers for ``services`` at all addresses of ``settings``; they are drained at the end.

    Until ``open`` is called, only calls about the service itself are admitted. Raises
    ``InvalidSettings`` or ``HostFailed`` when an address can't be used.
    """
    with ExitStack() as stack:
        running = Server(services, settings)
        for socket, is_read_only in _sockets(settings):
            listener = Listener(f"unix:{socket.path}", is_read_only, socket.identify_peers)
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
    yield _socket("socket.path", settings.socket), False
    if settings.readonly_socket.path:
        yield _socket("readonly_socket.path", settings.readonly_socket), True


def _socket(key: str, wanted: SocketSettings) -> UnixSocket:
    return UnixSocket(key, wanted.path, wanted.mode, wanted.group, wanted.identify_peers)
