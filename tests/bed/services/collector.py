"""A collector of OpenTelemetry, which takes spans by OTLP over HTTP."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from tests.bed.hosts.leaks import until


class Received(NamedTuple):
    """A span, as it was received."""

    name: str
    trace_id: str
    span_id: str
    parent_id: str
    kind: int
    attributes: dict[str, str | int]
    failed: bool
    began_ns: int
    ended_ns: int
    resource: dict[str, str | int]


class Collector:
    """Notes what it receives; it answers only while ``works`` is set."""

    def __init__(self, port: int) -> None:
        self._server = _Server(("127.0.0.1", port), _Handler)
        self._server.collector = self
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self.received: list[Received] = []
        self.works = threading.Event()
        self.works.set()
        self.asked = threading.Event()
        self.requests = 0
        self.odd: Callable[[BaseHTTPRequestHandler], None] | None = None
        """How it answers instead, if it does not as it should."""
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def close(self) -> None:
        self.works.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def take(self, body: bytes) -> None:
        request = ExportTraceServiceRequest.FromString(body)
        for of_resource in request.resource_spans:
            resource = _values(of_resource.resource.attributes)
            for of_scope in of_resource.scope_spans:
                self.received += [_received(span, resource) for span in of_scope.spans]

    def named(self, name: str) -> list[Received]:
        return [each for each in self.received if each.name.rpartition("/")[2] == name]

    def first(self, name: str) -> Received:
        """The first span with a name, or a method of that name, once it is there."""
        until(lambda: bool(self.named(name)))
        return self.named(name)[0]


def _received(span: Span, resource: dict[str, str | int]) -> Received:
    return Received(
        span.name,
        span.trace_id.hex(),
        span.span_id.hex(),
        span.parent_span_id.hex(),
        span.kind,
        _values(span.attributes),
        span.status.code == Status.STATUS_CODE_ERROR,
        span.start_time_unix_nano,
        span.end_time_unix_nano,
        resource,
    )


def _values(attributes: Iterable[KeyValue]) -> dict[str, str | int]:
    return {each.key: _value(each) for each in attributes}


def _value(attribute: KeyValue) -> str | int:
    value = attribute.value
    found: str | int = value.int_value if value.HasField("int_value") else value.string_value
    return found


class _Server(ThreadingHTTPServer):
    collector: Collector

    def handle_error(self, request: object, client_address: object) -> None:
        """Write nothing of a client that has left before its answer."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_POST(self) -> None:
        collector = self.server.collector
        body = self.rfile.read(int(self.headers["Content-Length"]))
        collector.asked.set()
        collector.requests += 1
        collector.works.wait()
        if collector.odd:
            collector.odd(self)
            return
        if self.path != "/v1/traces" or self.headers["Content-Type"] != "application/x-protobuf":
            self.send_error(404)
            return
        collector.take(body)
        answer = ExportTraceServiceResponse().SerializeToString()
        self.send_response(200)
        self.send_header("Content-Type", "application/x-protobuf")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, format: str, *args: object) -> None:
        """Write nothing."""


@contextmanager
def collecting(port: int = 0) -> Iterator[Collector]:
    """A collector at a port of loopback, any free one by default."""
    collector = Collector(port)
    try:
        yield collector
    finally:
        collector.close()
