"""Logs are rotated, by clients and by the service, and no line is lost or torn."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from ocigrpc.v1 import runtime_pb2
from tests.bed.clients.logs import (
    COUNTING,
    Following,
    contents,
    joined,
    lines,
    log_path,
    numbers,
    own_files,
    reopen,
    rotate,
    texts,
)
from tests.bed.clients.refusal import refused
from tests.bed.hosts.leaks import LIMIT_S, suspend, until
from tests.bed.services.service import Service
from tests.real.conftest import StartService

ROTATIONS = 150
LIMIT_BYTES = 1_000_000
SPARE_SUFFIXES = {".held", ".next", ".tmp"}
"""Of what is there beside a log for the next rotation."""

WRITING = "i=0; while :; do i=$((i+1)); echo $i; done"
SPEAKING = "trap 'echo asked; exit' TERM; echo begun; while :; do sleep 0.05; done"


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Of a client's own."""
    (tmp_path / "logs").mkdir()
    return tmp_path / "logs"


def assert_counts(written: bytes) -> int:
    """The numbers from 1 on, each in its line; how many. The last one may be unfinished."""
    found = written.split(b"\n")[:-1]
    assert found == numbers(1, len(found))
    assert found
    return len(found)


def test_no_line_is_lost_or_torn_in_a_storm_of_rotations(service: Service, directory: Path) -> None:
    container_id = service.create(WRITING, log_path=str(directory / "0.log")).container_id
    following = Following(service, container_id)
    service.start_container(container_id)
    rotated = [rotate(service, container_id, f"{number:05}") for number in range(ROTATIONS)]
    service.stop(container_id, 0)
    written = texts(*rotated, directory / "0.log")
    assert_counts(written)
    assert following.rest() == written.splitlines()


def test_a_new_log_is_there_when_the_call_answers(service: Service, directory: Path) -> None:
    container_id = service.run(SPEAKING, log_path=str(directory / "0.log"))
    until(lambda: service.output(container_id) == ["begun"])
    old = rotate(service, container_id, "old")
    assert (directory / "0.log").read_bytes() == b""
    assert (directory / "0.log").stat().st_ino != old.stat().st_ino
    service.stop(container_id, 10)
    assert (texts(old), texts(directory / "0.log")) == (b"begun\n", b"asked\n")


def test_a_log_that_still_has_its_name_is_not_wiped_out(service: Service) -> None:
    container_id = service.run("echo precious; exec sleep 1000")
    until(lambda: service.output(container_id) == ["precious"])
    with refused("FAILED_PRECONDITION", "LOG_NOT_ROTATED"):
        reopen(service, container_id)
    assert service.output(container_id) == ["precious"]


def test_reopening_the_log_of_a_stopped_container_is_wrong_state(service: Service) -> None:
    container_id = service.run("true")
    service.wait(container_id)
    with refused("FAILED_PRECONDITION", "WRONG_STATE") as refusal:
        reopen(service, container_id)
    assert refusal.metadata["state"] == "stopped"


def test_a_missing_directory_is_told_and_the_monitor_survives(
    service: Service, directory: Path
) -> None:
    container_id = service.run(SPEAKING, log_path=str(directory / "0.log"))
    until(lambda: service.output(container_id) == ["begun"])
    directory.rename(directory.with_name("elsewhere"))
    with refused("FAILED_PRECONDITION", "LOG_DIRECTORY_MISSING"):
        reopen(service, container_id)
    service.stop(container_id, 10)
    assert service.wait(container_id).exit_code == 0


def test_without_its_monitor_a_log_is_not_reopened(service: Service) -> None:
    container_id = service.run()
    path = log_path(service, container_id)
    os.kill(service.monitor_pid(container_id), signal.SIGKILL)
    until(lambda: service.status(container_id).monitor_lost)
    path.rename(f"{path}.1")
    with refused("FAILED_PRECONDITION", "MONITOR_LOST"):
        reopen(service, container_id)
    assert not path.exists()


def test_a_monitor_that_does_not_answer_makes_no_log_later(
    service: Service, directory: Path
) -> None:
    container_id = service.run(SPEAKING, log_path=str(directory / "0.log"))
    until(lambda: service.output(container_id) == ["begun"])
    monitor = service.monitor_pid(container_id)
    suspend(monitor)
    old = (directory / "0.log").rename(directory / "0.log.old")
    with refused("DEADLINE_EXCEEDED", "LOG_REOPEN_TIMEOUT"):
        reopen(service, container_id)
    os.kill(monitor, signal.SIGCONT)
    old.rename(directory / "0.log")
    service.stop(container_id, 10)
    assert texts(directory / "0.log") == b"begun\nasked\n"


def test_reopening_waits_for_no_stop(service: Service, directory: Path) -> None:
    container_id = service.run(
        "trap '' TERM; echo begun; while :; do sleep 0.05; done", log_path=str(directory / "0.log")
    )
    until(lambda: service.output(container_id) == ["begun"])
    stop = runtime_pb2.StopContainerRequest(container_id=container_id)
    stop.timeout.FromSeconds(10)
    stopping = service.wire.StopContainer.future(stop, timeout=LIMIT_S)
    rotate(service, container_id, "old")
    assert not stopping.done()
    service.stop(container_id, 0)
    stopping.result()


def test_own_rotation_keeps_a_few_files_of_a_few_bytes(start_service: StartService) -> None:
    service = start_service(logs_max_bytes=LIMIT_BYTES, logs_max_files=3)
    container_id = service.create(WRITING).container_id
    following = Following(service, container_id)
    service.start_container(container_id)
    path = log_path(service, container_id)
    with watched_sizes(path.parent) as sizes:
        oldest = path.with_name(f"{path.name}.2")
        until(oldest.exists)
        seen = oldest.stat().st_ino
        until(lambda: oldest.exists() and oldest.stat().st_ino != seen)
        service.stop(container_id, 0)
    assert max(sizes.values()) <= LIMIT_BYTES
    until_tidy(path)
    files = own_files(path)
    assert {file.name for file in files} == {path.name, f"{path.name}.1", f"{path.name}.2"}
    # It may be too slow for three files; but what it is not told, it is told of.
    first, *others = following.stretches()
    last = assert_counts(b"\n".join(first) + b"\n")
    for stretch in filter(None, (each[1:] for each in others)):
        assert stretch == numbers(int(stretch[0]), int(stretch[-1]))
        assert int(stretch[0]) > last
        last = int(stretch[-1])
    # A reader gets all that is kept, also the last lines of what is in several files.
    written = texts(*files)
    assert joined(lines(service, container_id)) == written
    many = len(lines(service, container_id)) - 10
    assert written.endswith(joined(lines(service, container_id, tail_lines=many)))
    assert len(lines(service, container_id, tail_lines=many)) == many


@contextmanager
def watched_sizes(directory: Path) -> Iterator[dict[int, int]]:
    """How large each file of a directory was at its largest, by its inode."""
    sizes: dict[int, int] = {}
    over = threading.Event()

    def look() -> None:
        while not over.wait(0.002):
            for entry in os.scandir(directory):
                with suppress(FileNotFoundError):
                    status = os.stat(entry.path)
                    sizes[status.st_ino] = max(sizes.get(status.st_ino, 0), status.st_size)

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        yield sizes
    finally:
        over.set()
        watcher.join()


def until_tidy(path: Path) -> None:
    """Wait until all that is left of an ended container's log is what there is to read."""
    until(lambda: {each.suffix for each in path.parent.iterdir()}.isdisjoint(SPARE_SUFFIXES))


def test_no_log_outgrows_its_bound_under_writers_in_full_flood(start_service: StartService) -> None:
    service = start_service(logs_max_bytes=LIMIT_BYTES, logs_max_files=3)
    container_id = service.create(f"exec yes {'x' * 100}").container_id
    following = [Following(service, container_id) for _ in range(10)]
    path = log_path(service, container_id)
    with watched_sizes(path.parent) as sizes:
        service.start_container(container_id)
        until(lambda: len(sizes) > 20)
        assert service.state(container_id) == "running"
        service.stop(container_id, 0)
    assert max(sizes.values()) <= LIMIT_BYTES
    until_tidy(path)
    assert sum(file.stat().st_size for file in path.parent.iterdir()) <= 3 * LIMIT_BYTES
    for each in following:
        each.leave()


@pytest.mark.parametrize("number", [signal.SIGSTOP, signal.SIGKILL])
def test_no_log_outgrows_its_bound_while_the_service_is_down(
    start_service: StartService, number: int
) -> None:
    service = start_service(logs_max_bytes=LIMIT_BYTES)
    container_id = service.run(WRITING)
    path = log_path(service, container_id)
    until(lambda: path.stat().st_size > 0)
    with watched_sizes(path.parent) as sizes:
        os.kill(service.pid, number)
        known = len(sizes)
        until(lambda: len(sizes) > known + 5)
    assert max(sizes.values()) <= LIMIT_BYTES
    assert sum(each.stat().st_size for each in path.parent.iterdir()) <= 6 * LIMIT_BYTES
    if number == signal.SIGSTOP:
        os.kill(service.pid, signal.SIGCONT)
    else:
        service.expect_death()
        service.start()
    known_inode = path.stat().st_ino
    until(lambda: path.stat().st_ino != known_inode)
    service.stop(container_id, 0)
    until_tidy(path)
    # What two files and the log itself could not hold is lost, and no line is torn.
    assert joined(lines(service, container_id)) == texts(*own_files(path))


def test_what_is_written_while_the_service_is_down_is_kept_up_to_its_bound(
    start_service: StartService,
) -> None:
    service = start_service(logs_max_bytes=LIMIT_BYTES)
    # Two files full, and a third begun.
    last = 1_000_000 + 2 * LIMIT_BYTES // 50
    script = f"trap 'seq 1000000 {last}; sleep 0.1; echo over' USR1; while :; do sleep 0.05; done"
    container_id = service.run(script)
    path, pid = log_path(service, container_id), service.status(container_id).pid
    until(path.with_name(f"{path.name}.next").exists)
    service.die()
    os.kill(pid, signal.SIGUSR1)
    until(lambda: path.read_bytes().endswith(b" over\n"))
    service.start()
    written = b"\n".join([*numbers(1_000_000, last), b"over", b""])
    assert joined(lines(service, container_id)) == written
    until(path.with_name(f"{path.name}.2").exists)
    assert joined(lines(service, container_id)) == written


def test_a_log_with_a_limit_of_its_own_or_a_path_of_the_clients_is_left_alone(
    start_service: StartService, directory: Path
) -> None:
    service = start_service(logs_max_bytes=16_384)
    theirs = service.run(COUNTING.format(20_000), log_path=str(directory / "0.log"))
    limited = service.run(COUNTING.format(20_000), log_size_max_bytes=100_000)
    for container_id in (theirs, limited):
        service.wait(container_id)
        path = log_path(service, container_id)
        assert own_files(path) == [path]
    assert texts(directory / "0.log").count(b"\n") == 20_000


def test_rotation_can_be_off(start_service: StartService) -> None:
    service = start_service(logs_max_bytes=0)
    container_id = service.run(COUNTING.format(20_000))
    service.wait(container_id)
    path = log_path(service, container_id)
    assert own_files(path) == [path]
    assert contents(lines(service, container_id, tail_lines=1)) == [b"20000"]


def test_a_log_that_grows_at_leisure_is_rotated(start_service: StartService) -> None:
    service = start_service(logs_max_bytes=16_384)
    container_id = service.run(
        "while :; do head -c 3000 /dev/zero | tr '\\0' x; echo; sleep 0.2; done"
    )
    path = log_path(service, container_id)
    until(lambda: own_files(path) != [path])


def test_rotated_files_go_with_their_container(start_service: StartService) -> None:
    service = start_service(logs_max_bytes=16_384)
    container_id = service.run(WRITING)
    path = log_path(service, container_id)
    until(lambda: len(own_files(path)) == 5)
    service.remove(container_id, force=True)
    assert list(path.parent.iterdir()) == []
