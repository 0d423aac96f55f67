"""A process that one thread closes while others ask and wait."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from ocigrpc.host.processes.process import Process, alive_among
from ocigrpc.host.watcher import Watcher
from ocigrpc.waiting import Deadline

LIMIT_S = 10.0


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "1000"]) as process:
        yield process
        process.kill()


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_a_closed_process_counts_as_ended(sleeper: subprocess.Popen[bytes]) -> None:
    before = open_files()
    with Process(sleeper.pid) as process:
        assert process.alive()
        assert process.program() is not None
        assert not process.wait(Deadline(LIMIT_S), timeout_s=0.0)
    process.close()
    assert not process.alive()
    assert process.program() is None
    assert process.wait(Deadline(LIMIT_S))
    process.send_signal(signal.SIGKILL)
    assert sleeper.poll() is None
    assert open_files() == before


def test_who_waits_is_not_left_waiting_for_another_file(sleeper: subprocess.Popen[bytes]) -> None:
    process, before = Process(sleeper.pid), open_files()
    with process.watched() as ended:
        process.close()
        # What is opened now gets the number that was the process's.
        reader, writer = os.pipe()
        threading.Timer(0.05, sleeper.kill).start()
        assert Deadline(LIMIT_S).wait(ended) == [ended]
    os.close(reader)
    os.close(writer)
    assert open_files() == before - 1


def test_one_look_shows_which_are_alive(sleeper: subprocess.Popen[bytes]) -> None:
    with (
        subprocess.Popen(["sleep", "1000"]) as other,
        Process(sleeper.pid) as alive,
        Process(other.pid) as ended,
        Process(os.getpid()) as closed,
    ):
        closed.close()
        assert alive_among([alive, ended, closed]) == {alive, ended}
        other.kill()
        assert ended.wait(Deadline(LIMIT_S))
        assert alive_among([alive, ended, closed]) == {alive}


def test_none_that_is_closed_during_the_look_is_taken_for_another_file(
    sleeper: subprocess.Popen[bytes],
) -> None:
    with Process(sleeper.pid) as alive, Process(os.getpid()) as closed:
        number = closed.pidfd

        def looked_at() -> Iterator[Process]:
            yield closed
            closed.close()
            # It gets the number that was the process's, and is as little readable.
            pipe.extend(os.pipe())
            yield alive

        pipe: list[int] = []
        assert alive_among(looked_at()) == {alive}
        assert number in pipe
    for fd in pipe:
        os.close(fd)


def test_of_another_process_nothing_is_held(sleeper: subprocess.Popen[bytes]) -> None:
    with Process(sleeper.pid) as process:
        identity = process.identity
    before = open_files()
    with pytest.raises(ProcessLookupError):
        Process(1 << 22)
    sleeper.kill()
    sleeper.wait()
    assert Process.find(identity) is None
    assert open_files() == before


def test_the_watcher_closes_what_has_ended_before_it_says_so_and_the_rest_at_its_end(
    sleeper: subprocess.Popen[bytes],
) -> None:
    before = open_files()
    watcher = Watcher[str]()
    with subprocess.Popen(["sleep", "1000"]) as other:
        first, second = Process(other.pid), Process(sleeper.pid)
        watcher.watch(first, "first")
        watcher.watch(second, "second")
        other.kill()
        assert next(iter(watcher)) == "first"
    assert (first.pidfd, second.alive()) == (-1, True)
    watcher.close()
    assert second.pidfd == -1
    assert open_files() == before


def test_a_file_is_watched_until_the_end_of_its_process(
    sleeper: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    watcher = Watcher[str]()
    with closing(watcher), Process(sleeper.pid) as process:
        watcher.watch_file(str(tmp_path / "oom"), process, "made")
        watcher.watch(process, "ended")
        (tmp_path / "other").touch()
        (tmp_path / "oom").touch()
        found = iter(watcher)
        assert next(found) == "made"
        sleeper.kill()
        assert next(found) == "ended"
        (tmp_path / "oom").unlink()
        (tmp_path / "oom").touch()
        watcher.delay("stopped")
        watcher.stop()
        assert list(found) == ["stopped"]


def test_what_is_delayed_comes_together_and_not_at_once() -> None:
    watcher = Watcher[str]()
    with closing(watcher):
        begun_s = time.monotonic()
        watcher.delay("first")
        watcher.delay("second")
        found = iter(watcher)
        assert [next(found), next(found)] == ["first", "second"]
        assert time.monotonic() - begun_s >= 0.1
