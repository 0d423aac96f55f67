"""What tests and scripts share; none of it imports a test."""

from __future__ import annotations

from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
