"""What a service shows to Prometheus."""

from __future__ import annotations

import urllib.request

from prometheus_client.parser import text_string_to_metric_families

from tests.bed.services.service import Service

SCRAPE_LIMIT_S = 5.0
"""Less than Prometheus waits, and far more than an answer takes on a machine that is busy."""

Key = tuple[str, frozenset[tuple[str, str]]]
Samples = dict[Key, float]


def key_of(name: str, **labels: str) -> Key:
    return name, frozenset(labels.items())


class Metrics:
    """What a service shows."""

    def __init__(self, service: Service) -> None:
        served = [each for each in service.events() if each["event"] == "metrics.served"]
        self.url = str(served[-1]["url"])

    def text(self) -> str:
        with urllib.request.urlopen(self.url, timeout=SCRAPE_LIMIT_S) as answer:
            read: bytes = answer.read()
        return read.decode()

    def samples(self) -> Samples:
        return {
            key_of(sample.name, **sample.labels): sample.value
            for family in text_string_to_metric_families(self.text())
            for sample in family.samples
        }

    def value(self, name: str, **labels: str) -> float:
        """0 for what was not counted yet."""
        return self.samples().get(key_of(name, **labels), 0)

    def containers(self, state: str) -> float:
        return self.value("ocigrpc_containers", state=state)

    def exits(self, how: str, provenance: str = "exit_file") -> float:
        return self.value("ocigrpc_exits_total", **{"class": how, "provenance": provenance})

    def calls(self, method: str, code: str = "OK") -> float:
        return self.value("ocigrpc_call_duration_seconds_count", method=method, code=code)
