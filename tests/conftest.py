"""What holds for all tests."""

from __future__ import annotations

import pytest
from hypothesis import settings

# What tests share asserts as well, and says as much when it fails.
pytest.register_assert_rewrite("tests.bed")

# Machines differ, and no test is about speed.
settings.register_profile("ocigrpc", deadline=None)
settings.load_profile("ocigrpc")
