"""File descriptors, whose number is limited for each process.

The service holds up to four for each container that lives, and none for one that has ended. It
raises its own limit as far as it may; what it starts, and so containers, gets the limit that the
service was started with.
"""

from __future__ import annotations

import errno
import os
import resource
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

# The most that the service holds for a container: the pidfds of its first process and its
# monitor, and two files that show whether it is frozen.
PER_CONTAINER = 4
# Reserved for calls, streams, logs and connections, but at most half of all.
_CALLS = 4096
# What this process was started with: the soft limit and the hard one.
INITIAL_LIMIT = resource.getrlimit(resource.RLIMIT_NOFILE)


@contextmanager
def closing_fd(fd: int) -> Iterator[int]:
    """An open descriptor, which is closed at the end of the block."""
    try:
        yield fd
    finally:
        os.close(fd)


def raise_limit() -> None:
    """Raise the soft limit of this process to its hard limit; see getrlimit(2)."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def limit() -> int:
    """How many this process may open now."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return sys.maxsize if soft == resource.RLIM_INFINITY else soft


def containers_for(open_files: int) -> int:
    """How many containers a limit allows, besides the calls about them."""
    return (open_files - min(_CALLS, open_files // 2)) // PER_CONTAINER


def limit_for(containers: int) -> int:
    """The lowest limit that allows so many containers."""
    held = PER_CONTAINER * containers
    return held + min(_CALLS, held)


def limit_child(pid: int) -> None:
    """Give a child that was just started the limit that this process was started with."""
    with suppress(ProcessLookupError):
        resource.prlimit(pid, resource.RLIMIT_NOFILE, INITIAL_LIMIT)


def require_descriptors(count: int) -> None:
    """Raise ``OSError`` (EMFILE or ENFILE) unless so many can be opened now.

    From Linux 6.2 on, ENFILE, the limit of the whole host, is raised only if none can.
    """
    with closing_fd(os.open("/proc/self/fd", os.O_RDONLY)) as directory:
        # How many are open; before Linux 6.2 it is 0.
        held = os.fstat(directory).st_size
    if not held:
        _open(count)
    elif held - 1 + count > limit():
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))


def _open(count: int) -> None:
    """Find out by opening them."""
    with ExitStack() as opened:
        for _ in range(count):
            opened.enter_context(closing_fd(os.open(os.devnull, os.O_RDONLY)))


def is_out_of_descriptors(error: BaseException) -> bool:
    """Whether an error, or its cause, is that no more descriptors can be opened."""
    cause = error if isinstance(error, OSError) else error.__cause__
    return isinstance(cause, OSError) and cause.errno in (errno.EMFILE, errno.ENFILE)
