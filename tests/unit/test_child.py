"""Programs that the service starts: their output and their end."""

from __future__ import annotations

import math
import os
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path
from threading import Thread

import pytest

from ocigrpc.errors import HostFailed, Timeout
from ocigrpc.host.processes.child import OUTPUT_LIMIT_BYTES, Child, Completed, run
from ocigrpc.host.processes.piped import piped
from ocigrpc.waiting import Deadline, Pollable, Waitable

LIMIT_S = 20.0
FLOOD = 1 << 20


@pytest.fixture(autouse=True)
def _nothing_stays_open() -> Iterator[None]:
    before = os.listdir("/proc/self/fd")
    yield
    assert os.listdir("/proc/self/fd") == before


def run_shell(text: str, output_limit_bytes: int = 100) -> Completed:
    argv = ["/bin/sh", "-c", text]
    return run(argv, Deadline(LIMIT_S), output_limit_bytes=output_limit_bytes)


def test_both_outputs_are_had_with_the_status() -> None:
    assert run_shell("echo out; echo err >&2; exit 3") == (3, b"out\n", b"err\n")
    assert run_shell("kill -9 $$") == (-signal.SIGKILL, b"", b"")


def test_a_flood_is_read_to_its_end_and_kept_to_the_limit() -> None:
    flood = f"head -c {FLOOD} /dev/zero"
    ended = run_shell(f"{flood}; {flood} >&2; echo end", 1000)
    assert ended == (0, bytes(1000), bytes(1000))
    assert run_shell(f"{flood}; echo end", FLOOD + 4).stdout[FLOOD:] == b"end\n"


def test_what_a_child_leaves_in_its_pipes_when_it_ends_is_had() -> None:
    most = 1 << 16
    assert len(run_shell(f"exec head -c {most} /dev/zero", most).stdout) == most


def test_a_descendant_with_the_pipes_is_not_waited_for() -> None:
    with Child(["/bin/sh", "-c", "echo a; sleep 1000 & echo b"]) as child:
        assert child.wait(Deadline(LIMIT_S)).stdout == b"a\nb\n"
        os.killpg(child.pid, signal.SIGKILL)


class _Raced(Deadline):
    """Of waits after which another reader has emptied what there is to read."""

    def wait(
        self, *wanted: int | Pollable | Waitable, timeout_s: float = math.inf
    ) -> Sequence[int | Waitable]:
        ready = super().wait(*wanted, timeout_s=timeout_s)
        for pipe in wanted[1:]:
            if pipe in ready and isinstance(pipe, int):
                os.read(pipe, 100)
        return ready


def test_a_pipe_that_another_reader_empties_first_is_not_waited_for() -> None:
    ended: list[Completed] = []
    with Child(["/bin/sh", "-c", "echo out; echo err >&2; exit 3"]) as child:
        reading = Thread(target=lambda: ended.append(child.wait(_Raced(LIMIT_S))), daemon=True)
        reading.start()
        reading.join(LIMIT_S)
        assert ended == [(3, b"", b"")]


def test_a_child_that_closes_its_outputs_is_waited_for() -> None:
    assert run_shell("exec >&- 2>&-; sleep 0.1; exit 7").returncode == 7


def test_at_the_deadline_it_is_killed() -> None:
    with pytest.raises(Timeout):
        run(["/bin/sleep", "1000"], Deadline(0.1))


def test_a_program_that_is_not_there_leaves_nothing() -> None:
    with pytest.raises(HostFailed) as failed:
        run(["/none/such"], Deadline(LIMIT_S))
    assert failed.value.reason == "PROGRAM_NOT_FOUND"
    with pytest.raises(ValueError, match="null"):
        run(["/bin/sh", "-c", "\0"], Deadline(LIMIT_S))


def test_a_child_of_a_protected_service_is_not_protected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ocigrpc.host.processes.child._IS_PROTECTED", True)
    ours = Path("/proc/self/oom_score_adj")
    before = ours.read_text()
    # Less takes a privilege, more does not.
    ours.write_text("500")
    try:
        with Child(["cat"]) as child:
            assert Path(f"/proc/{child.pid}/oom_score_adj").read_text() == "0\n"
    finally:
        ours.write_text(before)


def piped_by_shell(script: str) -> tuple[bytes, Completed]:
    """What a script writes to its standard output, and how it ends."""
    ended: list[Completed] = []

    def steps() -> Iterator[bytes]:
        ended.append((yield from piped(["/bin/sh", "-c", script], Deadline(LIMIT_S))))

    return b"".join(steps()), ended[0]


def test_a_piped_program_that_floods_its_standard_error_goes_on_in_bounded_memory() -> None:
    flood = "head -c 50000000 /dev/zero | tr '\\0' e >&2"
    output, ended = piped_by_shell(f"{flood}; echo out; exit 3")
    assert (output, ended.returncode, ended.stdout) == (b"out\n", 3, b"")
    assert ended.stderr == b"e" * OUTPUT_LIMIT_BYTES


def test_of_a_piped_program_its_words_are_had_as_they_are() -> None:
    assert piped_by_shell("echo bad >&2; exit 1") == (b"", (1, b"", b"bad\n"))
