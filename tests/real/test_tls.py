"""TCP with mutual TLS, in real handshakes: who is let in, and by which certificates."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest

from ocigrpc.service.methods import SERVICE_NAME
from ocigrpc.v1.runtime_pb2 import ListContainersRequest, VersionRequest
from ocigrpc.v1.runtime_pb2_grpc import RuntimeServiceStub
from tests.bed.clients.certificates import Authority
from tests.bed.clients.command import argv_of
from tests.bed.commands.go_program import go_program
from tests.bed.hosts.leaks import LIMIT_S, until
from tests.bed.services.service import Service
from tests.real.conftest import StartService
from tests.real.test_startup import refusal_to_start

Pair = tuple[Path, Path]


class Served:
    """A service on TCP, its authority, and a client that it vouches for."""

    def __init__(self, start: StartService, directory: Path, host: str = "127.0.0.1") -> None:
        self.directory = directory
        self.authority = Authority(directory / "authority")
        self.client = self.authority.vouch("agent")
        self.install(self.authority.vouch("first"))
        self.install_client_authority(self.authority)
        self.service: Service = start(tcp_address=f"{host}:0", log_calls="all", **self.settings)
        self.address = address_of(self.service)

    @property
    def settings(self) -> dict[str, Path]:
        return {
            "tls.cert_path": self.directory / "tls.crt",
            "tls.key_path": self.directory / "tls.key",
            "tls.client_ca_path": self.directory / "clients.crt",
        }

    def install(self, pair: Pair) -> None:
        """Put a certificate and its key where the service looks for them."""
        for path, name in zip(pair, ("tls.crt", "tls.key"), strict=True):
            self._replace(name, path)

    def install_client_authority(self, authority: Authority) -> None:
        """Have only the clients be let in that it vouches for."""
        self._replace("clients.crt", authority.cert)

    def _replace(self, name: str, path: Path) -> None:
        shutil.copy(path, self.directory / "new")
        (self.directory / "new").rename(self.directory / name)

    def call(self, client: Pair | None) -> None:
        with stub(self.address, self.authority.cert, client) as rpc:
            rpc.ListContainers(ListContainersRequest(), timeout=LIMIT_S)

    def shown(self) -> str:
        """The subject of the certificate that the service shows in a handshake."""
        pem = handshake(self, self.client, "-showcerts").stdout
        text = subprocess.run(
            ["openssl", "x509", "-noout", "-subject"],
            input=pem,
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=True,
        )
        # Before version 3.2 with spaces around it.
        return text.stdout.strip().replace(" = ", "=")

    def events(self, name: str) -> list[dict[str, object]]:
        return [event for event in self.service.events() if event["event"] == name]


def address_of(service: Service) -> str:
    (ready,) = (event for event in service.events() if event["event"] == "service.ready")
    addresses = ready["addresses"]
    assert isinstance(addresses, list)
    return str(addresses[-1]).removeprefix("tcp:")


@contextmanager
def stub(address: str, authority: Path, client: Pair | None) -> Iterator[RuntimeServiceStub]:
    cert, key = (path.read_bytes() for path in client) if client else (None, None)
    credentials = grpc.ssl_channel_credentials(authority.read_bytes(), key, cert)
    options = [("grpc.use_local_subchannel_pool", 1)]
    with grpc.secure_channel(address, credentials, options) as channel:
        yield RuntimeServiceStub(channel)


def handshake(served: Served, client: Pair, *flags: str) -> subprocess.CompletedProcess[str]:
    """What openssl says of a handshake."""
    cert, key = map(str, client)
    argv = ["openssl", "s_client", "-connect", served.address, "-alpn", "h2", "-cert", cert]
    return subprocess.run(
        [*argv, "-key", key, "-CAfile", str(served.authority.cert), *flags],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=LIMIT_S,
        check=False,
    )


@pytest.fixture
def served(start_service: StartService, tmp_path: Path) -> Served:
    return Served(start_service, tmp_path)


def lets_in(served: Served, client: Pair) -> bool:
    """Whether a new connection of a client is served."""
    try:
        served.call(client)
    except grpc.RpcError as error:
        if error.code() is not grpc.StatusCode.UNAVAILABLE:
            raise
        return False
    return True


def assert_not_let_in(served: Served, client: Pair | None) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        served.call(client)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert served.events("rpc.finished") == []


def test_a_client_that_the_authority_vouches_for_is_let_in_and_named(served: Served) -> None:
    served.call(served.client)
    (line,) = served.events("rpc.finished")
    assert (line["rpc"], line["code"]) == ("ListContainers", "OK")
    assert str(line["peer"]).startswith("tls:")
    assert set(str(line["peer"]).removeprefix("tls:").split(",")) == {"CN=agent", "O=tests"}


def test_ipv6_is_served_as_well(start_service: StartService, tmp_path: Path) -> None:
    served = Served(start_service, tmp_path, host="[::1]")
    assert served.address.startswith("[::1]:")
    served.call(served.client)


def test_a_client_without_a_certificate_is_not_let_in(served: Served) -> None:
    assert_not_let_in(served, None)


def test_a_client_of_another_authority_is_not_let_in(served: Served, tmp_path: Path) -> None:
    assert_not_let_in(served, Authority(tmp_path / "other").vouch("agent"))


def test_a_client_whose_certificate_has_expired_is_not_let_in(served: Served) -> None:
    assert_not_let_in(served, served.authority.vouch("old", days=0))


def test_a_client_without_tls_is_not_let_in(served: Served) -> None:
    with grpc.insecure_channel(served.address) as channel, pytest.raises(grpc.RpcError):
        RuntimeServiceStub(channel).Version(VersionRequest(), timeout=LIMIT_S)
    assert served.events("rpc.finished") == []


def test_tls_1_2_is_refused_and_1_3_is_not(served: Served) -> None:
    assert "New, TLSv1.3" in handshake(served, served.client, "-tls1_3").stdout
    old = handshake(served, served.client, "-tls1_2")
    assert "New, (NONE), Cipher is (NONE)" in old.stdout
    assert "BEGIN CERTIFICATE" not in old.stdout
    every_suite = handshake(served, served.client, "-tls1_2", "-cipher", "ALL:@SECLEVEL=0")
    assert "New, (NONE), Cipher is (NONE)" in every_suite.stdout


def test_new_certificates_are_shown_without_a_restart(served: Served) -> None:
    assert "CN=first" in served.shown()
    served.install(served.authority.vouch("second"))
    until(lambda: "CN=second" in served.shown())
    served.call(served.client)
    assert served.events("tls.reload_failed") == []


def test_when_the_authority_is_another_its_clients_are_let_in_and_those_of_the_old_are_not(
    served: Served, tmp_path: Path
) -> None:
    served.call(served.client)
    other = Authority(tmp_path / "other")
    newcomer = other.vouch("newcomer")
    assert not lets_in(served, newcomer)
    served.install_client_authority(other)
    until(lambda: lets_in(served, newcomer))
    assert not lets_in(served, served.client)
    assert served.events("tls.reload_failed") == []


@pytest.mark.parametrize("broken", ["key of another", "no certificate", "gone"])
def test_broken_new_certificates_leave_the_old_ones_in_force(served: Served, broken: str) -> None:
    if broken == "key of another":
        shutil.copy(served.client[1], served.directory / "tls.key")
    elif broken == "no certificate":
        (served.directory / "tls.crt").write_text("soon")
    else:
        (served.directory / "tls.crt").unlink()
    for _ in range(2):
        assert "CN=first" in served.shown()
    (line,) = served.events("tls.reload_failed")
    key = "tls.key_path" if broken == "key of another" else "tls.cert_path"
    assert (line["level"], line["reason"], line["key"]) == ("error", "CERTIFICATE_UNUSABLE", key)
    served.install(served.authority.vouch("second"))
    until(lambda: "CN=second" in served.shown())


def test_grpcurl_calls_with_its_certificate(served: Served) -> None:
    cert, key = map(str, served.client)
    argv = [str(go_program("grpcurl")), "-cacert", str(served.authority.cert), "-cert", cert]
    done = subprocess.run(
        [*argv, "-key", key, served.address, f"{SERVICE_NAME}/Version"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "conmon_version" in done.stdout


def test_loopback_without_tls_is_served_if_asked_for_and_told_with_a_warning(
    start_service: StartService,
) -> None:
    service = start_service(
        tcp_address="127.0.0.1:0", tcp_insecure_loopback="true", log_calls="all"
    )
    address = address_of(service)
    with grpc.insecure_channel(address) as channel:
        RuntimeServiceStub(channel).ListContainers(ListContainersRequest(), timeout=LIMIT_S)
    events = service.events()
    (warning,) = (event for event in events if event["event"] == "tcp.insecure")
    assert (warning["level"], warning["address"]) == ("warning", address)
    (line,) = (event for event in events if event["event"] == "rpc.finished")
    assert str(line["peer"]).startswith("tcp:127.0.0.1:")


@pytest.mark.parametrize("key", ["tls.cert_path", "tls.key_path", "tls.client_ca_path"])
@pytest.mark.parametrize("what", ["missing", "fifo", "text"])
def test_a_certificate_that_cannot_be_used_is_refused_at_start_with_its_setting(
    tmp_path: Path, rootfs: Path, key: str, what: str
) -> None:
    authority = Authority(tmp_path / "authority")
    cert, private = authority.vouch("first")
    settings: dict[str, object] = {
        "tls.cert_path": cert,
        "tls.key_path": private,
        "tls.client_ca_path": authority.cert,
    }
    wrong = tmp_path / what
    if what == "fifo":
        os.mkfifo(wrong)
    elif what == "text":
        wrong.write_text("hello")
    settings[key] = wrong
    event = refusal_to_start(tmp_path, rootfs, tcp_address="127.0.0.1:0", **settings)
    assert event["reason"] == "CERTIFICATE_UNUSABLE"
    pair = {"tls.cert_path", "tls.key_path"}
    # Of a pair, openssl does not say which of the two it can't read.
    assert event["key"] == key or (what == "text" and {event["key"], key} <= pair)


def test_the_command_needs_its_certificate_and_says_so(served: Served) -> None:
    cert, key = served.client
    tls = [f"--tls-cert={cert}", f"--tls-key={key}", f"--tls-ca={served.authority.cert}"]
    for options, status in ((tls, 0), ([], 1)):
        done = subprocess.run(
            argv_of(served.address, *options, "ps"),
            # Which nobody is at.
            env={"PATH": os.environ["PATH"], "http_proxy": "http://127.0.0.1:1"},
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )
        assert done.returncode == status, done
        assert ["--tls-cert" in line for line in done.stderr.splitlines()] == [True] * status
