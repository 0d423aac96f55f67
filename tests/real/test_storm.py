"""Clients go on while the service is killed at random moments: they are never lied to."""

from __future__ import annotations

import os

import pytest

from tests.real.conftest import StartService
from tests.real.storm import Storm

KILLS = 150


@pytest.mark.timeout(3600)
def test_a_service_killed_at_random_moments_loses_nothing_and_leaves_nothing(
    start_service: StartService,
) -> None:
    seed = int.from_bytes(os.urandom(4))
    print("seed", seed)
    storm = Storm(start_service(), seed)
    storm.rage(KILLS)
    assert storm.toll.kills == KILLS
