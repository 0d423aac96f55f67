"""The gRPC servers: the same services behind every listener, with reflection and health.

Where clients may change something, they have channelz as well, if the settings ask for it.
"""

from __future__ import annotations

import os
import socket
import time
from collections import ChainMap
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from types import MappingProxyType

import grpc
from grpc_health.v1 import health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2_grpc

from ocigrpc.errors import InvalidSettings
from ocigrpc.metrics import Reading
from ocigrpc.rpc.admission import Admission
from ocigrpc.rpc.call import Call
from ocigrpc.rpc.call_log import CallLog
from ocigrpc.rpc.health import HEALTH, Health
from ocigrpc.rpc.interceptor import OTHER_STREAMS_LIMIT, Interceptor
from ocigrpc.rpc.listener import CONNECTIONS_LIMIT, Listener
from ocigrpc.rpc.methods import MethodTable, Service
from ocigrpc.rpc.peer_proxy import PeerProxy
from ocigrpc.rpc.pool import Pool
from ocigrpc.rpc.tcp import Certificates, start_on_tcp
from ocigrpc.rpc.unix_socket import (
    UnixSocket,
    check_place,
    metrics_socket,
    open_unix_socket,
    take_over_socket,
)
from ocigrpc.settings.access import SocketSettings
from ocigrpc.settings.values import Settings

_CHANNELZ = "grpc.channelz.v1.Channelz"

# For single health checks, and to refuse calls and streams above their limits.
_SPARE_THREADS = 16
# The share of the time to drain that is reserved for undoing calls that did not finish.
_UNDO_SHARE = 1 / 3
# How long clients of streams may take to read that these end; at most the same share.
_READ_LIMIT_S = 2.0
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
# How long clients may take to leave for other connections, if these are to be had.
_LEAVE_TIMEOUT_S = 0.5
# How long grpc may take to send the last answers.
_SEND_TIMEOUT_S = 1.0


class Server:
    """The gRPC servers at all listeners; see :func:`serving`."""

    def __init__(self, services: Sequence[Service], settings: Settings) -> None:
        self._services = services
        self._settings = settings
        self._methods = MethodTable(services)
        self._places = self._places_of(settings)
        self._admission = Admission(self._places, recovering=True)
        self._call_log = CallLog(settings.log_calls)
        self._health = Health(self._names())
        self._servers: list[grpc.Server] = []
        self._handing_over: list[PeerProxy] = []
        self.addresses: list[str] = []
        """The addresses of the listeners, as in ``unix:/run/ocigrpc/ocigrpc.sock``."""
        self.own_address = ""
        """Where this process can connect to the first one, even if clients have all connections."""
        self._drained: bool | None = None

    def _places_of(self, settings: Settings) -> Mapping[str, int]:
        limits = settings.limits
        return self._methods.places(limits.unary_threads, limits.stream_threads)

    def reload(self, settings: Settings) -> None:
        """Use other limits, none of them higher than at the start, and log other calls."""
        self._call_log.calls = settings.log_calls
        self._admission.limit_to(self._places_of(settings))

    def running(self) -> Sequence[Call]:
        """The calls that are running, at all listeners."""
        return self._admission.running()

    def open(self) -> None:
        """Serve all calls, after the engine has recovered."""
        self._admission.end_recovery()
        self.show_health(serving=True)
        for proxy in self._handing_over:
            proxy.accept()

    def show_health(self, *, serving: bool) -> None:
        """Answer health checks so, until the server is drained."""
        self._health.show(serving=serving)

    def readings(self) -> Iterator[Reading]:
        """What calls occupy now, as metrics show it."""
        return self._admission.readings()

    def drain(self, timeout_s: float) -> bool:
        """Let the running calls finish within ``timeout_s``, and stop; whether all finished.

        From now on, new calls and all waits are answered with UNAVAILABLE, and health checks
        with NOT_SERVING. Streams whose clients do not read are cancelled after a moment. Calls
        that still run when a third of the time remains are cancelled, so that the engine can
        undo what they began. A second call does nothing.

        At sockets that it hands over it first sends the clients away, so that their next calls
        wait for the next service, and no call is refused.
        """
        if self._drained is None:
            for proxy in self._handing_over:
                proxy.send_away(_LEAVE_TIMEOUT_S)
            until_s = time.monotonic() + timeout_s
            self._health.end()
            self._admission.close()
            read_s = min(_READ_LIMIT_S, timeout_s * _UNDO_SHARE)
            if not self._admission.wait_empty(time.monotonic() + read_s):
                self._admission.cancel_streams()
            if not self._admission.wait_empty(until_s - timeout_s * _UNDO_SHARE):
                self._admission.dismiss_all()
            self._drained = self._admission.wait_empty(until_s)
            for ended in [server.stop(_SEND_TIMEOUT_S) for server in self._servers]:
                ended.wait(2 * _SEND_TIMEOUT_S)
        return self._drained

    @contextmanager
    def at_socket(
        self, wanted: UnixSocket, is_read_only: bool, inherited: socket.socket | None
    ) -> Iterator[None]:
        """Serve at a unix socket: one of its own, or the one that was inherited."""
        listener = Listener(f"unix:{wanted.path}", is_read_only, wanted.identify_peers)
        with self.at(listener) as server:
            self.addresses.append(listener.address)
            if inherited:
                with take_over_socket(server, wanted, inherited) as proxy:
                    self._handing_over.append(proxy)
                    self.own_address = self.own_address or listener.address
                    yield
            else:
                with open_unix_socket(server, wanted) as own_address:
                    self.own_address = self.own_address or own_address
                    yield

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
            interceptors=[
                Interceptor(self._admission, listener, self._methods, count_limits, self._call_log)
            ],
            options=[
                *_OPTIONS,
                ("grpc.max_receive_message_length", self._settings.limits.message_bytes),
            ],
            maximum_concurrent_rpcs=threads,
        )
        try:
            self._add_services(server, listener)
            self._servers.append(server)
            yield server
        finally:
            server.stop(None)
            # A call that did not end in time must not delay the end of the service.
            pool.shutdown(wait=False, cancel_futures=True)

    def _add_services(self, server: grpc.Server, listener: Listener) -> None:
        for service in self._services:
            service.add_to(server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        names = [*self._names(), HEALTH, reflection.SERVICE_NAME]
        # It shows who the clients of all listeners are, which is nothing for those of this one.
        if self._settings.channelz and not listener.is_read_only:
            _add_channelz(server)
            names.append(_CHANNELZ)
        # Not by ``enable_server_reflection``, which loads asyncio to look for servers of that.
        reflection_pb2_grpc.add_ServerReflectionServicer_to_server(
            reflection.ReflectionServicer(names), server
        )

    def _names(self) -> Sequence[str]:
        return [service.name for service in self._services]


def _add_channelz(server: grpc.Server) -> None:
    """Have a server show the connections and calls of this process.

    Raises ``InvalidSettings`` when the library is missing.
    """
    try:
        from grpc_channelz.v1 import channelz, channelz_pb2_grpc
    except ModuleNotFoundError as error:
        raise InvalidSettings(
            "channelz takes the package grpcio-channelz, which is not installed: it is the extra"
            " ocigrpc[channelz]",
            key="channelz",
            missing=error.name,
        ) from error
    # Not by ``add_channelz_servicer``, for the same reason as reflection.
    channelz_pb2_grpc.add_ChannelzServicer_to_server(channelz.ChannelzServicer(), server)


@contextmanager
def serving(
    services: Sequence[Service],
    settings: Settings,
    inherited: Mapping[str, socket.socket] = MappingProxyType({}),
) -> Iterator[Server]:
    """Servers for ``services`` at all addresses of ``settings``; they are drained at the end.

    Until ``open`` is called, only calls about the service itself are admitted, and at
    ``inherited`` sockets, by their paths, connections wait. Raises ``InvalidSettings`` or
    ``HostFailed`` when an address can't be used, or a socket is of no address.
    """
    require_places(settings, inherited)
    with ExitStack() as stack:
        running = Server(services, settings)
        for wanted, is_read_only in _sockets(settings):
            taken = inherited.get(wanted.path)
            stack.enter_context(running.at_socket(wanted, is_read_only, taken))
        if settings.tcp.address:
            server = stack.enter_context(running.at(Listener(f"tcp:{settings.tcp.address}")))
            running.addresses.append(f"tcp:{start_on_tcp(server, settings)}")
        stack.callback(running.drain, settings.timeouts.drain_s)
        yield running


def require_places(settings: Settings, inherited: Collection[str]) -> None:
    """Raise ``InvalidSettings`` for sockets and certificates with which no service could start.

    Nothing is made or bound. ``inherited`` are the paths of sockets that the init system has made.
    """
    sockets = [wanted for wanted, _ in _sockets(settings)]
    unknown = set(inherited).difference(wanted.path for wanted in sockets)
    if unknown:
        raise InvalidSettings(
            f"socket.path: {settings.socket.path} is not {', '.join(sorted(unknown))}, where the"
            " init system listens: correct this setting, or ListenStream= of the socket unit",
            key="socket.path",
        )
    if settings.metrics.socket_path:
        sockets.append(metrics_socket(settings.metrics))
    for wanted in sockets:
        # A start may make the directory, and an inherited socket has permissions of its own.
        if wanted.path not in inherited and os.path.isdir(os.path.dirname(wanted.path)):
            check_place(wanted)
    if settings.tcp.address and not settings.tcp.insecure_loopback:
        Certificates(settings.tls)


def _sockets(settings: Settings) -> Iterator[tuple[UnixSocket, bool]]:
    """The sockets of the settings, and whether they are read-only."""
    yield _socket("socket.path", settings.socket), False
    if settings.readonly_socket.path:
        yield _socket("readonly_socket.path", settings.readonly_socket), True


def _socket(key: str, wanted: SocketSettings) -> UnixSocket:
    return UnixSocket(key, wanted.path, wanted.mode, wanted.group, wanted.identify_peers)
