"""The rules that settings have to keep, beyond the type and bounds of each."""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Iterator
from typing import NamedTuple

import msgspec

from ocigrpc.settings.values import CgroupManager, RuntimeHandler, Settings, encode_hook

LOG_MAX_BYTES_LEAST = 16 << 10
"""Least size that logs can be rotated at."""

_SIZE_LIMIT_BYTES = 256 << 10
"""Most that all settings take as JSON."""

# See systemd.unit(5) and systemd.slice(5): dashes part the names of nested slices.
_SLICE = re.compile(r"(-|[\w:.\\@]+(-[\w:.\\@]+)*)\.slice", re.ASCII)
_RUNTIME_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")

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


def problems(settings: Settings) -> Iterator[tuple[str, str]]:
    """What is wrong beyond types and bounds: keys, as in ``runtimes.runc.path``, and why."""
    if len(msgspec.json.encode(settings, enc_hook=encode_hook)) > _SIZE_LIMIT_BYTES:
        yield (
            "runtimes",
            f"take all settings beyond {_SIZE_LIMIT_BYTES} bytes, which Status can tell",
        )
    for key in ("root_dir", "run_dir", "log_dir"):
        yield from _found(key, path_problem(getattr(settings, key)))
    if ":" in settings.log_dir:
        yield "log_dir", "has a colon, where conmon would cut the path"
    if 0 < settings.log_max_bytes < LOG_MAX_BYTES_LEAST:
        yield "log_max_bytes", f"must be 0, or at least {LOG_MAX_BYTES_LEAST}"
    directories = [settings.root_dir, settings.run_dir, settings.log_dir]
    for key in ("root_dir", "run_dir", "log_dir"):
        if directories.count(getattr(settings, key)) > 1:
            yield key, "root_dir, run_dir and log_dir must be three directories"
    yield from _found("conmon_path", _program_problem(settings.conmon_path))
    parent = cgroup_parent_problem(settings.cgroup_manager, settings.cgroup_parent)
    yield from _found("cgroup_parent", parent)
    for name, handler in settings.runtimes.items():
        yield from _handler_problems(name, handler)
    if settings.default_runtime not in settings.runtimes:
        names = ", ".join(sorted(settings.runtimes))
        yield "default_runtime", f"{settings.default_runtime!r} is not one of runtimes: {names}"
    yield from _access_problems(settings)


def cgroup_parent_problem(cgroup_manager: str, cgroup_parent: str) -> str:
    """Why this manager can't use this parent, or nothing when it can."""
    if len(cgroup_parent) > 1024 or not cgroup_parent.isprintable():
        return "is too long or has characters that can't be printed"
    if cgroup_manager == CgroupManager.SYSTEMD:
        if _SLICE.fullmatch(cgroup_parent) and len(cgroup_parent) <= 255:
            return ""
        return 'must be a slice such as "machine.slice" with the systemd manager'
    parts = cgroup_parent.split("/")[1:]
    if cgroup_parent.startswith("/") and _plain(parts):
        return ""
    return 'must be an absolute path such as "/ocigrpc" with the cgroupfs manager'


def _plain(parts: list[str]) -> bool:
    return all(part not in ("", ".", "..") for part in parts)


def _handler_problems(name: str, handler: RuntimeHandler) -> Iterator[tuple[str, str]]:
    key = f"runtimes.{name}"
    if not _RUNTIME_NAME.fullmatch(name):
        yield key, "a name has letters, digits and . _ -, a letter or digit first, at most 63"
    yield from _found(f"{key}.path", _program_problem(handler.path))
    if handler.root:
        yield from _found(f"{key}.root", path_problem(handler.root))
    if any("\0" in argument for argument in handler.args):
        yield f"{key}.args", "has a NUL, which no argument can have"


def _found(key: str, problem: str) -> Iterator[tuple[str, str]]:
    if problem:
        yield key, problem


def path_problem(path: str) -> str:
    """Why this is no absolute path to use, or nothing when it is."""
    if not path.startswith("/"):
        return "must be an absolute path"
    if len(path.encode()) > 1024:
        return "is longer than 1024 bytes"
    if not path.strip("/") or not path.isprintable():
        return "must name something, in characters that can be printed"
    return ""


def _program_problem(path: str) -> str:
    """A bare name is looked up on PATH; a relative path would depend on where we stand."""
    if path and "/" not in path and path.isprintable():
        return ""
    return path_problem(path) and "must be an absolute path, or a name to look up on PATH"


def _access_problems(settings: Settings) -> Iterator[tuple[str, str]]:
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
