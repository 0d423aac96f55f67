"""The bounds of programs: those that run on without their clients, and what is kept of output."""

from __future__ import annotations

import math
from typing import Any, cast

import pytest

from ocigrpc.engine.sessions import exec as execs
from ocigrpc.engine.sessions.exec_output import (
    OUTPUT_LIMIT_BYTES,
    OUTPUT_SURE_BYTES,
    CapturedOutput,
    OutputBudget,
)
from ocigrpc.engine.sessions.messages import ExecExit, ExecStart
from ocigrpc.errors import LimitReached
from ocigrpc.host.processes.stdio import STDERR, STDOUT
from ocigrpc.oci.exec import ExecProcess
from ocigrpc.waiting import Deadline

EXIT = ExecExit(0, None)


def test_a_program_that_may_be_left_is_refused_when_too_many_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(execs, "UNATTENDED_LIMIT", 0)
    # It is refused before anything is looked at.
    nothing = cast(Any, None)
    start = ExecStart("c1", ExecProcess(("true",)), math.inf, keep_running=True)
    with pytest.raises(LimitReached) as caught:
        next(execs.Execs(nothing).stream(start, nothing, Deadline()))
    assert caught.value.reason == "TOO_MANY_LEFT"


def test_one_that_may_leave_a_daemon_is_refused_when_too_many_have(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(execs, "DAEMONS_LIMIT", 0)
    nothing = cast(Any, None)
    start = ExecStart("c1", ExecProcess(("true",)), math.inf, keep_running=True)
    with pytest.raises(LimitReached) as caught:
        execs.Execs(nothing).run(start, Deadline())
    assert caught.value.reason == "TOO_MANY_LEFT"


def test_output_is_kept_as_far_as_all_calls_together_have_room() -> None:
    budget = OutputBudget(1 << 20)
    big = bytes(range(256)) * (1 << 13)
    with (
        CapturedOutput(OUTPUT_LIMIT_BYTES, budget) as one,
        CapturedOutput(OUTPUT_LIMIT_BYTES, budget) as other,
    ):
        for start in range(0, len(big), 1 << 16):
            one.write(STDOUT, big[start : start + (1 << 16)])
        other.write(STDOUT, b"small")
        other.write(STDERR, big)
        first, second = one.result(EXIT), other.result(EXIT)
    assert first.stdout == big[: (1 << 20) + OUTPUT_SURE_BYTES]
    assert first.stdout_truncated
    # A little of each is kept in any case.
    assert (second.stdout, second.stdout_truncated) == (b"small", False)
    assert second.stderr == big[:OUTPUT_SURE_BYTES]
    assert second.stderr_truncated
    # All of it is free again.
    assert budget.take(2 << 20) == 1 << 20


def test_what_is_kept_is_the_beginning_without_a_hole() -> None:
    budget = OutputBudget(0)
    with CapturedOutput(OUTPUT_LIMIT_BYTES, budget) as captured:
        captured.write(STDOUT, b"a" * (OUTPUT_SURE_BYTES + 1))
        budget.give_back(1 << 20)
        captured.write(STDOUT, b"b")
        result = captured.result(EXIT)
    assert result.stdout == b"a" * OUTPUT_SURE_BYTES
