"""The rules that settings have to keep, beyond the type and bounds of each."""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Collection, Iterator
from typing import NamedTuple
from urllib.parse import urlsplit

import msgspec

from ocigrpc.settings.access import TcpSettings
from ocigrpc.settings.values import (
    CgroupManager,
    RuntimeHandler,
    Settings,
    encode_hook,
)

# The least size that logs can be rotated at.
LOG_MAX_BYTES_LEAST = 16 << 10
# The most that all settings take as JSON.
_SIZE_LIMIT_BYTES = 256 << 10

# See systemd.unit(5) and systemd.slice(5): dashes separate the names of nested slices.
_SLICE = re.compile(r"(-|[\w:.\\@]+(-[\w:.\\@]+)*)\.slice", re.ASCII)
_MOUNT_OPTION = re.compile(
    "(?:metacopy|index)=(?:on|off)|redirect_dir=(?:on|follow|nofollow|off)|xino=(?:on|off|auto)"
)
_RUNTIME_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")

# The settings that mutual TLS needs, all of them.
TLS_KEYS = ("tls.cert_path", "tls.key_path", "tls.client_ca_path")
_NO_ADDRESS = "is of no use without tcp.address"

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
        # No host names: what they resolve to is decided elsewhere.
        address = ipaddress.ip_address(found[1] or found[2])
        if (address.version == 6) != bool(found[1]):
            raise ValueError(text)
        host = f"[{address}]" if address.version == 6 else str(address)
        return cls(host, int(found[3]), address.is_loopback)

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


def problems(settings: Settings) -> Iterator[tuple[str, str]]:
    """What is wrong beyond types and bounds: keys, as in ``runtimes.runc.path``, and why."""
    return ((key, problem) for key, problem in _checked(settings) if problem)


def _checked(settings: Settings) -> Iterator[tuple[str, str]]:
    """The same, with an empty text for what is right."""
    if len(msgspec.json.encode(settings, enc_hook=encode_hook)) > _SIZE_LIMIT_BYTES:
        yield (
            "runtimes",
            f"make all settings larger than {_SIZE_LIMIT_BYTES} bytes, the most for Status",
        )
    directories = {
        "root_dir": settings.root_dir,
        "run_dir": settings.run_dir,
        "logs.dir": settings.logs.dir,
    }
    for key, path in directories.items():
        yield key, path_problem(path)
    if ":" in settings.logs.dir:
        yield "logs.dir", "has a colon, where conmon would cut the path"
    if 0 < settings.logs.max_bytes < LOG_MAX_BYTES_LEAST:
        yield "logs.max_bytes", f"must be 0, or at least {LOG_MAX_BYTES_LEAST}"
    for key, path in directories.items():
        if list(directories.values()).count(path) > 1:
            yield key, f"{', '.join(directories)} must be three directories"
    yield "conmon.path", _program_problem(settings.conmon.path)
    yield from _images_problems(settings, directories.values())
    manager = settings.cgroup.manager
    yield "cgroup.parent", cgroup_parent_problem(manager, settings.cgroup.parent)
    if monitors := settings.conmon.cgroup_parent:
        yield "conmon.cgroup_parent", cgroup_parent_problem(manager, monitors)
    for name, handler in settings.runtimes.items():
        yield from _handler_problems(name, handler)
    if settings.default_runtime not in settings.runtimes:
        names = ", ".join(sorted(settings.runtimes))
        yield "default_runtime", f"{settings.default_runtime!r} is not one of runtimes: {names}"
    yield from _access_problems(settings)


def _images_problems(settings: Settings, taken: Collection[str]) -> Iterator[tuple[str, str]]:
    """``taken`` are directories that are for something else."""
    root, run = settings.images_root, settings.images_run
    for key, path in (("images.root", root), ("images.run", run)):
        yield key, path_problem(path) or ("is for something else" if path in taken else "")
        # skopeo gets both in one word, in which these mean something.
        if set(path) & set("[]+@:"):
            yield key, "must not have any of the characters [ ] + @ and :"
    if root == run:
        yield "images.run", "must be another directory than images.root"
    yield "images.skopeo", _program_problem(settings.images.skopeo)
    for name in ("policy", "registries_conf", "registries_d", "auth_file"):
        if path := getattr(settings.images, name):
            yield f"images.{name}", path_problem(path)
    options = settings.images.mount_options
    for option in options:
        yield "images.mount_options", _mount_option_problem(option)
    if len({each.partition("=")[0] for each in options}) < len(options):
        yield "images.mount_options", "has an option twice"
    redirects = {each for each in options if each.startswith("redirect_dir=")}
    if "metacopy=on" in options and redirects - {"redirect_dir=on"}:
        yield "images.mount_options", "'metacopy=on' takes 'redirect_dir=on' or none"


def _mount_option_problem(option: str) -> str:
    if option == "volatile":
        return (
            "'volatile' keeps nothing for certain, not even what is synced, and after a loss of"
            " power the kernel refuses to mount what is left"
        )
    if not _MOUNT_OPTION.fullmatch(option):
        return f"{option!r} is none of metacopy, redirect_dir, index and xino with its value"
    return ""


def cgroup_parent_problem(cgroup_manager: str, cgroup_parent: str) -> str:
    """Why this manager can't use this parent; empty if it can."""
    if len(cgroup_parent) > 1024 or not cgroup_parent.isprintable():
        return "is too long or has characters that can't be printed"
    if cgroup_manager == CgroupManager.SYSTEMD:
        if _SLICE.fullmatch(cgroup_parent) and len(cgroup_parent) <= 255:
            return ""
        return 'must be a slice such as "machine.slice" with the systemd manager'
    names = cgroup_parent.split("/")[1:]
    if cgroup_parent.startswith("/") and not {"", ".", ".."}.intersection(names):
        return ""
    return 'must be an absolute path such as "/ocigrpc" with the cgroupfs manager'


def _handler_problems(name: str, handler: RuntimeHandler) -> Iterator[tuple[str, str]]:
    key = f"runtimes.{name}"
    if not _RUNTIME_NAME.fullmatch(name):
        yield key, "a name has letters, digits and . _ -, a letter or digit first, at most 63"
    yield f"{key}.path", _program_problem(handler.path)
    if handler.root:
        yield f"{key}.root", path_problem(handler.root)
    if any("\0" in argument for argument in handler.args):
        yield f"{key}.args", "contains a NUL, which no argument can"


def path_problem(path: str) -> str:
    """Why this can't be used as an absolute path; empty if it can."""
    if not path.startswith("/"):
        return "must be an absolute path"
    if len(path.encode()) > 1024:
        return "is longer than 1024 bytes"
    if not path.strip("/") or not path.isprintable():
        return "must name something, in characters that can be printed"
    return ""


def _program_problem(path: str) -> str:
    """A bare name is looked up on PATH; a relative path would depend on the working directory."""
    if path and "/" not in path and path.isprintable():
        return ""
    return path_problem(path) and "must be an absolute path, or a name to look up on PATH"


def _access_problems(settings: Settings) -> Iterator[tuple[str, str]]:
    """The problems of sockets, TCP and TLS; see :func:`problems`."""
    yield "socket.path", _socket_path_problem(settings.socket.path)
    if settings.readonly_socket.path:
        problem = _socket_path_problem(settings.readonly_socket.path)
        yield "readonly_socket.path", problem
        if settings.readonly_socket.path == settings.socket.path:
            yield "readonly_socket.path", "must not be socket.path, where everything is allowed"
    if settings.metrics.address:
        yield "metrics.address", _metrics_problem(settings)
    if settings.traces.endpoint:
        yield "traces.endpoint", url_problem(settings.traces.endpoint)
    tls_files = ((key, getattr(settings.tls, key.partition(".")[2])) for key in TLS_KEYS)
    given = {key: path for key, path in tls_files if path}
    for key, path in given.items():
        yield key, path_problem(path)
    if settings.tcp.address:
        yield from _tcp_problems(settings.tcp, given)
        return
    for key in given:
        yield key, _NO_ADDRESS
    if settings.tcp.insecure_loopback:
        yield "tcp.insecure_loopback", _NO_ADDRESS


def _metrics_problem(settings: Settings) -> str:
    metrics = settings.metrics
    if not metrics.address.startswith("unix:"):
        problem = _address_problem(metrics.address)
        return problem and f"{problem}, or a path such as unix:///run/ocigrpc/metrics.sock"
    if problem := _socket_path_problem(metrics.socket_path):
        return problem
    if metrics.socket_path in (settings.socket.path, settings.readonly_socket.path):
        return "must be another socket than those that clients connect to"
    return ""


def _socket_path_problem(path: str) -> str:
    """See unix(7)."""
    if len(path.encode()) > 107:
        return "is longer than the 107 bytes that a socket's path can have"
    # It is bound under a hidden name of 12 bytes, before anybody can connect.
    if len(os.path.dirname(path).encode()) + 12 > 107:
        return "is in a directory whose path is longer than 95 bytes"
    return path_problem(path)


def _address_problem(text: str) -> str:
    try:
        TcpAddress.parse(text)
    except ValueError:
        return "must be an IP address and a port, such as 127.0.0.1:7443 or [::1]:7443"
    return ""


def url_problem(text: str) -> str:
    """Why this is no address that HTTP can be spoken at; empty if it is."""
    try:
        url = urlsplit(text)
        # Reading the port checks it.
        usable = url.scheme in ("http", "https") and url.hostname and url.port != 0
    except ValueError:
        usable = False
    # Settings are shown to everybody who may ask for Status.
    if not usable or "@" in url.netloc or url.query or url.fragment:
        return "must be a URL such as http://127.0.0.1:4318, without a password or a query"
    return "" if text.isprintable() and len(text) <= 1024 else "is too long or can't be printed"


def _tcp_problems(tcp: TcpSettings, tls: Collection[str]) -> Iterator[tuple[str, str]]:
    """``tls`` has the keys of the files of TLS that are given."""
    if problem := _address_problem(tcp.address):
        yield "tcp.address", problem
        return
    address = TcpAddress.parse(tcp.address)
    if not tcp.insecure_loopback:
        for key in TLS_KEYS:
            if key not in tls:
                yield key, "is required for tcp.address, which is served by mutual TLS"
    elif tls:
        yield "tcp.insecure_loopback", f"can't be true together with {next(iter(tls))}"
    elif not address.is_loopback:
        yield (
            "tcp.insecure_loopback",
            f"can't be true for {address.host}: it is not a loopback address",
        )
