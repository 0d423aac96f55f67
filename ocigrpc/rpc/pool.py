"""The threads of the calls, which close the streams of answers that they have begun.

grpc only drops the answers of a client that has gone. What they hold open would stay so until
nobody refers to them any more, be it the traceback of an error.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import Context
from typing import TypeVar

_T = TypeVar("_T")


class _Begun(threading.local):
    """The streams of the call that a thread is at."""

    def __init__(self) -> None:
        self.streams: list[Generator[object]] | None = None


_begun = _Begun()


class Pool(ThreadPoolExecutor):
    """Threads for calls, as many at most as it is told."""

    def submit(self, fn: Callable[..., _T], /, *args: object, **kwargs: object) -> Future[_T]:
        """See ``concurrent.futures``."""
        if args and isinstance(getattr(fn, "__self__", None), Context):
            # The context of the call, in which its last words are logged as well.
            return super().submit(fn, _closing, *args, **kwargs)
        return super().submit(_closing, fn, *args, **kwargs)


def close_after_call(stream: Generator[object]) -> None:
    """Close a stream of answers when the call that this thread, of a Pool, is at has ended."""
    if _begun.streams is not None:
        _begun.streams.append(stream)


def _closing(work: Callable[..., _T], /, *args: object, **kwargs: object) -> _T:
    _begun.streams = []
    try:
        return work(*args, **kwargs)
    finally:
        while _begun.streams:
            _begun.streams.pop().close()
