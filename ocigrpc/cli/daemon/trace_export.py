"""The library of OpenTelemetry, as it sends spans: by OTLP over HTTP, in a thread of its own.

Before it is a queue of OTEL_BSP_MAX_QUEUE_SIZE, of which the oldest spans are lost: no call waits
for a collector. This and ``ocigrpc.traces`` alone know the library.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Sequence

import requests
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import Tracer
from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool

from ocigrpc import __version__
from ocigrpc.cli.daemon.bounded_http import bound_exchanges
from ocigrpc.errors import cut
from ocigrpc.log import get_logger

log = get_logger()

# Most characters of an attribute.
_VALUE_LIMIT = 2048


class _Words(logging.Handler):
    """Keeps the last message of the library in each thread; calls have some of their own."""

    def __init__(self) -> None:
        super().__init__()
        self._kept = threading.local()

    def emit(self, record: logging.LogRecord) -> None:
        """Keep it, and log it for debugging alone: there may be one for each span."""
        self._kept.text = cut(record.getMessage())
        log.debug("traces.library", message=self._kept.text)

    def text(self) -> str:
        """That of this thread."""
        return getattr(self._kept, "text", "")


class _Attempts(HTTPAdapter):
    """Sends requests, and reads no more of an answer than that it is one.

    Its body could be without end, and hold the sender and the memory for ever. So could its
    headers, which are waited for no longer than OTEL_EXPORTER_OTLP_TIMEOUT in all.
    """

    def __init__(self) -> None:
        super().__init__()
        self.problem = ""
        """Why the last attempt has failed; empty if it has not."""
        self.is_last = False
        """Whether one that fails is final, which the library would repeat after some seconds."""

    def get_connection_with_tls_context(
        self,
        request: requests.PreparedRequest,
        verify: bool | str,
        proxies: dict[str, str] | None = None,
        cert: str | tuple[str, str] | None = None,
    ) -> HTTPConnectionPool:
        """Connections to where a request goes."""
        pool = super().get_connection_with_tls_context(request, verify, proxies, cert)
        bound_exchanges(pool)
        return pool

    def send(
        self,
        request: requests.PreparedRequest,
        stream: bool = False,
        timeout: float | tuple[float | None, float | None] | None = None,
        verify: bool | str = True,
        cert: str | tuple[str, str] | None = None,
        proxies: dict[str, str] | None = None,
    ) -> requests.Response:
        """The answer, without its body. Raises ``RequestException``."""
        try:
            answer = super().send(request, stream, timeout, verify, cert, proxies)
        except requests.RequestException as error:
            self.problem = cut(str(error))
            if self.is_last:
                raise requests.RequestException(self.problem) from error
            raise
        answer.close()
        self.problem = "" if 200 <= answer.status_code < 300 else _status(answer)
        # Where it redirects us to, nothing is sent; the library takes that for success.
        if self.problem and (self.is_last or answer.status_code < 400):
            raise requests.RequestException(self.problem)
        return answer


def _status(answer: requests.Response) -> str:
    return cut(f"the collector has answered {answer.status_code} {answer.reason}")


class _Reported(SpanExporter):
    """Sends by another exporter, and logs when that begins to fail, and when it works again."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._words, library = _Words(), logging.getLogger("opentelemetry")
        library.handlers, library.propagate = [self._words], False
        self._attempts, session = _Attempts(), requests.Session()
        session.stream = True
        session.mount("http://", self._attempts)
        session.mount("https://", self._attempts)
        self._exporter: SpanExporter = OTLPSpanExporter(url, session=session)
        self._lost = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send spans; those that can't be sent are lost."""
        result: SpanExportResult = self._exporter.export(spans)
        if result is not SpanExportResult.SUCCESS:
            self.lose(len(spans), self._attempts.problem or self._words.text())
        elif self._lost:
            log.info("traces.sent_again", url=self._url, lost=self._lost)
            self._lost = 0
        return result

    def lose(self, count: int, error: str) -> None:
        """Count spans that are lost, and log it unless others were before."""
        if not self._lost:
            log.warning("traces.lost", url=self._url, error=error)
        self._lost += count

    def give_up(self) -> None:
        """Repeat no attempt from now on; make none if the last one has failed."""
        self._attempts.is_last = True
        if self._attempts.problem:
            self._exporter.shutdown()

    def shutdown(self) -> None:
        """Send no more."""
        self._exporter.shutdown()


class Traces:
    """Makes spans and sends them to a URL, with the limits that the environment may set."""

    def __init__(self, url: str) -> None:
        """Raises ``ValueError`` when what OpenTelemetry's variables say can't be used."""
        self._provider = TracerProvider(
            resource=_resource(),
            shutdown_on_exit=False,
            span_limits=SpanLimits(max_span_attribute_length=_VALUE_LIMIT),
        )
        self._exporter = _Reported(url)
        self._provider.add_span_processor(BatchSpanProcessor(self._exporter))

    def tracer(self) -> Tracer:
        """What makes them."""
        return self._provider.get_tracer("ocigrpc", __version__)

    def end(self, limit_s: float) -> None:
        """Send what is left, but wait no longer for a collector that hangs or is away."""
        self._exporter.give_up()
        thread = threading.Thread(target=self._provider.shutdown, name="traces", daemon=True)
        thread.start()
        thread.join(limit_s)
        if thread.is_alive():
            # At least one is.
            self._exporter.lose(1, f"the last ones were not taken in {limit_s:g} s")


def _resource() -> Resource:
    """The service, as its spans name it.

    Or as OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES do.
    """
    ours = {
        "service.name": "ocigrpc",
        "service.version": __version__,
        "host.name": os.uname().nodename,
    }
    named: Resource = Resource(ours).merge(OTELResourceDetector().detect())
    return named
