"""Channelz: who sees connections and calls of the service, and that nobody else does."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias

import grpc
import pytest
from grpc_channelz.v1 import channelz_pb2
from grpc_channelz.v1.channelz_pb2_grpc import ChannelzStub

from ocigrpc.v1.runtime_pb2 import ContainerStatusRequest, WaitContainerRequest
from tests.bed.clients.error_info import code_of
from tests.bed.clients.refusal import refused
from tests.bed.commands.go_program import go_program
from tests.bed.documents import OPERATING, fences
from tests.bed.hosts.host import native
from tests.bed.hosts.leaks import LIMIT_S, until
from tests.bed.services.service import Service
from tests.real.conftest import StartService, serving, used
from tests.real.test_tls import Served

CHANNELZ = "grpc.channelz.v1.Channelz"

(COMMAND,) = (
    text for language, text in fences(OPERATING) if language == "sh" and "grpc.channelz" in text
)

RawCall: TypeAlias = "grpc.UnaryUnaryMultiCallable[bytes, bytes]"


class Seen:
    """What a client at a channel sees."""

    def __init__(self, channel: grpc.Channel) -> None:
        self.stub = ChannelzStub(channel)

    def channels(self) -> list[channelz_pb2.Channel]:
        request = channelz_pb2.GetTopChannelsRequest()
        return list(self.stub.GetTopChannels(request, timeout=LIMIT_S).channel)

    def servers(self) -> list[channelz_pb2.Server]:
        return list(self.stub.GetServers(channelz_pb2.GetServersRequest(), timeout=LIMIT_S).server)

    def clients(self) -> list[channelz_pb2.Socket]:
        """The other ends of all connections to the service."""
        found = []
        for server in self.servers():
            of_server = channelz_pb2.GetServerSocketsRequest(server_id=server.ref.server_id)
            for ref in self.stub.GetServerSockets(of_server, timeout=LIMIT_S).socket_ref:
                request = channelz_pb2.GetSocketRequest(socket_id=ref.socket_id)
                found.append(self.stub.GetSocket(request, timeout=LIMIT_S).socket)
        return found


@contextmanager
def refused_by_grpc(code: str) -> Iterator[None]:
    """Expect this status, which has no ErrorInfo."""
    with pytest.raises(grpc.RpcError) as caught:
        yield
    assert code_of(caught.value).name == code


@pytest.fixture(scope="module")
def _served(rootfs: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    directory = tmp_path_factory.mktemp("channelz")
    settings = {"channelz": "true", "readonly_socket_path": directory / "readonly"}
    with native() as host, serving(host, rootfs, **settings) as service:
        yield service


@pytest.fixture
def service(_served: Service) -> Iterator[Service]:
    with used(_served):
        yield _served


@pytest.fixture
def seen(service: Service) -> Seen:
    return Seen(service.channel)


def listed(address: str) -> list[str]:
    """The services that grpcurl finds at a socket."""
    argv = [str(go_program("grpcurl")), "-plaintext", "-unix", address, "list"]
    return subprocess.check_output(argv, text=True, timeout=LIMIT_S).split()


def test_without_the_setting_nobody_has_it(start_service: StartService) -> None:
    service = start_service()
    with refused_by_grpc("UNIMPLEMENTED"):
        Seen(service.channel).servers()
    assert CHANNELZ not in listed(f"{service.directory}/socket")


def test_each_listener_is_a_server_with_its_calls(service: Service, seen: Seen) -> None:
    def failed() -> list[int]:
        return [each.data.calls_failed for each in seen.servers()]

    before = failed()
    assert len(before) == 2
    with refused("NOT_FOUND", "CONTAINER_NOT_FOUND"):
        service.wire.ContainerStatus(ContainerStatusRequest(container_id="none"), timeout=LIMIT_S)
    until(lambda: sum(failed()) == sum(before) + 1)
    assert CHANNELZ in listed(f"{service.directory}/socket")


def test_a_connection_names_its_process_and_counts_its_streams(
    service: Service, seen: Seen
) -> None:
    container_id = service.run()
    request = WaitContainerRequest(container_id=container_id)
    wait = service.wire.WaitContainer.future(request, timeout=LIMIT_S)
    mine = f"-{os.getpid()}-{os.geteuid()}-"

    def running() -> int:
        found = [each.data for each in seen.clients() if mine in each.remote.other_address.name]
        return max(
            each.streams_started - each.streams_succeeded - each.streams_failed for each in found
        )

    # The wait, and the question itself.
    until(lambda: running() == 2)
    service.remove(container_id, force=True)
    wait.exception(timeout=LIMIT_S)
    until(lambda: running() == 1)


def test_a_service_without_channels_of_its_own_shows_none(seen: Seen) -> None:
    assert seen.channels() == []


def test_a_client_that_may_change_nothing_does_not_see_the_others(service: Service) -> None:
    path = next(
        str(each["addresses"][1]).removeprefix("unix:")  # type: ignore[index]  # a list
        for each in service.events()
        if each["event"] == "service.ready"
    )
    with grpc.insecure_channel(f"unix:{path}") as channel, refused_by_grpc("UNIMPLEMENTED"):
        Seen(channel).servers()
    assert CHANNELZ not in listed(path)


def test_a_client_with_a_certificate_sees_all(start_service: StartService, tmp_path: Path) -> None:
    served = Served(lambda **settings: start_service(channelz="true", **settings), tmp_path)
    # By the socket.
    assert served.service.ids() == []
    cert, key = (path.read_bytes() for path in served.client)
    credentials = grpc.ssl_channel_credentials(served.authority.cert.read_bytes(), key, cert)
    with grpc.secure_channel(served.address, credentials) as channel:
        found = [each.remote.WhichOneof("address") for each in Seen(channel).clients()]
    assert sorted(map(str, found)) == ["other_address", "tcpip_address"]


def test_what_there_is_not_is_not_found(seen: Seen) -> None:
    with refused_by_grpc("NOT_FOUND"):
        request = channelz_pb2.GetServerRequest(server_id=1 << 40)
        seen.stub.GetServer(request, timeout=LIMIT_S)


def test_its_calls_pass_the_checks_that_all_pass(service: Service) -> None:
    call: RawCall = service.channel.unary_unary(f"/{CHANNELZ}/GetServers")
    with refused("INVALID_ARGUMENT", "MALFORMED_MESSAGE"):
        call(b"\xff", timeout=LIMIT_S)


def test_it_loads_nothing_of_asyncio(
    start_service: StartService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPROFILEIMPORTTIME", "1")
    service = start_service(channelz="true")
    assert Seen(service.channel).servers()
    lines = (service.directory / "events").read_text().splitlines()
    loaded = {line.rpartition("|")[2].strip() for line in lines}
    assert "grpc_channelz.v1.channelz" in loaded
    assert not {"asyncio.events", "grpc.aio._server"} & loaded


def test_the_documented_command_shows_the_servers(service: Service) -> None:
    path = str(service.directory / "socket")
    command = COMMAND.replace("/run/ocigrpc/ocigrpc.sock", path)
    command = command.replace("scripts/grpcurl", str(go_program("grpcurl")))
    printed = subprocess.check_output(["bash", "-euc", command], text=True, timeout=LIMIT_S)
    assert len(json.loads(printed)["server"]) == 2


def test_without_the_library_a_service_that_is_to_have_it_does_not_start(
    rootfs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "without/grpc_channelz").mkdir(parents=True)
    (tmp_path / "without/grpc_channelz/__init__.py").touch()
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "without"))
    with native() as host:
        line = Service(host, tmp_path, rootfs, channelz="true").refusal()
    assert (line["reason"], line["key"]) == ("INVALID_SETTINGS", "channelz")
    assert "ocigrpc[channelz]" in str(line["message"])
