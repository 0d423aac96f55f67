"""Traces: what asks for them, and what they cost when nothing does."""

from __future__ import annotations

import subprocess
import sys

import pytest

from ocigrpc import traces
from ocigrpc.cli.daemon.traces import collector
from ocigrpc.errors import InvalidSettings
from ocigrpc.metrics import Histogram
from tests.bed import REPOSITORY

BASE = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://base:4318/"}
OF_TRACES = {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "https://whole/path"}


@pytest.mark.parametrize(
    ("endpoint", "environ", "url"),
    [
        ("", {}, ""),
        ("http://[::1]:4318", {}, "http://[::1]:4318/v1/traces"),
        ("", BASE, "http://base:4318/v1/traces"),
        ("", BASE | OF_TRACES, "https://whole/path"),
        ("http://ours", BASE | OF_TRACES, "http://ours/v1/traces"),
        ("http://ours", {"OTEL_SDK_DISABLED": "True"}, ""),
        ("", BASE | {"OTEL_TRACES_EXPORTER": "none"}, ""),
        ("", BASE | {"OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}, "http://base:4318/v1/traces"),
    ],
)
def test_a_setting_or_else_a_standard_variable_asks_for_traces(
    endpoint: str, environ: dict[str, str], url: str
) -> None:
    assert collector(endpoint, environ)[0] == url


@pytest.mark.parametrize(
    ("environ", "key"),
    [
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "base:4317"}, "OTEL_EXPORTER_OTLP_ENDPOINT"),
        (OF_TRACES | {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "OTEL_EXPORTER_OTLP_PROTOCOL"),
        (
            BASE | {"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/json"},
            "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL",
        ),
    ],
)
def test_a_variable_that_can_not_be_followed_is_named(environ: dict[str, str], key: str) -> None:
    with pytest.raises(InvalidSettings, match=key) as caught:
        collector("", environ)
    assert caught.value.metadata["key"] == key


def test_the_library_is_loaded_only_when_traces_are_sent() -> None:
    program = "import sys, ocigrpc.cli.daemon.serve; print('opentelemetry' in sys.modules)"
    argv = [sys.executable, "-c", program]
    done = subprocess.run(argv, capture_output=True, text=True, check=True, cwd=REPOSITORY)
    assert done.stdout == "False\n"


def test_what_is_not_sent_is_not_recorded() -> None:
    def unread() -> None:
        raise AssertionError

    traces.begin_call("Version", unread)
    with traces.span_of("runc start"):
        pass
    traces.end_call("OK")


class _Counted(Histogram):
    """Notes the phases that it counts."""

    def __init__(self) -> None:
        super().__init__("ocigrpc_x_seconds", "X.", "phase")
        self.phases = list[str]()

    def observe(self, duration_s: float, *labels: str) -> None:
        assert duration_s >= 0
        self.phases += labels


def test_phases_are_counted_but_for_the_one_that_fails() -> None:
    counted = _Counted()
    phases = traces.Phases(counted, "first")
    assert phases.name == "first"

    def work() -> None:
        with phases:
            for name in ("first", "second", "third"):
                phases.enter(name)
            raise ValueError(phases.name)

    with pytest.raises(ValueError, match="third"):
        work()
    assert counted.phases == ["first", "second"]
