"""Metrics: their names, where they are documented, and what they cost when they are off."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import prometheus_client
import pytest

from ocigrpc import metrics
from ocigrpc.cli.daemon import metrics_page
from ocigrpc.conmon.exit_file import ExitFile
from ocigrpc.engine.containers.ending import EXIT_CLASSES, exit_class, exit_of, unknown_exit
from ocigrpc.engine.gauges import OnDisk
from ocigrpc.engine.model.values import Provenance
from ocigrpc.errors import InvalidSettings
from ocigrpc.metrics import Metric, start_counting
from ocigrpc.settings.access import MetricsSettings
from tests.bed import REPOSITORY
from tests.bed.documents import OPERATING
from tests.bed.hosts.leaks import LIMIT_S, until

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication

METRICS: tuple[Metric, ...] = (*metrics.COUNTED, *metrics.GAUGES)
DASHBOARD = json.loads((REPOSITORY / "ocigrpc/dashboard.json").read_text())
QUERIES = [each["expr"] for panel in DASHBOARD["panels"] for each in panel["targets"]]

# Of the library's own, for every process.
_OF_PROCESSES = {"process_open_fds", "process_max_fds", "process_resident_memory_bytes"}
# What Prometheus adds itself, to all that it reads from an address.
_OF_PROMETHEUS = {"job", "instance", "le"}


@pytest.mark.parametrize("metric", METRICS, ids=lambda each: each.name)
def test_a_metric_is_documented_with_its_labels(metric: Metric) -> None:
    labels = ", ".join(f"`{label}`" for label in metric.labels)
    row = f"| `{metric.name}` | {labels + ' ' if labels else ''}| {metric.meaning} |\n"
    assert row in OPERATING.read_text()


@pytest.mark.parametrize("metric", METRICS, ids=lambda each: each.name)
def test_a_name_has_the_form_of_its_kind(metric: Metric) -> None:
    assert re.fullmatch(r"ocigrpc(_[a-z]+)+", metric.name)
    assert metric.name.endswith("_total") == isinstance(metric, metrics.Counter)
    assert metric.name.endswith("_seconds") == isinstance(metric, metrics.Histogram)


def _of_samples(metric: Metric) -> set[str]:
    """The names that the samples of a metric have."""
    is_histogram = isinstance(metric, metrics.Histogram)
    suffixes = ("_bucket", "_count", "_sum") if is_histogram else ("",)
    return {metric.name + suffix for suffix in suffixes}


def test_the_dashboard_shows_every_metric_and_no_other() -> None:
    shown = set(re.findall(r"\b(?:ocigrpc|process)_\w+", " ".join(QUERIES)))
    there = {name: metric.name for metric in METRICS for name in _of_samples(metric)}
    assert shown <= there.keys() | _OF_PROCESSES
    assert {there[name] for name in shown if name in there} == {each.name for each in METRICS}


@pytest.mark.parametrize("query", QUERIES)
def test_the_dashboard_chooses_and_sums_by_labels_that_there_are(query: str) -> None:
    by = re.findall(r"\bby \(([\w, ]+)\)", query)
    chosen = set(re.findall(r"(\w+)(?:=|!=|=~|!~)\"", query))
    labels = chosen | {each for names in by for each in names.split(", ")}
    known = [set(each.labels) for each in METRICS if _of_samples(each) & _words(query)]
    assert labels <= _OF_PROMETHEUS.union(*known)


def _words(query: str) -> set[str]:
    return set(re.findall(r"\w+", query))


def test_the_library_is_loaded_only_when_metrics_are_served() -> None:
    program = "import sys, ocigrpc.cli.daemon.serve; print('prometheus_client' in sys.modules)"
    argv = [sys.executable, "-c", program]
    done = subprocess.run(argv, capture_output=True, text=True, check=True, cwd=REPOSITORY)
    assert done.stdout == "False\n"


def test_what_is_not_served_is_not_counted() -> None:
    counter = metrics.Counter("ocigrpc_x_total", "X.", "y")
    counter.add("z")
    counter.expect("z")
    metrics.Histogram("ocigrpc_x_seconds", "X.", "y").observe(1.0, "z")


def test_without_the_library_the_error_names_the_setting_and_the_package(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    with pytest.raises(InvalidSettings, match=r"prometheus-client.*ocigrpc\[metrics\]") as caught:
        start_counting()
    assert caught.value.metadata["key"] == "metrics.address"


@pytest.mark.parametrize(
    ("text", "oom", "how"),
    [("0", False, "0"), ("3", False, "other"), ("143", False, "signal"), ("137", True, "oom")],
)
def test_an_exit_is_counted_by_how_the_container_ended(text: str, oom: bool, how: str) -> None:
    assert exit_class(exit_of(ExitFile(text, 1), oom)) == (how, "exit_file")
    assert (how, "exit_file") in EXIT_CLASSES


@pytest.mark.parametrize(
    "why", [each for each in Provenance if each.value not in ("exit_file", "pending")]
)
def test_an_unknown_exit_is_counted_by_why_it_is_unknown(why: Provenance) -> None:
    assert exit_class(unknown_exit(why, 1)) == ("unknown", why.value)
    assert ("unknown", why.value) in EXIT_CLASSES


def test_what_can_not_be_read_is_logged_and_answered_as_a_failure(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    events, statuses = list[str](), list[str]()
    monkeypatch.setattr(metrics_page.log, "error", lambda event, **_: events.append(event))

    def broken(*_: object) -> Iterable[bytes]:
        raise ValueError

    def start_response(status: str, *_: object) -> Callable[[bytes], object]:
        statuses.append(status)
        return lambda _: None

    assert list(metrics_page.logged(broken)({}, start_response)) == []
    assert (events, statuses) == (["metrics.failed"], ["500 Internal Server Error"])


@contextmanager
def page(monkeypatch: pytest.MonkeyPatch, application: WSGIApplication) -> Iterator[int]:
    """The port of a page that shows what ``application`` answers."""
    urls = list[str]()
    monkeypatch.setattr(metrics_page, "start_counting", lambda: application)
    monkeypatch.setattr(metrics_page.log, "info", lambda _, url: urls.append(url))
    with metrics_page.open_metrics_page(MetricsSettings(address="127.0.0.1:0")):
        yield int(urls[0].split(":")[2].partition("/")[0])


def nothing(_: object, start_response: StartResponse) -> Iterable[bytes]:
    start_response("200 OK", [])
    return ()


def test_a_client_that_sends_byte_by_byte_has_no_longer_than_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(metrics_page, "CLIENT_LIMIT_S", 0.5)
    with (
        page(monkeypatch, nothing) as port,
        socket.create_connection(("127.0.0.1", port)) as slow,
    ):
        slow.settimeout(0.05)

        def is_cut_off() -> bool:
            try:
                slow.send(b"x")
                return slow.recv(1) == b""
            except TimeoutError:
                return False
            except ConnectionError:
                return True

        until(is_cut_off)


@pytest.mark.parametrize(
    "accepted", ["application/openmetrics-text; version=x", "text/plain;version=1.x"]
)
def test_whatever_format_a_client_asks_for_it_gets_text(
    monkeypatch: pytest.MonkeyPatch, accepted: str
) -> None:
    events = list[str]()
    monkeypatch.setattr(metrics_page.log, "error", lambda event, **_: events.append(event))
    registry = prometheus_client.CollectorRegistry()
    with page(monkeypatch, prometheus_client.make_wsgi_app(registry)) as port:
        request = urllib.request.Request(f"http://127.0.0.1:{port}", headers={"Accept": accepted})
        with urllib.request.urlopen(request, timeout=LIMIT_S) as answer:
            assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    assert events == []


class _Disk:
    """What has a size, and hangs until it is allowed to answer."""

    def __init__(self) -> None:
        self.answers = threading.Event()
        self.asked = 0

    def size_bytes(self) -> int:
        self.asked += 1
        self.answers.wait()
        return 7


def test_a_disk_that_hangs_is_asked_once_until_it_answers() -> None:
    disk = _Disk()
    size = OnDisk(disk.size_bytes)
    assert [size.read(), size.read()] == [None, None]
    assert disk.asked == 1
    disk.answers.set()
    until(lambda: size.read() == 7)
