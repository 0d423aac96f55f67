"""A service that can open no more files."""

from __future__ import annotations

import itertools
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager

from tests.bed.services.service import Service

# The numbers below are those of what the service opens at its start and holds to its end.
LASTING = 8


@contextmanager
def descriptors_left(service: Service, count: int) -> Iterator[None]:
    """The service can open no more than so many files in the block."""
    used = set(map(int, os.listdir(f"/proc/{service.pid}/fd")))
    first = next(number for number in itertools.count() if number not in used)
    with descriptors_below(service, first + count):
        yield


@contextmanager
def descriptors_below(service: Service, limit: int) -> Iterator[None]:
    """The service can open no file whose descriptor would not be below this, in the block."""
    before = resource.prlimit(service.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(service.pid, resource.RLIMIT_NOFILE, (limit, before[1]))
    try:
        yield
    finally:
        resource.prlimit(service.pid, resource.RLIMIT_NOFILE, before)
