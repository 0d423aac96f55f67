"""File descriptors, of which a process has only so many.

Each container that lives takes up to four of the service, one that has ended none. The
service may open as many as it is allowed to; but what it starts, and so containers, gets the
limit that it was started with itself.
"""

from __future__ import annotations

import errno
import os
import resource
import sys
from contextlib import ExitStack, suppress

PER_CONTAINER = 4
"""Most that the service holds of a container: the pidfds of its first process and its monitor,
and two files that say whether it is frozen."""

_CALLS = 4096
"""What is left to calls, streams, logs and connections, unless the containers need less."""

_USUAL = resource.getrlimit(resource.RLIMIT_NOFILE)


def raise_limit() -> None:
    """Let this process open as many as its hard limit allows; see getrlimit(2)."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def limit() -> int:
    """How many this process may open now."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return sys.maxsize if soft == resource.RLIM_INFINITY else soft


def carried_by(open_files: int) -> int:
    """How many containers a limit carries, beside the calls about them."""
    return (open_files - min(_CALLS, open_files // 2)) // PER_CONTAINER


def wanted_for(containers: int) -> int:
    """The least limit that carries so many containers."""
    held = PER_CONTAINER * containers
    return held + min(_CALLS, held)


def usual_limit() -> tuple[int, int]:
    """The limit that this process was started with: the soft one and the hard one."""
    return _USUAL


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
