"""The rules of who may call: which addresses and certificates the settings may name."""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Iterator
from typing import NamedTuple

from ocigrpc.settings.values import Settings, path_problem

TLS_KEYS = ("tls_cert_path", "tls_key_path", "tls_client_ca_path")
"""The settings that mutual TLS needs, all of them."""

_TCP_ADDRESS = re.compile(r"(?:\[([0-9a-fA-F:.]+)\]|([0-9.]+)):([0-9]{1,5})", re.ASCII)


class TcpAddress(NamedTuple):
    """An IP address, in brackets if it is one of IPv6, and a port; 0 is any free one."""

    host: str
    port: int
    is_loopback: bool

    @classmethod
    def parse(cls, text: str) -> TcpAddress:
        """The address of a text like ``[::1]:7443``. Raises ``ValueError``."""
        found = _TCP_ADDRESS.fullmatch(text)
        if found is None or int(found[3]) > 65535:
            raise ValueError(text)
        # A name would be resolved by others, and to whatever they say.
        address = ipaddress.ip_address(found[1] or found[2])
        if (address.version == 6) != bool(found[1]):
            raise ValueError(text)
        host = f"[{address}]" if address.version == 6 else str(address)
        return cls(host, int(found[3]), address.is_loopback)

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


def access_problems(settings: Settings) -> Iterator[tuple[str, str]]:
    """What is wrong with who may call: keys and why, as ``settings.problems`` has them."""
    if problem := _socket_path_problem(settings.socket_path):
        yield "socket_path", problem
    if settings.readonly_socket_path:
        if problem := _socket_path_problem(settings.readonly_socket_path):
            yield "readonly_socket_path", problem
        if settings.readonly_socket_path == settings.socket_path:
            yield "readonly_socket_path", "must not be socket_path, where everything is allowed"
    for key in TLS_KEYS:
        path = getattr(settings, key)
        if path and (problem := path_problem(path)):
            yield key, problem
    if settings.tcp_address:
        yield from _tcp_problems(settings)
        return
    for key in (*TLS_KEYS, "tcp_insecure_loopback"):
        if getattr(settings, key):
            yield key, "is of no use without tcp_address"


def _socket_path_problem(path: str) -> str:
    """See unix(7)."""
    if len(path.encode()) > 107:
        return "is longer than the 107 bytes that a socket's path can have"
    # It is bound under a hidden name of 12 bytes, before anybody can connect.
    if len(os.path.dirname(path).encode()) + 12 > 107:
        return "is in a directory whose path is longer than 95 bytes"
    return path_problem(path)


def _tcp_problems(settings: Settings) -> Iterator[tuple[str, str]]:
    try:
        address = TcpAddress.parse(settings.tcp_address)
    except ValueError:
        yield (
            "tcp_address",
            "must be an IP address and a port, such as 127.0.0.1:7443 or [::1]:7443",
        )
        return
    given = [key for key in TLS_KEYS if getattr(settings, key)]
    if not settings.tcp_insecure_loopback:
        for key in TLS_KEYS:
            if key not in given:
                yield key, "is required for tcp_address, which is served by mutual TLS"
    elif given:
        yield "tcp_insecure_loopback", f"can't be true together with {given[0]}"
    elif not address.is_loopback:
        yield (
            "tcp_insecure_loopback",
            f"can't be true for {address.host}: it is no loopback address",
        )
