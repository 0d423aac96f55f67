"""File descriptors, of which a process has only so many."""

from __future__ import annotations

import os
from contextlib import ExitStack


def require_descriptors(count: int) -> None:
    """Raise ``OSError`` (EMFILE or ENFILE) unless so many can be opened now."""
    with ExitStack() as opened:
        for _ in range(count):
            opened.callback(os.close, os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC))
