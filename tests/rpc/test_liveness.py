"""The watchdog gets its pings only while the service answers itself and can read its store."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import grpc
import pytest
from structlog.typing import EventDict

from ocigrpc.cli.daemon.liveness import watched
from ocigrpc.engine.model.values import State
from ocigrpc.errors import StoreFailed
from ocigrpc.rpc.listener import CONNECTIONS_LIMIT
from ocigrpc.waiting import Deadline
from tests.bed.loads.connections import connect, greet, is_served, room_for_descriptors
from tests.rpc.fake_engine import LIMIT_S
from tests.rpc.running import nothing_until, running
from tests.rpc.statuses import failure_of
from tests.rpc.test_listeners import first_done

WATCHDOG_S = 0.6


@pytest.fixture
def words(socket_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """What the init system receives; it waits for pings."""
    path = f"{socket_path}.notify"
    monkeypatch.setenv("NOTIFY_SOCKET", path)
    monkeypatch.setenv("WATCHDOG_USEC", str(int(WATCHDOG_S * 1e6)))
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(path)
        receiver.settimeout(LIMIT_S)
        yield receiver
    os.unlink(path)


def two(_: Deadline) -> list[State]:
    return [State.RUNNING, State.STOPPED]


def broken(_: Deadline) -> list[State]:
    raise StoreFailed("the store can't be read")


def test_each_ping_comes_with_the_number_of_containers(
    socket_path: Path, words: socket.socket
) -> None:
    with running(socket_path), watched(f"unix:{socket_path}", two):
        for _ in range(3):
            text = words.recv(4096).decode()
            assert text == "WATCHDOG=1\nSTATUS=Ready; containers: 1 running, 1 stopped"


def test_a_store_that_can_not_be_read_gets_no_ping(
    socket_path: Path, words: socket.socket, lines: list[EventDict]
) -> None:
    with running(socket_path), watched(f"unix:{socket_path}", broken):
        expect_silence(words)
    assert {"event": "liveness.failed", "reason": "STORE_FAILED"}.items() <= lines[-1].items()


def test_a_socket_that_nobody_answers_at_gets_no_ping(
    socket_path: Path, words: socket.socket, lines: list[EventDict]
) -> None:
    with socket.socket(socket.AF_UNIX) as hanging:
        hanging.bind(str(socket_path))
        hanging.listen()
        with watched(f"unix:{socket_path}", two):
            expect_silence(words)
    failed = {"event": "liveness.failed", "code": "DEADLINE_EXCEEDED"}
    assert any(failed.items() <= line.items() for line in lines)


@pytest.mark.parametrize(
    ("error", "reason"), [(StoreFailed("broken"), "STORE_FAILED"), (OSError(5), "UNEXPECTED")]
)
def test_after_a_round_that_failed_the_next_is_soon(
    socket_path: Path,
    words: socket.socket,
    lines: list[EventDict],
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    reason: str,
) -> None:
    watchdog_s = 16.0
    monkeypatch.setenv("WATCHDOG_USEC", str(int(watchdog_s * 1e6)))
    failures = [error]

    def recovering(deadline: Deadline) -> list[State]:
        if failures:
            raise failures.pop()
        return two(deadline)

    words.settimeout(watchdog_s / 5)
    with running(socket_path), watched(f"unix:{socket_path}", recovering):
        assert words.recv(4096).startswith(b"WATCHDOG=1\n")
    (line,) = (each for each in lines if each["event"] == "liveness.failed")
    assert line["reason"] == reason


def test_a_service_whose_clients_have_all_places_lives(
    socket_path: Path, words: socket.socket
) -> None:
    never = threading.Event()
    with running(socket_path) as served:
        silent: grpc.StreamUnaryMultiCallable[bytes, bytes]
        silent = served.channel.stream_unary("/grpc.health.v1.Health/Check")
        # More than there are threads with the limits of these tests.
        calls = [silent.future(nothing_until(never), timeout=LIMIT_S) for _ in range(128)]
        try:
            assert failure_of(first_done(calls).result).code is grpc.StatusCode.RESOURCE_EXHAUSTED
            # Before the calls end by themselves.
            words.settimeout(LIMIT_S / 2)
            with watched(f"unix:{socket_path}", two):
                assert words.recv(4096).startswith(b"WATCHDOG=1\n")
        finally:
            never.set()
            for call in calls:
                call.cancel()


def test_a_service_whose_clients_have_all_connections_lives(
    socket_path: Path, words: socket.socket
) -> None:
    # Where a proxy identifies peers, it keeps the last connection for this process.
    with (
        running(socket_path, identify_peers=False) as served,
        room_for_descriptors(),
        ExitStack() as stack,
    ):
        served.channel.close()
        for _ in range(CONNECTIONS_LIMIT):
            greet(stack.enter_context(closing(connect(socket_path))))
        # One more is closed at once.
        assert not is_served(stack.enter_context(closing(connect(socket_path))))
        with watched(served.server.own_address, two):
            assert words.recv(4096).startswith(b"WATCHDOG=1\n")


def expect_silence(words: socket.socket) -> None:
    words.settimeout(2 * WATCHDOG_S)
    with pytest.raises(TimeoutError):
        words.recv(4096)


@pytest.mark.parametrize("pid", [None, "1"])
def test_without_a_watchdog_of_ours_there_are_no_rounds(
    words: socket.socket,
    lines: list[EventDict],
    monkeypatch: pytest.MonkeyPatch,
    pid: str | None,
) -> None:
    if pid is None:
        monkeypatch.delenv("WATCHDOG_USEC")
    else:
        monkeypatch.setenv("WATCHDOG_PID", pid)
    with watched("unix:/nonexistent", two):
        expect_silence(words)
    assert lines == []
