"""File descriptors, of which a process has only so many."""

from __future__ import annotations

import errno
import os
from contextlib import ExitStack


def require_descriptors(count: int) -> None:
    """Raise ``OSError`` (EMFILE or ENFILE) unless so many can be opened now."""
    with ExitStack() as opened:
        for _ in range(count):
            opened.callback(os.close, os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC))


def is_want_of_descriptors(error: BaseException) -> bool:
    """Whether an error, or what it was raised from, is that no more can be opened."""
    cause = error if isinstance(error, OSError) else error.__cause__
    return isinstance(cause, OSError) and cause.errno in (errno.EMFILE, errno.ENFILE)
