"""The gRPC servers: one engine behind every door, with reflection and health."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from ocigrpc.engine.engine import Engine
from ocigrpc.service.door import CONNECTIONS_LIMIT, Door
from ocigrpc.service.gate import Gate
from ocigrpc.service.interceptor import OTHER_STREAMS_LIMIT, Interceptor
from ocigrpc.service.policy import SERVICE_NAME, places
from ocigrpc.service.pool import Pool
from ocigrpc.service.runtime import add_runtime_service
from ocigrpc.service.tcp import start_on_tcp
from ocigrpc.service.unix_socket import UnixSocket, open_unix_socket
from ocigrpc.settings import Settings

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

    def __init__(self, engine: Engine, settings: Settings) -> None:
        self._engine = engine
        self._settings = settings
        self._gate = Gate(settings.unary_threads, settings.stream_threads)
        self._gate.hold()
        self._health = health.HealthServicer()
        _set_health(self._health, serving=False)
        self._servers: list[grpc.Server] = []
        self.addresses: list[str] = []
        """Where it serves, as in ``unix:/run/ocigrpc/ocigrpc.sock``."""
        self._drained: bool | None = None

    def open(self) -> None:
        """Serve all calls: the engine has recovered."""
        self._gate.open()
        _set_health(self._health, serving=True)

    def drain(self, timeout_s: float) -> bool:
        """Let the running calls finish, within ``timeout_s``, and end; whether all did.

        New calls and all waits are answered with UNAVAILABLE from now on, and health with
        NOT_SERVING. Calls that still run when a third of the time is left are cancelled,
        for the engine to undo what they began. The second time, it does nothing.
        """
        if self._drained is None:
            until_s = time.monotonic() + timeout_s
            self._health.enter_graceful_shutdown()
            self._gate.close()
            if not self._gate.wait_empty(until_s - timeout_s * _UNDO_SHARE):
                self._gate.dismiss_all()
            self._drained = self._gate.wait_empty(until_s)
            for ended in [server.stop(_SEND_TIMEOUT_S) for server in self._servers]:
                ended.wait(2 * _SEND_TIMEOUT_S)
        return self._drained

    @contextmanager
    def at(self, door: Door) -> Iterator[grpc.Server]:
        """A server for one door, to be bound and started.

        With threads of its own: clients of one door may hold all that there are.
        """
        rooms = places(self._settings.unary_threads, self._settings.stream_threads)
        # So many at most: each is made when there is none to spare.
        threads = sum(rooms.values()) + OTHER_STREAMS_LIMIT + _SPARE_THREADS
        pool = Pool(threads, thread_name_prefix="rpc")
        server = grpc.server(
            pool,
            interceptors=[Interceptor(self._gate, door)],
            options=[
                *_OPTIONS,
                ("grpc.max_receive_message_length", self._settings.max_message_bytes),
            ],
            maximum_concurrent_rpcs=threads,
        )
        add_runtime_service(self._engine, server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        names = (SERVICE_NAME, health.SERVICE_NAME, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, server)
        try:
            self._servers.append(server)
            yield server
        finally:
            server.stop(None)
            # A call that did not end in time must not hold up the end.
            pool.shutdown(wait=False, cancel_futures=True)


@contextmanager
def serving(engine: Engine, settings: Settings) -> Iterator[Server]:
    """Servers for ``engine`` at all the addresses of ``settings``, drained at the end.

    Until it is opened it answers calls that ask for the service itself, and no others.
    Raises ``InvalidSettings`` or ``HostFailed`` when an address can't be had.
    """
    with ExitStack() as stack:
        running = Server(engine, settings)
        for socket, is_read_only in _sockets(settings):
            door = Door(f"unix:{socket.path}", is_read_only)
            server = stack.enter_context(running.at(door))
            stack.enter_context(open_unix_socket(server, socket))
            running.addresses.append(door.address)
        if settings.tcp_address:
            server = stack.enter_context(running.at(Door(f"tcp:{settings.tcp_address}")))
            running.addresses.append(f"tcp:{start_on_tcp(server, settings)}")
        stack.callback(running.drain, settings.drain_timeout_s)
        yield running


def _sockets(settings: Settings) -> Iterator[tuple[UnixSocket, bool]]:
    """The sockets of the settings, and whether they are read-only."""
    for prefix, is_read_only in (("socket", False), ("readonly_socket", True)):
        path, mode, group = (
            getattr(settings, f"{prefix}_{what}") for what in ("path", "mode", "group")
        )
        if path:
            yield UnixSocket(f"{prefix}_path", path, mode, group), is_read_only


def _set_health(servicer: health.HealthServicer, *, serving: bool) -> None:
    answer = health_pb2.HealthCheckResponse
    for name in (health.OVERALL_HEALTH, SERVICE_NAME):
        servicer.set(name, answer.SERVING if serving else answer.NOT_SERVING)
