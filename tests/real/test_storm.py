"""Clients go on while the service is killed at random moments: they are never lied to."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.bed.loads.storm import Storm
from tests.bed.services.serving import serving
from tests.real.conftest import crun_host

KILLS = 150


@pytest.mark.timeout(3600)
def test_a_service_killed_at_random_moments_loses_nothing_and_leaves_nothing(rootfs: Path) -> None:
    seed = int.from_bytes(os.urandom(4))
    print("seed", seed)
    with crun_host() as host, serving(host, rootfs) as service:
        storm = Storm(service, seed, ("runc", "crun"))
        storm.rage(KILLS)
    assert storm.toll.kills == KILLS
