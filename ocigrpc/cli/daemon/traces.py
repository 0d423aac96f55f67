"""Whether spans are recorded, and where they are sent."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from ocigrpc.errors import InvalidSettings
from ocigrpc.log import get_logger
from ocigrpc.settings.rules import url_problem
from ocigrpc.traces import record_spans

log = get_logger()

# How long the last spans may take to be sent when the service ends.
FLUSH_LIMIT_S = 3.0

_SETTING = "traces.endpoint"
# OpenTelemetry's own variables. The first one has the whole URL, the others are of all it sends.
_OF_TRACES = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"
_OF_ALL = "OTEL_EXPORTER_OTLP_ENDPOINT"
_PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_PROTOCOL = "http/protobuf"
_PATH = "/v1/traces"


def collector(endpoint: str, environ: Mapping[str, str]) -> tuple[str, str]:
    """Where spans are sent, and the setting or the variable that says so; empty if none does.

    ``endpoint`` is the setting. Raises ``InvalidSettings`` for what can't be sent to.
    """
    is_disabled = environ.get("OTEL_SDK_DISABLED", "").lower() == "true"
    if is_disabled or environ.get("OTEL_TRACES_EXPORTER") == "none":
        return "", ""
    asked = {_SETTING: endpoint, **{key: environ.get(key, "") for key in (_OF_TRACES, _OF_ALL)}}
    key = next((key for key, text in asked.items() if text), "")
    if not key:
        return "", ""
    if problem := url_problem(asked[key]):
        raise InvalidSettings(f"{key}: {asked[key]!r} {problem}", key=key)
    if key == _SETTING:
        return asked[key].rstrip("/") + _PATH, key
    for name in _PROTOCOLS:
        if environ.get(name, _PROTOCOL) != _PROTOCOL:
            problem = f"traces are sent by {_PROTOCOL}, not by {environ[name]!r}"
            raise InvalidSettings(f"{name}: {problem}", key=name)
    return asked[key] if key == _OF_TRACES else asked[key].rstrip("/") + _PATH, key


@contextmanager
def open_traces(endpoint: str) -> Iterator[None]:
    """Record spans in the block if the setting ``endpoint`` or the environment asks for it.

    At the end, what is not sent in a few seconds is lost. Raises ``InvalidSettings``, also when
    the library is missing.
    """
    url, key = collector(endpoint, os.environ)
    if not url:
        yield
        return
    try:
        from ocigrpc.cli.daemon.trace_export import Traces

        traces = Traces(url)
    except ModuleNotFoundError as error:
        raise InvalidSettings(
            f"{key} takes the packages opentelemetry-sdk and"
            " opentelemetry-exporter-otlp-proto-http, which are not installed: they are the extra"
            " ocigrpc[traces]",
            key=key,
            missing=error.name,
        ) from error
    except ValueError as error:
        problem = f"traces can't be sent as the variables of OpenTelemetry say: {error}"
        raise InvalidSettings(problem, key=key) from error
    record_spans(traces.tracer())
    log.info("traces.sent", url=url)
    try:
        yield
    finally:
        record_spans(None)
        traces.end(FLUSH_LIMIT_S)
