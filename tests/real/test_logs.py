"""What containers write is what ContainerLogs answers."""

from __future__ import annotations

import os
import time
from pathlib import Path

import grpc
import pytest

from ocigrpc.errors import OcigrpcError
from ocigrpc.v1 import log_pb2
from tests.bed.clients.error_info import code_of
from tests.bed.clients.logs import (
    COUNTING,
    Following,
    contents,
    joined,
    lines,
    log_path,
    numbers,
    responses,
    rotate,
    whole,
)
from tests.bed.clients.refusal import refused
from tests.bed.hosts.leaks import LIMIT_S, until
from tests.bed.services.service import Service
from tests.real.conftest import StartService


@pytest.fixture
def log_directory(tmp_path: Path) -> Path:
    """A directory of a client's own."""
    directory = tmp_path / "logs"
    directory.mkdir()
    return directory


def ended(service: Service, script: str, **fields: object) -> str:
    container_id = service.run(script, **fields)  # type: ignore[arg-type]  # as the harness has them
    service.wait(container_id)
    return container_id


def test_lines_have_their_stream_and_time(service: Service) -> None:
    before_ns = time.time_ns()
    container_id = ended(service, "echo out; echo bad >&2; echo; printf '\\377\\n'")
    found = lines(service, container_id)
    out = [line.content for line in found if line.stream == log_pb2.LOG_STREAM_STDOUT]
    bad = [line.content for line in found if line.stream == log_pb2.LOG_STREAM_STDERR]
    assert (out, bad) == ([b"out", b"", b"\xff"], [b"bad"])
    assert all(before_ns < line.time.ToNanoseconds() < time.time_ns() for line in found)
    assert not any(line.partial for line in found)


def test_a_last_line_without_a_newline_is_partial(service: Service) -> None:
    found = lines(service, ended(service, "echo whole; printf half"))
    parts = [(line.content, line.partial) for line in found]
    assert parts[:2] == [(b"whole", False), (b"half", True)]
    # conmon 2.2 ends it afterwards.
    assert parts[2:] in ([], [(b"", False)])


END = b"2026-02-01T00:00:00.000000000+00:00 stdout F\n"
"""How conmon 2.2 ends a line that had no newline."""


def test_an_end_without_a_space_ends_the_part_before_it(service: Service) -> None:
    container_id = ended(service, "echo whole; printf part")
    with log_path(service, container_id).open("ab") as log:
        log.write(END)
    for wanted in ({}, {"follow": True}, {"tail_lines": 2}, {"follow": True, "tail_lines": 2}):
        assert joined(lines(service, container_id, **wanted)).endswith(b"part\n")
    assert [line.content for line in lines(service, container_id, tail_lines=1)] == [b""]


def test_a_follower_is_told_of_an_end_without_a_space(service: Service) -> None:
    container_id = service.run("printf part; sleep 1000")
    following = whole(responses(service, container_id, follow=True))
    assert next(following).partial
    path = log_path(service, container_id)
    with path.open("ab") as log:
        log.write(END)
    end = next(following)
    assert (end.content, end.partial) == (b"", False)


def test_a_long_line_comes_in_parts_byte_for_byte(service: Service) -> None:
    container_id = ended(service, "head -c 100000 /dev/zero | tr '\\0' x; echo; echo end")
    assert joined(lines(service, container_id)) == b"x" * 100_000 + b"\nend\n"


def test_a_terminal_is_all_standard_output(service: Service) -> None:
    found = lines(service, ended(service, "echo out; echo bad >&2", terminal=True))
    assert {line.stream for line in found} == {log_pb2.LOG_STREAM_STDOUT}
    assert joined(found) == b"out\r\nbad\r\n"


def test_one_stream_can_be_asked_for(service: Service) -> None:
    container_id = ended(service, "echo out; echo bad >&2")
    found = lines(service, container_id, streams=[log_pb2.LOG_STREAM_STDERR])
    assert contents(found) == [b"bad"]


def test_the_last_lines_are_counted_among_those_that_match(service: Service) -> None:
    container_id = ended(service, "echo 1; echo 2; echo 3; for i in a b c; do echo $i >&2; done")
    found = lines(service, container_id, tail_lines=2, streams=[log_pb2.LOG_STREAM_STDOUT])
    assert contents(found) == [b"2", b"3"]
    assert lines(service, container_id, tail_lines=0) == []
    assert len(lines(service, container_id, tail_lines=100)) == 6


def test_since_is_the_first_time_and_until_is_past_the_last(service: Service) -> None:
    container_id = ended(service, "for i in 1 2 3 4 5; do echo $i; sleep 0.02; done")
    times = [line.time for line in lines(service, container_id)]
    # The client takes seconds, which are no exact times.
    request = log_pb2.ContainerLogsRequest(
        container_id=container_id, since=times[1], until=times[3]
    )
    wanted = whole(service.wire.ContainerLogs(request, timeout=LIMIT_S))
    assert contents(wanted) == [b"2", b"3"]


def test_a_message_is_bounded(service: Service) -> None:
    container_id = ended(service, "head -c 1000000 /dev/zero | tr '\\0' x; " + COUNTING.format(999))
    answers = list(responses(service, container_id))
    assert max(len(answer.lines) for answer in answers) == 256
    assert max(sum(len(line.content) for line in answer.lines) for answer in answers) <= 64 << 10
    assert sum(len(answer.lines) for answer in answers) > 1000


def test_what_is_no_log_line_is_counted(service: Service) -> None:
    container_id = ended(service, "echo good")
    with log_path(service, container_id).open("a") as file:
        file.write("this is no log line\n" + "x" * 200_000 + "\n")
    answers = list(responses(service, container_id))
    assert contents(line for answer in answers for line in answer.lines) == [b"good"]
    assert sum(answer.skipped_lines for answer in answers) == 2


def test_a_follower_gets_lines_as_they_come_and_ends_with_the_container(service: Service) -> None:
    container_id = service.run(
        "trap 'printf last; exit' TERM; echo first; while :; do sleep 0.05; done"
    )
    following = Following(service, container_id)
    assert following.next() == b"first"
    service.stop(container_id, 10)
    assert following.rest() == [b"last"]


def test_a_follower_of_an_ended_container_ends_at_once(service: Service) -> None:
    container_id = ended(service, "echo 1; echo 2")
    assert contents(lines(service, container_id, follow=True)) == [b"1", b"2"]


def test_followers_of_a_created_container_get_all(service: Service) -> None:
    container_id = service.create(COUNTING.format(20000)).container_id
    following = [Following(service, container_id) for _ in range(3)]
    service.start_container(container_id)
    for each in following:
        assert each.rest() == numbers(1, 20000)


def test_more_can_follow_than_a_user_may_have_inotify_instances(service: Service) -> None:
    limit = int(Path("/proc/sys/fs/inotify/max_user_instances").read_text())
    container_id = service.run("trap 'echo 2; exit' TERM; echo 1; while :; do sleep 0.05; done")
    following = [Following(service, container_id) for _ in range(min(limit + 10, 300))]
    for each in following:
        assert each.next() == b"1"
    service.stop(container_id, 10)
    for each in following:
        assert each.rest() == [b"2"]


def test_a_follower_may_want_only_what_comes(service: Service) -> None:
    container_id = service.run("trap 'echo new; exit' TERM; echo old; while :; do sleep 0.05; done")
    until(lambda: service.output(container_id) == ["old"])
    following = Following(service, container_id, tail_lines=0)
    service.stop(container_id, 10)
    assert following.rest() == [b"new"]


def test_a_follower_ends_at_its_last_time(service: Service) -> None:
    container_id = service.run("echo 1; exec sleep 1000")
    following = Following(service, container_id, until_s=time.time() + 0.3)
    assert following.rest() == [b"1"]
    assert service.state(container_id) == "running"


def test_a_follower_of_a_removed_container_ends(service: Service) -> None:
    container_id = service.run("echo 1; exec sleep 1000")
    following = Following(service, container_id)
    assert following.next() == b"1"
    service.remove(container_id, force=True)
    assert following.rest() == []


def test_a_follower_ends_when_the_log_is_deleted(service: Service) -> None:
    container_id = service.run("echo 1; exec sleep 1000")
    following = Following(service, container_id)
    assert following.next() == b"1"
    log_path(service, container_id).unlink()
    assert following.rest() == []


def test_a_missing_log_is_failed_precondition(service: Service) -> None:
    container_id = ended(service, "echo 1")
    log_path(service, container_id).unlink()
    for follow in (False, True):
        with refused("FAILED_PRECONDITION", "LOG_MISSING"):
            lines(service, container_id, follow=follow)


def test_an_unknown_container_is_not_found(service: Service) -> None:
    with refused("NOT_FOUND", "CONTAINER_NOT_FOUND"):
        lines(service, "nobody")


def test_what_no_request_can_say_is_refused(service: Service) -> None:
    with refused("INVALID_ARGUMENT", "OUT_OF_RANGE") as refusal:
        lines(
            service,
            "some",
            tail_lines=-1,
            since_s=-1,
            until_s=0,
            streams=[7],  # type: ignore[list-item]  # no stream of the contract
        )
    assert refusal.fields == ["tail_lines", "since", "until", "streams[0]"]


def test_a_client_that_leaves_frees_its_thread(start_service: StartService) -> None:
    service = start_service(limits_stream_threads=1)
    container_id = service.run("echo 1; exec sleep 1000")
    for _ in range(20):
        following = Following(service, container_id)
        assert following.next() == b"1"
        following.leave()
        assert until(lambda: _may_enter(service, container_id)) < 2


def _may_enter(service: Service, container_id: str) -> bool:
    try:
        return contents(lines(service, container_id)) == [b"1"]
    except OcigrpcError as error:
        return code_of(error) is not grpc.StatusCode.RESOURCE_EXHAUSTED


def test_a_follower_loses_nothing_when_a_client_rotates(
    service: Service, log_directory: Path
) -> None:
    container_id = service.create(
        COUNTING.format(200_000), log_path=str(log_directory / "0.log")
    ).container_id
    following = Following(service, container_id)
    service.start_container(container_id)
    for number in range(20):
        rotate(service, container_id, f"20260102-0304{number:02}")
    service.stop(container_id, 0)
    found = following.rest()
    assert found == numbers(1, len(found))
    assert len(found) > 0
    assert len(list(log_directory.iterdir())) == 21


def test_a_reader_sees_only_the_log_itself_after_a_client_rotates(
    service: Service, log_directory: Path
) -> None:
    container_id = service.run(
        "trap 'echo new; exit' TERM; echo old; while :; do sleep 0.05; done",
        log_path=str(log_directory / "0.log"),
    )
    until(lambda: service.output(container_id) == ["old"])
    rotate(service, container_id, "20260102-030405")
    service.stop(container_id, 10)
    assert contents(lines(service, container_id)) == [b"new"]


def test_a_follower_is_told_of_what_a_size_limit_throws_away(service: Service) -> None:
    container_id = service.create(COUNTING.format(20_000), log_size_max_bytes=20_000).container_id
    call = responses(service, container_id, follow=True)
    service.start_container(container_id)
    pieces = [b""]
    for answer in call:
        if answer.gap:
            pieces.append(b"")
        pieces[-1] += joined(answer.lines)
    for piece in pieces:
        # A gap may have torn the first one.
        found = piece.splitlines()[1:]
        first = int(found[0]) if found else 0
        assert found == numbers(first, first + len(found) - 1)
    assert pieces[-1].endswith(b"\n20000\n")


def test_an_emptied_log_is_read_anew(service: Service) -> None:
    container_id = service.run(
        "echo first; echo second; trap 'echo x; exit' TERM; while :; do sleep 0.05; done"
    )
    until(lambda: len(service.output(container_id)) == 2)
    call = responses(service, container_id, follow=True)
    assert contents(next(call).lines) == [b"first", b"second"]
    # conmon appends to the file that it began with.
    os.truncate(log_path(service, container_id), 0)
    service.stop(container_id, 10)
    rest = list(call)
    assert contents(line for answer in rest for line in answer.lines) == [b"x"]
    assert rest[0].gap
