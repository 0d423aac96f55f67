"""The threads of calls, which close the response streams that they started.

When a client goes away, grpc only drops its reference to the stream. Anything that the stream
holds open would stay open until the last reference is gone, be it in the traceback of an error.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import Context
from typing import TypeVar

from ocigrpc.log import get_logger

_T = TypeVar("_T")

log = get_logger()


class _Started(threading.local):
    """The streams of the call that a thread runs."""

    def __init__(self) -> None:
        self.streams: list[Generator[object]] | None = None


_started = _Started()


class Pool(ThreadPoolExecutor):
    """Threads for calls."""

    def submit(self, fn: Callable[..., _T], /, *args: object, **kwargs: object) -> Future[_T]:
        """See ``concurrent.futures``."""
        if args and isinstance(getattr(fn, "__self__", None), Context):
            # The call's context, in which the end of its streams must be logged, too.
            return super().submit(fn, _closing, *args, **kwargs)
        return super().submit(_closing, fn, *args, **kwargs)


def close_after_call(stream: Generator[object]) -> None:
    """Close a response stream when the call ends that this thread of a :class:`Pool` runs."""
    if _started.streams is not None:
        _started.streams.append(stream)


def _closing(work: Callable[..., _T], /, *args: object, **kwargs: object) -> _T:
    _started.streams = []
    try:
        return work(*args, **kwargs)
    finally:
        while _started.streams:
            _close(_started.streams.pop())


def _close(stream: Generator[object]) -> None:
    try:
        stream.close()
    except Exception:
        # The call has ended, and nobody looks at what becomes of its thread's work.
        log.exception("stream.not_closed")
