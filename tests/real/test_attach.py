"""Clients that talk to a container's first process."""

from __future__ import annotations

import os
import queue
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration

from ocigrpc.errors import OcigrpcError
from ocigrpc.v1 import attach_pb2
from ocigrpc.v1.terminal_pb2 import CloseStdin, TerminalSize
from tests.bed.clients.error_info import code_of, error_details
from tests.bed.clients.refusal import refused
from tests.bed.hosts.leaks import LIMIT_S, suspend, until
from tests.bed.services.service import Service

TEN_MEGABYTES = os.urandom(1 << 20) * 10


class Client:
    """A client that is attached."""

    def __init__(
        self, service: Service, container_id: str, limit_s: float = LIMIT_S, **fields: Any
    ) -> None:
        fields = {"stdout": True, "stderr": True, **fields}
        start = attach_pb2.AttachStart(container_id=container_id, **fields)
        self._messages: queue.Queue[attach_pb2.AttachRequest | None] = queue.Queue()
        self._messages.put(attach_pb2.AttachRequest(start=start))
        messages = iter(self._messages.get, None)
        self._stream = service.client.attach(messages, timeout_s=limit_s)
        self.stdout = b""
        self.stderr = b""
        try:
            assert next(self._stream).HasField("attached")
        except BaseException:
            self._messages.put(None)
            raise

    def type(self, data: bytes) -> None:
        self._messages.put(attach_pb2.AttachRequest(stdin=data))

    def resize(self, rows: int, columns: int) -> None:
        size = TerminalSize(rows=rows, columns=columns)
        self._messages.put(attach_pb2.AttachRequest(resize=size))

    def close_stdin(self) -> None:
        self._messages.put(attach_pb2.AttachRequest(close_stdin=CloseStdin()))

    def read_next(self) -> None:
        message = next(self._stream)
        self.stdout += message.stdout
        self.stderr += message.stderr

    def read(self, enough: Callable[[], bool]) -> None:
        while not enough():
            self.read_next()

    def read_all(self) -> None:
        try:
            for message in self._stream:
                self.stdout += message.stdout
                self.stderr += message.stderr
        finally:
            self._messages.put(None)

    def leave(self) -> None:
        self._stream.close()
        self._messages.put(None)


def sockets(service: Service) -> int:
    """How many the service holds."""
    count = 0
    for entry in Path(f"/proc/{service.pid}/fd").iterdir():
        with suppress(FileNotFoundError):
            count += os.readlink(entry).startswith("socket:")
    return count


def test_a_client_attached_before_the_start_receives_every_byte(any_service: Service) -> None:
    container_id = any_service.create("echo good; echo bad >&2; echo last").container_id
    client = Client(any_service, container_id)
    any_service.start_container(container_id)
    client.read_all()
    assert (client.stdout, client.stderr) == (b"good\nlast\n", b"bad\n")
    assert any_service.wait(container_id).exit_code == 0


def test_only_the_streams_asked_for_are_sent(service: Service) -> None:
    container_id = service.create("echo good; echo bad >&2").container_id
    client = Client(service, container_id, stdout=False)
    service.start_container(container_id)
    client.read_all()
    assert (client.stdout, client.stderr) == (b"", b"bad\n")


@pytest.mark.parametrize("terminal", [False, True])
def test_ten_megabytes_pass_in_both_directions(service: Service, terminal: bool) -> None:
    count = len(TEN_MEGABYTES)
    raw = "stty raw -opost -echo;" if terminal else ""
    container_id = service.run(
        f"{raw} echo ready; exec head -c {count}", stdin=True, terminal=terminal
    )
    until(lambda: bool(service.output(container_id)))
    client = Client(service, container_id, stdin=True)
    for begin in range(0, count, 1 << 18):
        client.type(TEN_MEGABYTES[begin : begin + (1 << 18)])
        # One that is 4 MiB behind with reading would be disconnected.
        while len(client.stdout) < begin - (1 << 20):
            client.read_next()
    client.read_all()
    assert client.stdout == TEN_MEGABYTES


def test_all_clients_receive_and_all_may_type(service: Service) -> None:
    container_id = service.run("read a; echo $a; read b; echo $b; read c", stdin=True)
    one = Client(service, container_id, stdin=True)
    two = Client(service, container_id, stdin=True)
    one.type(b"first\n")
    for client in (one, two):
        client.read(lambda client=client: client.stdout == b"first\n")  # type: ignore[misc]
    one.leave()
    two.type(b"second\n")
    two.read(lambda: two.stdout == b"first\nsecond\n")
    two.type(b"end\n")
    two.read_all()
    assert service.wait(container_id).exit_code == 0


def test_standard_input_stays_open_when_all_clients_have_gone(service: Service) -> None:
    container_id = service.run("read a; echo $a; read b; echo $b", stdin=True)
    client = Client(service, container_id, stdin=True)
    client.type(b"one\n")
    client.read(lambda: client.stdout == b"one\n")
    client.leave()
    client = Client(service, container_id, stdin=True)
    client.type(b"two\n")
    client.read_all()
    assert client.stdout == b"two\n"


def test_standard_input_ends_when_told_if_it_is_for_once(service: Service) -> None:
    container_id = service.run("cat; echo over", stdin=True, stdin_once=True)
    client = Client(service, container_id, stdin=True)
    client.type(b"some\n")
    client.close_stdin()
    client.read_all()
    assert client.stdout == b"some\nover\n"


def test_standard_input_ends_with_its_client_if_it_is_for_once(service: Service) -> None:
    container_id = service.run("cat; exit 3", stdin=True, stdin_once=True)
    Client(service, container_id, stdin=True).leave()
    assert service.wait(container_id).exit_code == 3


def test_an_end_of_input_that_can_not_be_had_is_refused(service: Service) -> None:
    client = Client(service, service.run("cat", stdin=True), stdin=True)
    client.close_stdin()
    with refused("FAILED_PRECONDITION", "STDIN_STAYS_OPEN"):
        client.read_all()


def test_empty_input_is_no_end_of_input(service: Service) -> None:
    container_id = service.run("cat", stdin=True, stdin_once=True)
    client = Client(service, container_id, stdin=True)
    client.type(b"")
    client.type(b"still\n")
    client.read(lambda: client.stdout == b"still\n")
    client.leave()


def test_what_the_container_has_not_is_refused(service: Service) -> None:
    container_id = service.run()
    with refused("FAILED_PRECONDITION", "STDIN_NOT_OPEN"):
        Client(service, container_id, stdin=True)
    client = Client(service, container_id, terminal_size=TerminalSize(rows=1, columns=1))
    with refused("FAILED_PRECONDITION", "NO_TERMINAL"):
        client.read_all()


def test_the_program_hears_of_new_sizes_and_of_the_last_one(any_service: Service) -> None:
    script = "trap 'stty size' WINCH; echo up; while :; do sleep 0.05; done"
    container_id = any_service.run(script, terminal=True)
    until(lambda: bool(any_service.output(container_id)))
    client = Client(any_service, container_id, terminal_size=TerminalSize(rows=5, columns=6))
    for rows in range(10, 30):
        client.resize(rows, 40)
    client.read(lambda: client.stdout.endswith(b"29 40\r\n"))
    client.leave()


def test_a_stopped_container_is_refused(service: Service) -> None:
    container_id = service.run("true")
    service.wait(container_id)
    with refused("FAILED_PRECONDITION", "WRONG_STATE") as refusal:
        Client(service, container_id)
    assert refusal.metadata["state"] == "stopped"


def test_a_slow_client_is_dropped_and_never_holds_up_the_container(service: Service) -> None:
    # Without newlines, each of which would be a line in the log.
    script = "head -c 30000000 /dev/zero; touch /dev/shm/over; exec sleep 1000"
    container_id = service.create(script).container_id
    client = Client(service, container_id)
    service.start_container(container_id)
    pid = service.status(container_id).pid
    until(lambda: os.path.exists(f"/proc/{pid}/root/dev/shm/over"))
    with refused("RESOURCE_EXHAUSTED", "ATTACH_TOO_SLOW"):
        client.read_all()
    # Nothing was left out before the end. Of the 4 MiB that may wait, a small part is what each
    # message weighs beside its data.
    assert client.stdout == bytes(len(client.stdout))
    assert 3 << 20 <= len(client.stdout) < 30_000_000


# Without newlines, each of which would be a line in the log.
_WRITING = "head -c 30000000 /dev/zero; touch /dev/shm/over; exec sleep 1000"


def run_blocked(service: Service, script: str, limit_s: float) -> tuple[str, Client]:
    """A container whose program waits for a client that does not read."""
    container_id = service.create(script).container_id
    client = Client(service, container_id, block_timeout=Duration(seconds=round(limit_s)))
    service.start_container(container_id)
    monitor = service.monitor_pid(container_id)
    until(lambda: "sock" in Path(f"/proc/{monitor}/wchan").read_text())
    return container_id, client


def is_over(service: Service, container_id: str) -> bool:
    """Whether the program has written all."""
    return os.path.exists(f"/proc/{service.status(container_id).pid}/root/dev/shm/over")


def test_a_program_waits_for_a_client_that_asks_for_it(service: Service) -> None:
    container_id, client = run_blocked(service, _WRITING, LIMIT_S)
    assert not is_over(service, container_id)
    client.read(lambda: len(client.stdout) >= 30_000_000)
    assert client.stdout == bytes(30_000_000)
    until(lambda: is_over(service, container_id))
    client.leave()


def test_a_program_goes_on_when_the_client_it_waits_for_goes(service: Service) -> None:
    container_id, client = run_blocked(service, _WRITING, 3600)
    client.leave()
    until(lambda: is_over(service, container_id))


def test_a_program_waits_no_longer_than_the_client_has_asked_for(service: Service) -> None:
    container_id, client = run_blocked(service, _WRITING, 1)
    until(lambda: is_over(service, container_id))
    with refused("RESOURCE_EXHAUSTED", "ATTACH_TOO_SLOW"):
        client.read_all()
    assert client.stdout == bytes(len(client.stdout))


def test_a_container_ends_though_its_client_does_not_read(service: Service) -> None:
    container_id, client = run_blocked(service, _WRITING, 3600)
    service.stop(container_id, timeout_s=0)
    ended = service.wait(container_id)
    assert ended.exit_code == 128 + signal.SIGKILL
    # What had been written by then is there.
    client.read_all()
    assert len(client.stdout) > 256 << 10


def test_a_program_that_reads_nothing_is_not_held_up_by_who_types(service: Service) -> None:
    container_id = service.run("while :; do echo tick; sleep 0.02; done", stdin=True)
    client = Client(service, container_id, stdin=True)
    for _ in range(8):
        client.type(bytes(1 << 18))
    seen = len(client.stdout)
    client.read(lambda: len(client.stdout) > seen + 100)
    client.leave()


@pytest.mark.parametrize("moment", ["at once", "silent", "talking", "typing"])
def test_a_client_may_go_at_any_moment(service: Service, moment: str) -> None:
    loop = "exec cat /dev/zero" if moment == "talking" else "exec sleep 1000"
    container_id = service.run(f"echo up; {loop}", stdin=True)
    before = sockets(service)
    client = Client(service, container_id, stdin=True)
    if moment == "talking":
        client.read(lambda: len(client.stdout) > 100_000)
    if moment == "typing":
        client.type(bytes(1 << 20))
    client.leave()
    until(lambda: sockets(service) <= before)
    assert service.state(container_id) == "running"
    again = Client(service, container_id)
    again.leave()


def test_clients_that_come_and_go_leave_no_descriptors(service: Service) -> None:
    container_id = service.run()
    Client(service, container_id).leave()
    before = len(os.listdir(f"/proc/{service.pid}/fd"))
    for _ in range(100):
        Client(service, container_id).leave()
    # Each had several; what the service opens for itself when it first needs it are few.
    until(lambda: len(os.listdir(f"/proc/{service.pid}/fd")) < before + 8)


def test_attached_clients_are_let_go_when_the_container_is_removed(service: Service) -> None:
    container_id = service.run()
    client = Client(service, container_id)
    service.remove(container_id, force=True)
    client.read_all()


def test_the_first_message_must_be_the_start(service: Service) -> None:
    with refused("INVALID_ARGUMENT", "START_MISSING"):
        list(service.wire.Attach(iter([attach_pb2.AttachRequest(stdin=b"x")]), timeout=LIMIT_S))


def attach_and_leave(service: Service, container_id: str, limit_s: float) -> str:
    """How that was refused, if it was."""
    try:
        Client(service, container_id, limit_s).leave()
    except OcigrpcError as error:
        return error_details(error)[0].reason or code_of(error).name
    return ""


def test_a_monitor_that_hangs_is_waited_for_as_long_as_the_caller_has(service: Service) -> None:
    container_id = service.run()
    monitor, before = service.monitor_pid(container_id), sockets(service)
    suspend(monitor)
    # A few fit into the queue of those whom it will hear later.
    until(lambda: attach_and_leave(service, container_id, 1) in ("TIMEOUT", "DEADLINE_EXCEEDED"))
    until(lambda: sockets(service) <= before)
    os.kill(monitor, signal.SIGCONT)
    assert attach_and_leave(service, container_id, LIMIT_S) == ""


def test_who_waits_for_a_monitor_that_is_killed_is_told(service: Service) -> None:
    container_id = service.run()
    monitor = service.monitor_pid(container_id)
    suspend(monitor)
    with ThreadPoolExecutor(20) as pool:
        waiting = [pool.submit(attach_and_leave, service, container_id, LIMIT_S) for _ in range(20)]
        until(lambda: sum(each.done() for each in waiting) > 5)
        os.kill(monitor, signal.SIGKILL)
        assert {each.result() for each in waiting} == {"", "MONITOR_GONE"}
