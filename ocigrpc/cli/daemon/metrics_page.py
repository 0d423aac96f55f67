"""The page that Prometheus reads, by HTTP at an address or a socket of its own."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING, Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from ocigrpc.errors import HostFailed
from ocigrpc.log import get_logger
from ocigrpc.metrics import Source, start_counting
from ocigrpc.rpc.unix_socket import metrics_socket, socket_file
from ocigrpc.settings.access import MetricsSettings
from ocigrpc.settings.rules import TcpAddress

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

log = get_logger()

# Most clients at once, each of which has a thread; further connections are closed.
CLIENTS_LIMIT = 8

# How long a client may take altogether, however little it sends or takes at a time.
CLIENT_LIMIT_S = 10.0

_ACCEPT_RETRY_S = 0.1

# How often the server looks whether it is to end.
_END_CHECK_S = 0.05


class _Handler(WSGIRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Write no line for each scrape."""


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True

    def __init__(self, listener: socket.socket) -> None:
        """``listener`` is of the server from now on."""
        self._places = threading.BoundedSemaphore(CLIENTS_LIMIT)
        # Not bound by HTTPServer, which looks up the name of the address: that may take long.
        super().__init__(("", 0), _Handler, bind_and_activate=False)
        self.socket.close()
        self.socket = listener
        self.server_name, self.server_port = "metrics", 0
        self.setup_environ()

    def get_request(self) -> tuple[socket.socket, Any]:
        try:
            # Nobody asks for the client's address, and one at a unix socket has none.
            return self.socket.accept()[0], ("", 0)
        except OSError:
            # As when there are no descriptors left: then it would be asked again at once.
            time.sleep(_ACCEPT_RETRY_S)
            raise

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._places.acquire(blocking=False):
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except RuntimeError:
            # It could start no thread.
            self._places.release()
            raise

    def finish_request(self, request: Any, client_address: Any) -> None:
        with _cut_off(request):
            super().finish_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._places.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        log.debug("metrics.connection_failed", exc_info=True)


@contextmanager
def _cut_off(connection: socket.socket) -> Iterator[None]:
    """End a connection, which is in use in a ``with``, when its client has had its time."""

    def cut() -> None:
        with suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(CLIENT_LIMIT_S, cut)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        # Its descriptor may be another connection's soon.
        timer.join()


def logged(application: WSGIApplication) -> WSGIApplication:
    """The same, with its failures in the log, and not as plain text among the lines of that.

    It always answers in Prometheus's own text format: the library fails for some versions that
    a client may ask for, and nobody shall write to the log.
    """

    def answer(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        environ.pop("HTTP_ACCEPT", None)
        try:
            return application(environ, start_response)
        except Exception:
            log.error("metrics.failed", exc_info=True)
            start_response("500 Internal Server Error", [])
            return ()

    return answer


@contextmanager
def open_metrics_page(metrics: MetricsSettings, *sources: Source) -> Iterator[None]:
    """Count from now on, and serve the metrics at their address in the block, whatever the path.

    Raises ``InvalidSettings`` when the library is missing or a socket's path can't be used,
    ``HostFailed`` when the address is in use or the host refuses it.
    """
    application = start_counting(*sources)
    place = _at_socket(metrics) if metrics.socket_path else _at_port(metrics.address)
    with place as (listener, url), _Server(listener) as server:
        server.set_app(logged(application))
        thread = threading.Thread(
            target=server.serve_forever, args=(_END_CHECK_S,), name="metrics", daemon=True
        )
        thread.start()
        log.info("metrics.served", url=url)
        try:
            yield
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def _at_socket(metrics: MetricsSettings) -> Iterator[tuple[socket.socket, str]]:
    """A listening unix socket, and its address for the log."""
    with socket.socket(socket.AF_UNIX) as listener:

        def listen(path: str, _: str) -> None:
            listener.bind(path)
            listener.listen(CLIENTS_LIMIT)

        with socket_file(metrics_socket(metrics), listen):
            yield listener, f"unix://{metrics.socket_path}"


@contextmanager
def _at_port(address: str) -> Iterator[tuple[socket.socket, str]]:
    """A listening socket of TCP, and its address for the log."""
    wanted = TcpAddress.parse(address)
    family = socket.AF_INET6 if wanted.host.startswith("[") else socket.AF_INET
    with socket.socket(family) as listener:
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((wanted.host.strip("[]"), wanted.port))
            listener.listen(CLIENTS_LIMIT)
        except OSError as error:
            text = error.strerror or str(error)
            raise HostFailed(
                f"can't listen on {wanted} for metrics: {text}",
                reason="ADDRESS_UNUSABLE",
                address=wanted,
                error=text,
            ) from error
        bound = wanted._replace(port=listener.getsockname()[1])
        yield listener, f"http://{bound}/metrics"
