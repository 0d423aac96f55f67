"""The proxy before a server: it reports the peer, and relays the data."""

from __future__ import annotations

import os
import queue
import resource
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

from ocigrpc.rpc.peer_proxy import Peer, PeerProxy, peer_at

LIMIT_S = 10.0
LIMIT = 3
WORDS = bytes(range(256)) * (1 << 12)
"""More than all buffers on the way hold."""


class House:
    """A server, the proxy before it, and their address."""

    def __init__(self, directory: Path) -> None:
        self.address, inside = str(directory / "o"), str(directory / "i")
        self._server = listening(inside)
        self._server.settimeout(LIMIT_S)
        self.proxy = PeerProxy(listening(self.address), inside, LIMIT)
        # Nobody gets past the proxy.
        os.unlink(inside)

    def close(self) -> None:
        self._server.close()
        self.proxy.close(0)

    def call(self) -> socket.socket:
        """A client's connection."""
        client = socket.socket(socket.AF_UNIX)
        client.settimeout(LIMIT_S)
        client.connect(self.address)
        return client

    def answer(self) -> tuple[socket.socket, str]:
        """The server's connection, and where it is from, as gRPC has it."""
        server, address = self._server.accept()
        server.settimeout(LIMIT_S)
        return server, f"unix-abstract:{address[1:].decode()}"

    @contextmanager
    def connection(self) -> Iterator[tuple[socket.socket, socket.socket]]:
        """Both ends of one."""
        with closing(self.call()) as client, closing(self.answer()[0]) as server:
            yield client, server


def listening(path: str) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()
    return listener


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    with closing(House(tmp_path)) as house:
        yield house


def all_of(connection: socket.socket, size: int) -> bytes:
    with connection.makefile("rb") as stream:
        return stream.read(size)


def test_peer_is_reported(house: House) -> None:
    with closing(house.call()):
        server, address = house.answer()
        server.close()
    assert peer_at(address) == Peer(os.getpid(), os.getuid())


def test_each_has_an_address_of_its_own(house: House) -> None:
    with closing(house.call()), closing(house.call()):
        (one, first), (other, second) = house.answer(), house.answer()
        one.close()
        other.close()
    assert first != second


def write_some(connection: socket.socket) -> bool:
    try:
        return connection.send(WORDS) > 0
    except BlockingIOError:
        return False


def part(connection: socket.socket) -> None:
    connection.sendall(WORDS)
    connection.close()


def test_data_sent_at_once_by_both_arrives_whole(house: House) -> None:
    with house.connection() as ends:
        talks = [threading.Thread(target=end.sendall, args=(WORDS,)) for end in ends]
        received: list[bytes] = []
        talks += [
            threading.Thread(target=lambda end=end: received.append(all_of(end, len(WORDS))))
            for end in ends
        ]
        for talk in talks:
            talk.start()
        for talk in talks:
            talk.join()
    assert received == [WORDS, WORDS]


def test_slow_reader_delays_no_other(house: House) -> None:
    with house.connection() as (_, server), house.connection() as (client, other):
        server.setblocking(False)
        while write_some(server):
            pass
        client.sendall(b"hello")
        assert all_of(other, 5) == b"hello"


def test_last_data_of_the_server_arrives(house: House) -> None:
    with house.connection() as (client, server):
        parting = threading.Thread(target=part, args=(server,))
        parting.start()
        assert all_of(client, len(WORDS) + 1) == WORDS
        parting.join()


def test_the_server_learns_that_a_client_has_gone(house: House) -> None:
    with house.connection() as (client, server):
        client.close()
        assert server.recv(1) == b""


def test_more_than_there_is_room_for_are_closed_until_there_is_again(house: House) -> None:
    clients = [house.call() for _ in range(LIMIT)]
    servers = [house.answer()[0] for _ in range(LIMIT)]
    with closing(house.call()) as refused:
        assert refused.recv(1) == b""
    clients[0].close()
    assert servers[0].recv(1) == b""
    with house.connection() as (client, server):
        server.sendall(b"welcome")
        assert all_of(client, 7) == b"welcome"
    for each in (*clients, *servers):
        each.close()


_CLIENTS = """
import socket, sys
clients = [socket.socket(socket.AF_UNIX) for _ in range(int(sys.argv[2]))]
for client in clients:
    client.settimeout(5)
    client.connect(sys.argv[1])
assert clients[-1].recv(1) == b""
print(flush=True)
sys.stdin.read()
"""


def test_the_last_place_is_for_this_process(house: House) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", _CLIENTS, house.address, str(LIMIT)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as others:
        assert others.stdout is not None
        assert others.stdout.readline() == b"\n"
        servers = [house.answer()[0] for _ in range(LIMIT - 1)]
        with house.connection() as (client, server):
            server.sendall(b"welcome")
            assert all_of(client, 7) == b"welcome"
        others.communicate(timeout=LIMIT_S)
        assert others.returncode == 0
    for each in servers:
        each.close()


def test_want_of_descriptors_is_survived(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    events: queue.SimpleQueue[str] = queue.SimpleQueue()
    log = SimpleNamespace(warning=lambda event, **_: events.put(event))
    monkeypatch.setattr("ocigrpc.rpc.peer_proxy.log", log)
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(LIMIT_S)
        with no_more_descriptors():
            client.connect(house.address)
            assert events.get(timeout=LIMIT_S) == "porter.accept_failed"
        with closing(house.answer()[0]) as server:
            server.sendall(b"welcome")
            assert all_of(client, 7) == b"welcome"


@contextmanager
def no_more_descriptors() -> Iterator[None]:
    """This process can open no file in the block."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.open("/dev/null", os.O_RDONLY)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_it_ends_when_all_have_gone_or_its_time_is_up(house: House) -> None:
    with house.connection() as (client, _):
        house.proxy.close(0.01)
        assert client.recv(1) == b""
