"""Spans of calls and of their phases, for OpenTelemetry.

Nothing is recorded, and the library not even loaded, until :func:`record_spans`. A span has the
name of a method, of a phase, or of a runtime and its verb, which are few; ids are attributes. What
sends the spans is in ``ocigrpc.cli.daemon.trace_export``.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Self

from ocigrpc.errors import OcigrpcError, cut
from ocigrpc.log import bind_log, bound_fields
from ocigrpc.metrics import Histogram

if TYPE_CHECKING:
    from opentelemetry.trace import Span, Tracer

# The keys of W3C Trace Context in the metadata of a call.
_TRACE_CONTEXT = frozenset({"traceparent", "tracestate"})

# The codes with which the service has failed, and not its client, by OpenTelemetry's conventions.
_FAILED = frozenset(
    {
        *("UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE"),
        "DATA_LOSS",
    }
)
# Of the fields of the log, those that a span has otherwise.
_NOT_NOTED = frozenset({"rpc", "trace_id"})

_tracer: Tracer | None = None

# The span of the call that this context handles, or of what it is for.
_call: ContextVar[Span | None] = ContextVar("call_span", default=None)


def record_spans(tracer: Tracer | None) -> None:
    """Have spans made by a tracer of the library from now on, or by none."""
    global _tracer
    _tracer = tracer


def begin_call(name: str, metadata: Callable[[], Iterable[tuple[str, str | bytes]] | None]) -> None:
    """Begin the span of a call, which is then that of this context.

    It is in the trace of the caller if the ``metadata`` name one, as W3C Trace Context says, and
    recorded if the caller records it. ``name`` is as in ``ocigrpc.v1.RuntimeService/Version``.
    The trace is then in each line of the log.
    """
    if _tracer is None:
        return
    from opentelemetry.trace import SpanKind
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    carrier = {
        key: value
        for key, value in metadata() or ()
        if key in _TRACE_CONTEXT and isinstance(value, str)
    }
    span = _tracer.start_span(
        name,
        TraceContextTextMapPropagator().extract(carrier),
        SpanKind.SERVER,
        {"rpc.system.name": "grpc", "rpc.method": name},
    )
    _call.set(span)
    if span.is_recording():
        bind_log(trace_id=f"{span.get_span_context().trace_id:032x}")


def end_call(code: str, reason: str = "", message: str = "") -> None:
    """End the span of this context's call, which has a gRPC ``code``, and why if it failed."""
    span = _call.get()
    if span is None or not span.is_recording():
        return
    span.set_attribute("rpc.response.status_code", code)
    for key, value in bound_fields().items():
        if key not in _NOT_NOTED and isinstance(value, str | int):
            span.set_attribute(f"ocigrpc.{key}", value)
    if reason:
        span.set_attribute("error.type", reason)
    if code in _FAILED:
        _mark_failed(span, message)
    span.end()


def _mark_failed(span: Span, message: str) -> None:
    from opentelemetry.trace import Status, StatusCode

    span.set_status(Status(StatusCode.ERROR, cut(message)))


def _begin(name: str) -> Span | None:
    """A span within that of this context's call, if there is one."""
    call = _call.get()
    if _tracer is None or call is None:
        return None
    from opentelemetry.trace import set_span_in_context

    return _tracer.start_span(name, set_span_in_context(call))


def _end(span: Span | None, error: BaseException | None) -> None:
    if span is None:
        return
    if error is not None:
        reason = error.reason if isinstance(error, OcigrpcError) else type(error).__name__
        span.set_attribute("error.type", reason)
        _mark_failed(span, str(error))
    span.end()


@contextmanager
def span_of(name: str) -> Iterator[None]:
    """Have a span for what is done in a ``with`` for a call."""
    span = _begin(name)
    try:
        yield
    except BaseException as error:
        _end(span, error)
        raise
    _end(span, None)


class Phases:
    """The phases of a piece of work, one after the other.

    Each is a span of the call, and the time of those that succeed is counted in a histogram, which
    has the phase as its label. ``name`` is the present one, for errors. The work is done in a
    ``with``, so that a phase ends as well if it fails.
    """

    def __init__(self, counted: Histogram, first: str) -> None:
        """``first`` is the name until one is entered."""
        self._counted = counted
        self.name = first
        self._began_s: float | None = None
        self._span: Span | None = None

    def enter(self, name: str) -> None:
        """Begin a phase; the one before has succeeded."""
        self.succeed()
        self.name = name
        self._began_s = time.perf_counter()
        self._span = _begin(name)

    def succeed(self) -> None:
        """End the present phase, if there is one."""
        if self._began_s is not None:
            self._counted.observe(time.perf_counter() - self._began_s, self.name)
        self._leave(None)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        # A phase that has failed is not counted.
        self._leave(error)

    def _leave(self, error: BaseException | None) -> None:
        _end(self._span, error)
        self._began_s = self._span = None
