"""What is kept of the output of programs whose end their clients wait for."""

from __future__ import annotations

from ocigrpc.engine.sessions.exec_output import (
    OUTPUT_LIMIT_BYTES,
    OUTPUT_SURE_BYTES,
    CapturedOutput,
    OutputBudget,
)
from ocigrpc.engine.sessions.messages import ExecExit
from ocigrpc.host.processes.stdio import STDERR, STDOUT

EXIT = ExecExit(0, None)


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
