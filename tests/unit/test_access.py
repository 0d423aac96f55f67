"""Who may call: which settings go together, and which RPCs change something."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import grpc
import msgspec
import pytest

from ocigrpc.rpc.listener import Listener
from ocigrpc.service.methods import METHODS
from ocigrpc.settings.rules import TcpAddress, problems
from ocigrpc.settings.values import Settings

_CHANGING = {
    "CreateContainer",
    "StartContainer",
    "PauseContainer",
    "ResumeContainer",
    "StopContainer",
    "KillContainer",
    "RemoveContainer",
    "ReopenContainerLog",
    "UpdateContainerResources",
    "ExecSync",
    "Exec",
    "Attach",
    "CopyInto",
    # It reads any file of a container.
    "CopyOut",
    # It takes room on a disk.
    "BackupStore",
}
_TLS = {"tls.cert_path": "/c", "tls.key_path": "/k", "tls.client_ca_path": "/a"}
_NO_ADDRESSES = """
    localhost:1 127.0.0.1 :1 ::1:1 [127.0.0.1]:1 127.0.0.1:65536 1.2.3:4 127.0.0.1:-1
    [fe80::1%lo]:1 127.0.0.1:\u0661 [::1]
""".split()


def wrong_keys(given: Mapping[str, object]) -> list[str]:
    tables: dict[str, dict[str, object]] = {}
    for key, value in given.items():
        table, _, name = key.partition(".")
        tables.setdefault(table, {})[name] = value
    return [key for key, _ in problems(msgspec.convert(tables, Settings))]


def test_every_rpc_either_changes_something_or_is_read_only() -> None:
    assert {method.name for method in METHODS if not method.is_read_only} == _CHANGING


def test_a_door_that_is_not_read_only_is_for_every_rpc() -> None:
    for method in METHODS:
        Listener("unix:/s").check(method)


@pytest.mark.parametrize(
    "url",
    [
        *("127.0.0.1:4318", "grpc://host", "http://", "http://host:x", "http://host:65536"),
        *("http://me:secret@host", "http://host?x=y", "http://host#x", "http://host/" + "x" * 1024),
    ],
)
def test_a_collector_has_a_url_that_may_be_shown(url: str) -> None:
    assert wrong_keys({"traces.endpoint": url}) == ["traces.endpoint"]


@pytest.mark.parametrize(
    "address",
    [
        *("unix:", "unix:relative", "unix://host/x", "unix:///", "/run/m.sock", "localhost:1"),
        *("unix:///run/ocigrpc/ocigrpc.sock", "unix:///" + "x" * 107),
    ],
)
def test_metrics_have_an_address_or_a_socket_of_their_own(address: str) -> None:
    assert wrong_keys({"metrics.address": address}) == ["metrics.address"]


@pytest.mark.parametrize("address", ["127.0.0.1:9477", "unix:/run/m.sock", "unix:///run/m.sock"])
def test_metrics_are_served_at_a_port_or_a_socket(address: str) -> None:
    assert wrong_keys({"metrics.address": address}) == []


def test_a_name_that_a_client_gives_itself_proves_nothing() -> None:
    class Context:
        def peer(self) -> str:
            return "unix-abstract:ocigrpc-dead-1-0-0"

    context = cast(grpc.ServicerContext, Context())
    assert Listener("unix:/s").caller(context) == {"peer": "unix:/s"}
    named = Listener("unix:/s", identifies_peers=True).caller(context)
    assert named == {"peer": "unix:/s", "peer_pid": 1, "peer_uid": 0}


@pytest.mark.parametrize(
    ("text", "host", "port", "is_loopback"),
    [
        ("127.0.0.1:0", "127.0.0.1", 0, True),
        ("0.0.0.0:7443", "0.0.0.0", 7443, False),
        ("[::1]:7443", "[::1]", 7443, True),
        ("[2001:DB8:0::1]:65535", "[2001:db8::1]", 65535, False),
    ],
)
def test_an_address_is_an_ip_address_and_a_port(
    text: str, host: str, port: int, is_loopback: bool
) -> None:
    address = TcpAddress.parse(text)
    assert address == (host, port, is_loopback)
    assert str(address) == f"{host}:{port}"


@pytest.mark.parametrize("text", [*_NO_ADDRESSES, "127.0.0.1:1\n"])
def test_anything_else_is_no_address(text: str) -> None:
    assert wrong_keys({"tcp.address": text, **_TLS}) == ["tcp.address"]


@pytest.mark.parametrize("text", _NO_ADDRESSES)
def test_metrics_are_served_at_an_address(text: str) -> None:
    assert wrong_keys({"metrics.address": text}) == ["metrics.address"]
    assert wrong_keys({"metrics.address": "0.0.0.0:9477"}) == []


def test_tcp_with_all_of_tls_or_openly_on_loopback_is_fine() -> None:
    assert wrong_keys({"tcp.address": "0.0.0.0:7443", **_TLS}) == []
    for address in ("127.0.0.1:7443", "127.9.9.9:7443", "[::1]:7443"):
        assert wrong_keys({"tcp.address": address, "tcp.insecure_loopback": True}) == []


@pytest.mark.parametrize("key", _TLS)
def test_tcp_without_all_of_tls_is_refused(key: str) -> None:
    given = {**_TLS, key: ""}
    assert wrong_keys({"tcp.address": "127.0.0.1:7443", **given}) == [key]


@pytest.mark.parametrize("address", ["0.0.0.0:1", "[::]:1", "10.0.0.1:1", "[2001:db8::1]:1"])
def test_no_tls_is_refused_off_loopback(address: str) -> None:
    found = wrong_keys({"tcp.address": address, "tcp.insecure_loopback": True})
    assert found == ["tcp.insecure_loopback"]


def test_tls_and_no_tls_at_once_are_refused() -> None:
    found = wrong_keys({"tcp.address": "127.0.0.1:1", "tcp.insecure_loopback": True, **_TLS})
    assert found == ["tcp.insecure_loopback"]


def test_tls_without_an_address_is_refused() -> None:
    assert wrong_keys({**_TLS}) == list(_TLS)
    assert wrong_keys({"tcp.insecure_loopback": True}) == ["tcp.insecure_loopback"]


@pytest.mark.parametrize("path", ["s", "/", "/" + "x" * 107, "/run/ocigrpc/ocigrpc.sock"])
def test_a_readonly_socket_needs_a_path_of_its_own(path: str) -> None:
    assert wrong_keys({"readonly_socket.path": path}) == ["readonly_socket.path"]
