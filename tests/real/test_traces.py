"""The traces of a service: what a collector receives, and that no call waits for one."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import datetime
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import TypeAlias

import grpc
import pytest

from ocigrpc.cli.daemon.traces import FLUSH_LIMIT_S
from ocigrpc.v1 import event_pb2, runtime_pb2
from tests.bed.clients.refusal import refused
from tests.bed.faults.runtimes import Switches
from tests.bed.hosts.host import native
from tests.bed.hosts.leaks import LIMIT_S, until
from tests.bed.hosts.usage import usage_of
from tests.bed.services.collector import Collector, Received, collecting
from tests.bed.services.service import Service
from tests.real.conftest import StartService, serving, used

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
CALLER_ID = "b7ad6b7169203331"

# Of OpenTelemetry's kinds of spans.
INTERNAL, SERVER = 1, 2

_TIMEOUT_S = 0.5
"""How long a collector has to answer."""

RawCall: TypeAlias = "grpc.UnaryUnaryMultiCallable[bytes, bytes]"


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with collecting() as collector:
        yield collector


@pytest.fixture(scope="module")
def _traced(rootfs: Path, collector: Collector, switches: Switches) -> Iterator[Service]:
    runtimes = {"switched": {"path": str(switches.path)}}
    with pytest.MonkeyPatch.context() as patch, native() as host:
        patch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
        with serving(
            host, rootfs, runtimes=runtimes, log_calls="all", traces_endpoint=collector.url
        ) as service:
            yield service


@pytest.fixture
def service(_traced: Service, collector: Collector) -> Iterator[Service]:
    collector.received.clear()
    with used(_traced):
        yield _traced


def within(collector: Collector, call: Received) -> list[Received]:
    """The spans of what a call does, in their order; they are sent before its own."""
    parts = [each for each in collector.received if each.parent_id == call.span_id]
    return sorted(parts, key=lambda each: each.began_ns)


def test_a_create_is_a_span_in_the_trace_of_its_caller_and_its_phases_are_in_it(
    service: Service, collector: Collector
) -> None:
    request = runtime_pb2.CreateContainerRequest(config=service.config("exit 0"))
    metadata = (("traceparent", f"00-{TRACE_ID}-{CALLER_ID}-01"), ("x-request-id", "mine"))
    made = service.wire.CreateContainer(request, timeout=LIMIT_S, metadata=metadata)
    call = collector.first("CreateContainer")
    assert (call.trace_id, call.parent_id, call.kind) == (TRACE_ID, CALLER_ID, SERVER)
    assert call.name == "ocigrpc.v1.RuntimeService/CreateContainer"
    assert not call.failed
    assert {
        "rpc.system.name": "grpc",
        "rpc.method": call.name,
        "rpc.response.status_code": "OK",
        "ocigrpc.request_id": "mine",
        "ocigrpc.container_id": made.container_id,
    }.items() <= call.attributes.items()
    assert {"service.name": "ocigrpc"}.items() <= call.resource.items()
    phases = within(collector, call)
    assert [each.name for each in phases] == ["spawn", "cgroup", "monitor", "sync"]
    assert {(each.trace_id, each.kind) for each in phases} == {(TRACE_ID, INTERNAL)}
    moments = [call.began_ns]
    for each in phases:
        moments += [each.began_ns, each.ended_ns]
    assert moments == sorted(moments)
    assert moments[-1] <= call.ended_ns


def test_a_run_of_a_runtime_is_a_span_of_the_call_that_it_is_for(
    service: Service, collector: Collector
) -> None:
    service.run(runtime_handler="switched")
    call = collector.first("StartContainer")
    assert "switched start" in [each.name for each in within(collector, call)]


def test_a_call_that_fails_has_its_code_and_reason(service: Service, collector: Collector) -> None:
    with refused("NOT_FOUND", "CONTAINER_NOT_FOUND"):
        service.start_container("nobody")
    call = collector.first("StartContainer")
    assert call.attributes["rpc.response.status_code"] == "NOT_FOUND"
    assert call.attributes["error.type"] == "CONTAINER_NOT_FOUND"
    # It is the client that is mistaken.
    assert not call.failed


def test_the_phase_in_which_a_create_fails_has_failed_as_the_call_has(
    service: Service, collector: Collector, switches: Switches
) -> None:
    with switches.on("create", "exit 1"), refused("INTERNAL", "RUNTIME_FAILED"):
        service.create(runtime_handler="switched")
    call = collector.first("CreateContainer")
    failed = [each.name for each in within(collector, call) if each.failed]
    assert call.failed
    assert call.attributes["error.type"] == "RUNTIME_FAILED"
    assert failed[0] == "sync"


def test_a_stream_is_a_span_until_its_client_leaves(service: Service, collector: Collector) -> None:
    watch = service.wire.WatchEvents(event_pb2.WatchEventsRequest(), timeout=LIMIT_S)
    next(watch)
    watch.cancel()
    call = collector.first("WatchEvents")
    assert call.attributes["rpc.response.status_code"] == "CANCELLED"
    assert not call.failed


def test_no_client_can_add_a_name_of_a_span(service: Service, collector: Collector) -> None:
    with refused("UNIMPLEMENTED"):
        call: RawCall = service.channel.unary_unary("/ocigrpc.v1.RuntimeService/Invented")
        call(b"", timeout=LIMIT_S)
    assert collector.first("unknown").name == "ocigrpc.v1.RuntimeService/unknown"


def test_what_is_no_trace_context_begins_a_trace_of_its_own(
    service: Service, collector: Collector
) -> None:
    request = runtime_pb2.VersionRequest()
    for text in ("", "00-0-0-01", f"ff-{TRACE_ID}-{CALLER_ID}-01", "x" * 4096):
        service.wire.Version(request, timeout=LIMIT_S, metadata=(("traceparent", text),))
    until(lambda: len(collector.named("Version")) == 4)
    assert {each.parent_id for each in collector.named("Version")} == {""}
    assert len({each.trace_id for each in collector.named("Version")} - {TRACE_ID}) == 4


def test_a_call_that_its_caller_does_not_record_is_not_recorded(
    service: Service, collector: Collector
) -> None:
    request = runtime_pb2.VersionRequest()
    unsampled = (("traceparent", f"00-{TRACE_ID}-{CALLER_ID}-00"),)
    service.wire.Version(request, timeout=LIMIT_S, metadata=unsampled)
    service.wire.Status(runtime_pb2.StatusRequest(), timeout=LIMIT_S)
    collector.first("Status")
    assert collector.named("Version") == []


def test_lines_of_the_log_name_the_trace(service: Service, collector: Collector) -> None:
    service.create()
    call = collector.first("CreateContainer")
    lines = [each for each in service.events() if each.get("trace_id") == call.trace_id]
    assert {"container.created", "rpc.finished"} <= {each["event"] for each in lines}


def test_spans_that_wait_are_sent_before_the_end(
    start_service: StartService, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "3600000")
    service = start_service()
    service.wire.Version(runtime_pb2.VersionRequest(), timeout=LIMIT_S)
    collector.received.clear()
    service.end()
    assert collector.named("Version")


def lost(service: Service) -> list[dict[str, object]]:
    return [each for each in service.events() if each["event"] == "traces.lost"]


def test_a_collector_that_hangs_delays_neither_calls_nor_the_end(
    start_service: StartService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "10")
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "8")
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "8")
    with collecting() as collector:
        service = start_service(traces_endpoint=collector.url)
        collector.works.clear()
        service.wire.Version(runtime_pb2.VersionRequest(), timeout=LIMIT_S)
        assert collector.asked.wait(LIMIT_S)
        # More than the queue takes.
        for _ in range(40):
            service.wire.Version(runtime_pb2.VersionRequest(), timeout=LIMIT_S)
        began_s = time.monotonic()
        service.end()
        assert time.monotonic() - began_s < FLUSH_LIMIT_S + LIMIT_S / 4
        assert len(lost(service)) == 1


def test_a_collector_that_is_away_is_reported_once_and_again_when_it_is_back(
    start_service: StartService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "10")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "0.2")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    service = start_service(traces_endpoint=f"http://127.0.0.1:{port}", log_level="debug")

    def failures() -> int:
        service.wire.Version(runtime_pb2.VersionRequest(), timeout=LIMIT_S)
        return sum(each["event"] == "traces.library" for each in service.events())

    until(lambda: failures() >= 3)
    assert len(lost(service)) == 1
    with collecting(port):

        def back() -> list[dict[str, object]]:
            failures()
            return [each for each in service.events() if each["event"] == "traces.sent_again"]

        until(lambda: bool(back()))
        assert int(str(back()[0]["lost"])) >= 3
    assert len(lost(service)) == 1


def endless(answer: BaseHTTPRequestHandler) -> None:
    answer.send_response(200)
    answer.end_headers()
    # As much as would be seen.
    for _ in range(4096):
        answer.wfile.write(bytes(1 << 16))


def unfinished(answer: BaseHTTPRequestHandler) -> None:
    answer.send_response(200)
    answer.send_header("Content-Length", "1000")
    answer.end_headers()
    answer.wfile.write(b"x")
    # Until the service closes the connection.
    answer.rfile.read(1)


@pytest.mark.parametrize("odd", [endless, unfinished])
def test_an_answer_without_end_is_not_read(
    start_service: StartService,
    monkeypatch: pytest.MonkeyPatch,
    odd: Callable[[BaseHTTPRequestHandler], None],
) -> None:
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "10")
    with collecting() as collector:
        collector.odd = odd
        service = start_service(traces_endpoint=collector.url)
        before = usage_of(service.pid).rss

        def are_asked(times: int) -> bool:
            service.wire.Version(runtime_pb2.VersionRequest(), timeout=LIMIT_S)
            return collector.requests >= times

        until(lambda: are_asked(4))
        assert usage_of(service.pid).rss - before < 64 << 10
        service.end()
    assert lost(service) == []


def dripping(answer: BaseHTTPRequestHandler) -> None:
    answer.send_response(200)
    answer.flush_headers()
    answer.wfile.write(b"X-Drip: ")
    ended = threading.Event()
    # Each byte soon enough, until the service closes the connection.
    with suppress(OSError):
        while not ended.wait(_TIMEOUT_S / 10):
            answer.wfile.write(b"x")


def test_headers_without_end_are_not_waited_for(
    start_service: StartService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "10")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", str(_TIMEOUT_S))
    with collecting() as collector:
        collector.odd = dripping
        service = start_service(traces_endpoint=collector.url)
        service.wire.Version(runtime_pb2.VersionRequest(), timeout=LIMIT_S)
        until(lambda: len(lost(service)) == 1)
        assert "timed out" in str(lost(service)[0]["error"])
        collector.odd = None
        service.wire.Status(runtime_pb2.StatusRequest(), timeout=LIMIT_S)
        collector.first("Status")
        service.end()


def test_spans_that_a_collector_redirects_are_lost(
    start_service: StartService, monkeypatch: pytest.MonkeyPatch
) -> None:
    def redirect(answer: BaseHTTPRequestHandler) -> None:
        answer.send_response(302)
        answer.send_header("Location", "/login")
        answer.send_header("Content-Length", "0")
        answer.end_headers()

    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "10")
    with collecting() as collector:
        collector.odd = redirect
        service = start_service(traces_endpoint=collector.url)
        service.wire.Version(runtime_pb2.VersionRequest(), timeout=LIMIT_S)
        until(lambda: len(lost(service)) == 1)
        assert "302" in str(lost(service)[0]["error"])


def ending_s(service: Service) -> float:
    """How long it took, until others may have its directories."""
    began, ended = (
        datetime.fromisoformat(str(each["time"]))
        for each in service.events()
        if each["event"] in ("service.ending", "service.ended")
    )
    return (ended - began).total_seconds()


@pytest.mark.parametrize("delay_ms", ["10", "3600000"])
def test_a_collector_that_is_away_does_not_delay_the_end(
    start_service: StartService, monkeypatch: pytest.MonkeyPatch, delay_ms: str
) -> None:
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", delay_ms)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    service = start_service(traces_endpoint=f"http://127.0.0.1:{port}", log_level="debug")
    service.wire.Version(runtime_pb2.VersionRequest(), timeout=LIMIT_S)
    if delay_ms == "10":
        # The library is going to try again.
        until(lambda: any(each["event"] == "traces.library" for each in service.events()))
    service.end()
    assert ending_s(service) < FLUSH_LIMIT_S
    (line,) = lost(service)
    assert "refused" in str(line["error"])


def test_without_the_library_a_service_that_is_to_send_does_not_start(
    rootfs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "without/opentelemetry").mkdir(parents=True)
    (tmp_path / "without/opentelemetry/__init__.py").touch()
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "without"))
    with native() as host:
        line = Service(host, tmp_path, rootfs, traces_endpoint="http://127.0.0.1:1").refusal()
    assert (line["reason"], line["key"]) == ("INVALID_SETTINGS", "traces.endpoint")
    assert "ocigrpc[traces]" in str(line["message"])
