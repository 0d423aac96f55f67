"""The threads of calls, and the streams that they close."""

from __future__ import annotations

from collections.abc import Generator
from contextvars import ContextVar, copy_context
from types import SimpleNamespace
from typing import cast

import pytest

from ocigrpc.rpc import pool
from ocigrpc.rpc.pool import Pool, close_after_call

LIMIT_S = 10.0


class Stream:
    """A stream that is still referred to, and what it saw at its end."""

    call: ContextVar[str] = ContextVar("call", default="none")

    def __init__(self) -> None:
        self.ended_in: list[str] = []
        self.answers = self._answers()

    def _answers(self) -> Generator[object]:
        try:
            yield 1
            yield 2
        finally:
            self.ended_in.append(self.call.get())

    def begin(self, call: str) -> object:
        """Answer once, as in a call whose client leaves then."""
        self.call.set(call)
        close_after_call(self.answers)
        return next(self.answers)


def test_an_unfinished_stream_is_closed_with_its_call_despite_references() -> None:
    stream = Stream()
    with Pool(1) as threads:
        assert threads.submit(stream.begin, "plain").result(LIMIT_S) == 1
    assert stream.ended_in == ["plain"]


def test_it_is_closed_in_the_context_of_the_call() -> None:
    stream = Stream()
    with Pool(1) as threads:
        assert threads.submit(copy_context().run, stream.begin, "own").result(LIMIT_S) == 1
        assert threads.submit(Stream.call.get).result(LIMIT_S) == "none"
    assert stream.ended_in == ["own"]


def test_a_call_that_fails_closes_its_stream_as_well() -> None:
    stream = Stream()

    def fail() -> None:
        stream.begin("failing")
        raise ValueError

    with Pool(1) as threads:
        assert isinstance(threads.submit(fail).exception(LIMIT_S), ValueError)
    assert stream.ended_in == ["failing"]


def test_a_stream_whose_end_fails_is_logged_and_keeps_no_other_from_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    logged: list[str] = []
    monkeypatch.setattr(pool, "log", SimpleNamespace(exception=logged.append))
    stream, failing = Stream(), Stream()
    # It fails as soon as it has noted its end.
    failing.ended_in = cast("list[str]", ())

    def begin() -> object:
        stream.begin("one")
        return failing.begin("two")

    with Pool(1) as threads:
        assert threads.submit(begin).result(LIMIT_S) == 1
    assert (stream.ended_in, logged) == (["two"], ["stream.not_closed"])
