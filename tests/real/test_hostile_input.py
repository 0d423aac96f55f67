"""Requests that mean harm: thousands, to every RPC, made from the contract itself."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from tests.real.hostile import SERVICE, Case, cases
from tests.real.hostile_places import make_places
from tests.real.ordeal import Ordeal
from tests.real.service import Service

CASES = 2000


@pytest.mark.timeout(600)
def test_hostile_requests_are_refused_for_their_fields_and_change_nothing(
    service: Service, tmp_path: Path
) -> None:
    places = make_places(tmp_path)
    ordeal = Ordeal(service.channel, places, service.directory, service.remains)
    ordeal.prepare()

    @settings(
        max_examples=CASES,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @given(cases(places, service.cgroup_parent))
    def endure(case: Case) -> None:
        ordeal.endure(case)

    endure()
    assert ordeal.changes() == []
    asked = {answer.split()[0] for answer in ordeal.answers}
    assert asked == {method.name for method in SERVICE.methods}
    assert "Traceback" not in (service.directory / "events").read_text()
