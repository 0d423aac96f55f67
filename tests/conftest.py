"""What holds for all tests."""

from __future__ import annotations

from hypothesis import settings

# Machines differ, and no test is about speed.
settings.register_profile("ocigrpc", deadline=None)
settings.load_profile("ocigrpc")
