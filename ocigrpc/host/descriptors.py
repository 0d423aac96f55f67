"""File descriptors, of which a process has only so many.

Each container takes ten or so of the service. That has as many as it is allowed to have;
but what it starts, and so containers, gets the limit that it was started with itself.
"""

from __future__ import annotations

import errno
import os
import resource
from contextlib import ExitStack, suppress

_USUAL = resource.getrlimit(resource.RLIMIT_NOFILE)


def raise_limit() -> None:
    """Let this process open as many as its hard limit allows; see getrlimit(2)."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def limit_child(pid: int) -> None:
    """Give a child that was just started the limit that this process had before."""
    with suppress(ProcessLookupError):
        resource.prlimit(pid, resource.RLIMIT_NOFILE, _USUAL)


def require_descriptors(count: int) -> None:
    """Raise ``OSError`` (EMFILE or ENFILE) unless so many can be opened now."""
    with ExitStack() as opened:
        for _ in range(count):
            opened.callback(os.close, os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC))


def is_want_of_descriptors(error: BaseException) -> bool:
    """Whether an error, or what it was raised from, is that no more can be opened."""
    cause = error if isinstance(error, OSError) else error.__cause__
    return isinstance(cause, OSError) and cause.errno in (errno.EMFILE, errno.ENFILE)
