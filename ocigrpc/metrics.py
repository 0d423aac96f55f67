"""The service's metrics for Prometheus: all of them by name, and what counts them.

Nothing is counted, and the library not even loaded, until :func:`start_counting`. What happens is
counted where it happens, by a :class:`Counter` or a :class:`Histogram`; what there is at a time is
a :class:`Gauge`, which is read for each answer. A label has few values, known in advance: never
ids, names or addresses. This module alone knows the library.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from ocigrpc.errors import InvalidSettings

if TYPE_CHECKING:
    from wsgiref.types import WSGIApplication

    import prometheus_client
    from prometheus_client.core import GaugeMetricFamily

# Upper bounds of durations, in seconds: from a call that only reads to a create at its limit.
BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class Metric:
    """A metric by its name, what it means, and the names of its labels."""

    def __init__(self, name: str, meaning: str, *labels: str) -> None:
        self.name = name
        self.meaning = meaning
        self.labels = labels


class Counter(Metric):
    """How often something has happened, or how much there was of it."""

    _counted: prometheus_client.Counter | None = None

    def start(self, registry: prometheus_client.CollectorRegistry) -> None:
        """Count from now on, in a registry of the library."""
        from prometheus_client import Counter

        self._counted = Counter(self.name, self.meaning, self.labels, registry=registry)

    def add(self, *labels: str, by: int = 1) -> None:
        """Count it once, or what there is of it, with the values of its labels."""
        if self._counted is not None:
            (self._counted.labels(*labels) if labels else self._counted).inc(by)

    def expect(self, *labels: str) -> None:
        """Show 0 until it is counted: Prometheus does not notice a first time without it."""
        if self._counted is not None:
            self._counted.labels(*labels)


class Histogram(Metric):
    """How long something took, in seconds, and how often it happened."""

    _counted: prometheus_client.Histogram | None = None

    def start(self, registry: prometheus_client.CollectorRegistry) -> None:
        """Count from now on, in a registry of the library."""
        from prometheus_client import Histogram

        self._counted = Histogram(
            self.name, self.meaning, self.labels, buckets=BUCKETS_S, registry=registry
        )

    def observe(self, duration_s: float, *labels: str) -> None:
        """Count a duration, with the values of its labels."""
        if self._counted is not None:
            self._counted.labels(*labels).observe(duration_s)


class Gauge(Metric):
    """How much of something there is."""


class Reading(NamedTuple):
    """What a gauge shows now, for these values of its labels."""

    gauge: Gauge
    value: float
    labels: tuple[str, ...] = ()


# Reads gauges. It runs no program and waits for no disk: Prometheus soon gives up.
Source: TypeAlias = Callable[[], Iterable[Reading]]

CALL_DURATION = Histogram(
    "ocigrpc_call_duration_seconds",
    "Time from the beginning of a call to its end, of streams and waits as well.",
    "method",
    "code",
)
CALLS_REFUSED = Counter(
    "ocigrpc_calls_refused_total",
    "Calls that were refused because as many of their budget were running as may.",
    "budget",
)
CREATE_PHASE_DURATION = Histogram(
    "ocigrpc_create_phase_duration_seconds",
    "Time that a phase of creating a container took, if it succeeded.",
    "phase",
)
EXITS = Counter(
    "ocigrpc_exits_total",
    "Containers that have ended, by how they did, and where that is known from.",
    "class",
    "provenance",
)
MONITORS_LOST = Counter(
    "ocigrpc_monitors_lost_total", "Containers that have lost their conmon while they lived."
)
PULL_DURATION = Histogram(
    "ocigrpc_pull_duration_seconds",
    "Time from the beginning of a request for an image to its image or failure.",
    "result",
)
PULLED_BYTES = Counter(
    "ocigrpc_pulled_bytes_total",
    "Bytes of layers that pulls have received, failed ones too.",
)
RUNTIME_RUNS = Counter(
    "ocigrpc_runtime_runs_total",
    "Runs of an OCI runtime for a container, by conmon as well.",
    "runtime",
    "verb",
)

BUILD_INFO = Gauge("ocigrpc_build_info", "Always 1; the label has the version.", "version")
CALLS_RUNNING = Gauge(
    "ocigrpc_calls_running",
    "Calls that run now, at the listener where those of the budget are most.",
    "budget",
)
CALLS_LIMIT = Gauge(
    "ocigrpc_calls_limit", "Calls of a budget that may run at once at each listener.", "budget"
)
CONTAINERS = Gauge(
    "ocigrpc_containers", "Containers, by the state that is on record for them.", "state"
)
CONTAINERS_LIMIT = Gauge("ocigrpc_containers_limit", "Containers that there may be at once.")
EVENTS_KEPT = Gauge("ocigrpc_events_kept", "Events that WatchEvents can still send.")
EVENT_FOLLOWERS = Gauge("ocigrpc_event_followers", "Clients that follow events now.")
EVENT_LAG = Gauge(
    "ocigrpc_event_lag", "Events that the follower which is most behind has yet to read."
)
IMAGES = Gauge("ocigrpc_images", "Images in the store; absent while their disk does not answer.")
IMAGE_BYTES = Gauge(
    "ocigrpc_image_bytes", "Bytes of their layers, each counted once; absent as they are."
)
PULLS_RUNNING = Gauge(
    "ocigrpc_pulls_running", "Images that are pulled now, with those that wait for their turn."
)
STORE_BYTES = Gauge(
    "ocigrpc_store_bytes", "Size of the store's files; absent while their disk does not answer."
)
STORE_OWED_WRITES = Gauge(
    "ocigrpc_store_owed_writes",
    "Records that could not be written to the store yet, and are tried again.",
)

COUNTED: tuple[Counter | Histogram, ...] = (
    CALL_DURATION,
    CALLS_REFUSED,
    CREATE_PHASE_DURATION,
    EXITS,
    MONITORS_LOST,
    PULL_DURATION,
    PULLED_BYTES,
    RUNTIME_RUNS,
)
GAUGES = (
    BUILD_INFO,
    CALLS_RUNNING,
    CALLS_LIMIT,
    CONTAINERS,
    CONTAINERS_LIMIT,
    EVENTS_KEPT,
    EVENT_FOLLOWERS,
    EVENT_LAG,
    IMAGES,
    IMAGE_BYTES,
    PULLS_RUNNING,
    STORE_BYTES,
    STORE_OWED_WRITES,
)


class _Gauges:
    """What the library asks for the gauges, for each answer."""

    def __init__(self, sources: Iterable[Source]) -> None:
        self._sources = tuple(sources)

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """All gauges, as their sources read them."""
        from prometheus_client.core import GaugeMetricFamily

        families = {
            gauge.name: GaugeMetricFamily(gauge.name, gauge.meaning, labels=gauge.labels)
            for gauge in GAUGES
        }
        for reading in itertools.chain.from_iterable(source() for source in self._sources):
            families[reading.gauge.name].add_metric(reading.labels, reading.value)
        return iter(families.values())


def start_counting(*sources: Source) -> WSGIApplication:
    """Count from now on; the application that answers Prometheus, with the process's own metrics.

    Raises ``InvalidSettings`` when the library is missing.
    """
    try:
        import prometheus_client
    except ModuleNotFoundError as error:
        raise InvalidSettings(
            "metrics.address takes the package prometheus-client, which is not installed: it is the"
            " extra ocigrpc[metrics]",
            key="metrics.address",
            missing=error.name,
        ) from error
    # The times at which counters were made, for systems other than Prometheus.
    prometheus_client.disable_created_metrics()
    registry = prometheus_client.CollectorRegistry()
    registry.register(_Gauges(sources))
    for metric in COUNTED:
        metric.start(registry)
    prometheus_client.ProcessCollector(registry=registry)
    return prometheus_client.make_wsgi_app(registry)
