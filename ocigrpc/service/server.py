"""The gRPC server: one engine behind one unix socket, with reflection and health."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from ocigrpc.engine.engine import Engine
from ocigrpc.service.gate import Gate
from ocigrpc.service.interceptor import OTHER_STREAMS_LIMIT, SERVICE_NAME, Interceptor
from ocigrpc.service.runtime import add_runtime_service
from ocigrpc.service.unix_socket import UnixSocket, open_unix_socket
from ocigrpc.settings import Settings

# For health checks, and to say no to the calls and streams above their limits.
_SPARE_THREADS = 16
# Of the time to drain, what is kept for undoing the calls that did not finish.
_UNDO_SHARE = 1 / 3
# For grpc to send the last answers.
_SEND_TIMEOUT_S = 1.0


class Server:
    """A server that runs; see :func:`serving`."""

    def __init__(self, server: grpc.Server, gate: Gate, health_servicer: health.HealthServicer):
        self._server = server
        self._gate = gate
        self._health = health_servicer
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
            self._server.stop(_SEND_TIMEOUT_S).wait(2 * _SEND_TIMEOUT_S)
        return self._drained


@contextmanager
def serving(engine: Engine, settings: Settings) -> Iterator[Server]:
    """A server for ``engine`` on the socket that ``settings`` name, drained at the end.

    Until it is opened it answers calls that ask for the service itself, and no others.
    Raises ``InvalidSettings`` or ``HostFailed`` when the socket can't be had.
    """
    gate = Gate(settings.unary_threads, settings.stream_threads)
    gate.hold()
    threads = settings.unary_threads + settings.stream_threads
    threads += OTHER_STREAMS_LIMIT + _SPARE_THREADS
    pool = ThreadPoolExecutor(threads, thread_name_prefix="rpc")
    server = grpc.server(
        pool,
        interceptors=[Interceptor(gate)],
        options=[
            # Two services on one address would share its clients.
            ("grpc.so_reuseport", 0),
            ("grpc.max_receive_message_length", settings.max_message_bytes),
        ],
        maximum_concurrent_rpcs=threads,
    )
    health_servicer = _add_services(engine, server)
    try:
        with open_unix_socket(server, _socket(settings)):
            running = Server(server, gate, health_servicer)
            try:
                yield running
            finally:
                running.drain(settings.drain_timeout_s)
    finally:
        server.stop(None)
        # A call that did not end in time must not hold up the end.
        pool.shutdown(wait=False, cancel_futures=True)


def _socket(settings: Settings) -> UnixSocket:
    return UnixSocket(
        "socket_path", settings.socket_path, settings.socket_mode, settings.socket_group
    )


def _add_services(engine: Engine, server: grpc.Server) -> health.HealthServicer:
    add_runtime_service(engine, server)
    health_servicer = health.HealthServicer()
    _set_health(health_servicer, serving=False)
    health_pb2_grpc.add_HealthServicer_to_server(health_servicer, server)
    names = (SERVICE_NAME, health.SERVICE_NAME, reflection.SERVICE_NAME)
    reflection.enable_server_reflection(names, server)
    return health_servicer


def _set_health(servicer: health.HealthServicer, *, serving: bool) -> None:
    answer = health_pb2.HealthCheckResponse
    for name in (health.OVERALL_HEALTH, SERVICE_NAME):
        servicer.set(name, answer.SERVING if serving else answer.NOT_SERVING)
