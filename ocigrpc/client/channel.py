"""A channel to a service: its address, its credentials, and which calls are repeated."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from typing import NamedTuple

import grpc

from ocigrpc.contract import contract_file

# Where a service with the default settings listens.
DEFAULT_ADDRESS = "unix:///run/ocigrpc/ocigrpc.sock"

# ``ExecSync`` answers at most twice ``max_output_bytes`` of at most 16 MiB, and 64 bytes.
_MESSAGE_LIMIT_BYTES = (32 << 20) + 64

_RESERVED = re.compile(rb"[^A-Za-z0-9/._~-]")
_HOST_AND_PORT = re.compile(r"([A-Za-z0-9._-]+|\[[A-Fa-f0-9:.]+(?:%\w+)?\]):([0-9]{1,5})")


class Tls(NamedTuple):
    """What a client needs to be known at a TCP address: paths of PEM files."""

    cert_path: str
    """Its certificate, with the intermediate ones."""
    key_path: str
    """The private key of that."""
    ca_path: str
    """Certificates of the authorities that the service's certificate may come from."""


def socket_path(address: str) -> str:
    """The path of the socket at an address; empty for one of TCP."""
    if address.startswith("/"):
        return address
    scheme, _, path = address.partition(":")
    if scheme != "unix":
        return ""
    return path.removeprefix("//") if path.startswith("///") else path


def host_and_port(address: str) -> tuple[str, int]:
    """Where an address of TCP is. Raises ``ValueError`` if it is none."""
    found = _HOST_AND_PORT.fullmatch(address)
    if found is None or not 0 < int(found[2]) < 1 << 16:
        raise ValueError(f"{address!r} is no address: that is /PATH, unix:///PATH or HOST:PORT")
    return found[1].strip("[]"), int(found[2])


def target_of(address: str) -> str:
    """An address as gRPC has it. Raises ``ValueError`` if it is none."""
    if path := socket_path(address):
        return f"unix:{_quoted(path)}"
    host_and_port(address)
    return address


def _quoted(path: str) -> str:
    """A path as in a URI; see section 2.1 of RFC 3986."""
    return _RESERVED.sub(lambda found: b"%%%02X" % ord(found[0]), os.fsencode(path)).decode()


def open_channel(address: str, tls: Tls | None) -> grpc.Channel:
    """A channel that connects with its first call.

    Raises ``ValueError`` for the address, ``OSError`` for the files of ``tls``.
    """
    options: Sequence[tuple[str, str | int]] = [
        ("grpc.service_config", contract_file("service_config.json")),
        ("grpc.max_receive_message_length", _MESSAGE_LIMIT_BYTES),
        # One connection each, so that the service knows this process by its connection.
        ("grpc.use_local_subchannel_pool", 1),
        # A service that is back is found again within a second; gRPC itself would wait longer and
        # longer, up to two minutes.
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 1000),
        # A service is in no other network.
        ("grpc.enable_http_proxy", 0),
    ]
    target = target_of(address)
    if tls is None:
        return grpc.insecure_channel(target, options)
    credentials = grpc.ssl_channel_credentials(
        root_certificates=_read(tls.ca_path),
        private_key=_read(tls.key_path),
        certificate_chain=_read(tls.cert_path),
    )
    return grpc.secure_channel(target, credentials, options)


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()
