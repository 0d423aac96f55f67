"""The directories and addresses of the settings."""

from __future__ import annotations

import importlib.util
import os
import socket
import stat
from collections.abc import Iterator
from contextlib import ExitStack

from ocigrpc.cli.doctor.findings import Finding, Host, failed, fine, warning
from ocigrpc.errors import InvalidSettings
from ocigrpc.host.files.directory import is_open_to_others, trust_problem
from ocigrpc.settings.access import MetricsSettings, SocketSettings
from ocigrpc.settings.rules import TcpAddress

# Below these, the disk is about to be full.
_LOW_BYTES = 64 << 20
_LOW_FILES = 1000

_CONNECT_S = 5.0


def check_directories(host: Host) -> Iterator[Finding]:
    """That nobody else can write to them, and that there is room."""
    settings = host.settings
    for path in (settings.root_dir, settings.run_dir, settings.logs.dir):
        try:
            existing = nearest(path)
        except PermissionError:
            yield warning(f"{path}: only root may look there", "run doctor as root")
            continue
        # Through it, the root of a user namespace comes to its root filesystem.
        may_be_searched = path == settings.root_dir
        yield from _directory(path, existing, may_be_searched=may_be_searched)
        yield from _room(existing)


def nearest(path: str) -> str:
    """The path, or the one above it that exists."""
    while True:
        try:
            os.lstat(path)
        except FileNotFoundError:
            path = os.path.dirname(path)
        else:
            return path


def _directory(path: str, existing: str, *, may_be_searched: bool) -> Iterator[Finding]:
    if existing != path:
        yield fine(f"{path} does not exist yet: the service makes it")
        return
    problem = trust_problem(path, [0])
    mode = stat.S_IMODE(os.lstat(path).st_mode)
    if problem:
        remedy = f"make it a directory of root's with mode 0700, or use another than {path}"
        yield failed(f"{path} {problem}", remedy)
    elif is_open_to_others(mode, may_be_searched=may_be_searched):
        yield warning(f"{path} is open to other users: mode {mode:04o}", f"chmod 0700 {path}")
    else:
        yield fine(path)


def _room(path: str) -> Iterator[Finding]:
    found = os.statvfs(path)
    free_bytes = found.f_bavail * found.f_frsize
    if free_bytes < _LOW_BYTES:
        finding = warning if free_bytes else failed
        yield finding(f"{path}: {free_bytes >> 20} MiB are free", "make room there")
    # Some file systems don't count files.
    if found.f_files and found.f_favail < _LOW_FILES:
        finding = warning if found.f_favail else failed
        yield finding(f"{path}: {found.f_favail} inodes are free", "remove files there")


def check_addresses(host: Host) -> Iterator[Finding]:
    """Whether the service listens, whether it could, and who may connect."""
    settings = host.settings
    yield from _socket("socket.path", settings.socket, "run programs as root")
    if settings.readonly_socket.path:
        yield from _socket("readonly_socket.path", settings.readonly_socket, "read its secrets")
    if settings.tcp.address:
        yield from _tcp(host)
    if settings.metrics.address:
        yield _metrics(settings.metrics)


def _socket(key: str, wanted: SocketSettings, power: str) -> Iterator[Finding]:
    # Imported here, since it loads gRPC.
    from ocigrpc.client.failures import Unreachable, require_reachable
    from ocigrpc.rpc.unix_socket import UnixSocket, check_place

    path = wanted.path
    if os.path.isdir(os.path.dirname(path)):
        try:
            check_place(UnixSocket(key, path, wanted.mode, wanted.group))
        except InvalidSettings as error:
            yield failed(error.message, f"correct the directory, or change {key}")
            return
    try:
        require_reachable(f"unix:{path}")
    except Unreachable as error:
        if error.reason == "NOT_RUNNING":
            yield warning(f"nothing listens at {path}", "systemctl start ocigrpc")
        else:
            yield failed(error.message, "ask for the group, or run doctor as root")
        return
    if wanted.mode & stat.S_IWOTH:
        yield warning(f"every user who reaches {path} can {power}", f"set {key[:-4]}mode to 0660")
    else:
        group = f" and group {wanted.group}" if wanted.group else ""
        yield fine(f"the service listens at {path}, for root{group}")


def _tcp(host: Host) -> Iterator[Finding]:
    from ocigrpc.rpc.tcp import Certificates

    settings = host.settings
    address = TcpAddress.parse(settings.tcp.address)
    if settings.tcp.insecure_loopback:
        problem = f"every user of this host can run programs as root at {address}"
        yield warning(problem, "use TLS, or the socket alone")
    else:
        try:
            Certificates(settings.tls)
        except InvalidSettings as error:
            yield failed(error.message, "correct the file, or the setting")
    try:
        socket.create_connection((address.host.strip("[]"), address.port), _CONNECT_S).close()
    except OSError as error:
        remedy = "systemctl start ocigrpc"
        yield warning(f"nothing answers at {address}: {error.strerror or error}", remedy)
    else:
        yield fine(f"the service listens at {address}")


def _metrics(metrics: MetricsSettings) -> Finding:
    from ocigrpc.rpc.unix_socket import check_place, metrics_socket

    if importlib.util.find_spec("prometheus_client") is None:
        problem = "metrics.address takes the package prometheus-client, which is not installed"
        return failed(problem, "pip install 'ocigrpc[metrics]'")
    path = metrics.socket_path
    try:
        if os.path.isdir(os.path.dirname(path)):
            check_place(metrics_socket(metrics))
        answer = _scraped(metrics)
    except InvalidSettings as error:
        return failed(error.message, "correct the directory, or change metrics.address")
    except OSError as error:
        problem = f"no metrics at {metrics.address}: {error.strerror or error}"
        return warning(problem, "systemctl start ocigrpc")
    if not answer.startswith(b"HTTP/1.0 200 "):
        remedy = "see the log of the service, or change metrics.address"
        return warning(f"what listens at {metrics.address} answers without metrics", remedy)
    return fine(f"metrics are served at {metrics.address}")


def _scraped(metrics: MetricsSettings) -> bytes:
    """The beginning of what is answered there; raises ``OSError``."""
    with ExitStack() as stack:
        if metrics.socket_path:
            connection = stack.enter_context(socket.socket(socket.AF_UNIX))
            connection.settimeout(_CONNECT_S)
            connection.connect(metrics.socket_path)
        else:
            address = TcpAddress.parse(metrics.address)
            place = address.host.strip("[]"), address.port
            connection = stack.enter_context(socket.create_connection(place, _CONNECT_S))
        connection.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
        return connection.recv(128)
