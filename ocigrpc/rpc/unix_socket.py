"""The socket file that clients connect to."""

from __future__ import annotations

import errno
import grp
import os
import re
import socket
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import NamedTuple

import grpc

from ocigrpc.errors import HostFailed, InvalidSettings
from ocigrpc.host.files.directory import trust_problem
from ocigrpc.rpc.listener import CONNECTIONS_LIMIT
from ocigrpc.rpc.peer_proxy import PeerProxy
from ocigrpc.settings.access import MetricsSettings

# Longest path of a unix socket; unix(7).
PATH_LIMIT_BYTES = 107

_CONNECT_TIMEOUT_S = 5.0
# How long clients may take to read the last answers.
_LAST_ANSWERS_S = 1.0
# Nine digits stay below the number that means "no group" to chown(2).
_GID = re.compile("[0-9]{1,9}")


class UnixSocket(NamedTuple):
    """A socket file and its permissions."""

    setting: str
    """The setting of its path, for errors."""
    path: str
    mode: int
    group: str
    """A name or a number. Empty: the service's own."""
    identify_peers: bool = True
    """Whether the calling processes are known, by a :class:`PeerProxy`."""


def metrics_socket(metrics: MetricsSettings) -> UnixSocket:
    """Where metrics are served, if that is a socket."""
    return UnixSocket("metrics.address", metrics.socket_path, metrics.mode, metrics.group)


@contextmanager
def open_unix_socket(server: grpc.Server, wanted: UnixSocket) -> Iterator[str]:
    """Start ``server`` behind a socket file; see :func:`socket_file` for the rest.

    The address in the block is one at which this process can connect even if clients have all
    connections: behind a proxy the same, which keeps one for it, or else a second one of the
    server, whose file is removed, so that nobody else finds it.
    """
    with ExitStack() as stack:
        own_address = f"unix:{wanted.path}"

        def listen(outside: str, inside: str) -> None:
            nonlocal own_address
            server.add_insecure_port(f"unix:{inside}")
            if wanted.identify_peers:
                server.start()
                # Later than the file is removed.
                stack.callback(_proxy(outside, inside).close, _LAST_ANSWERS_S)
            else:
                server.add_insecure_port(f"unix:{outside}")
                server.start()
                own = os.open(inside, os.O_PATH | os.O_CLOEXEC)
                stack.callback(os.close, own)
                own_address = f"unix:/proc/self/fd/{own}"

        stack.enter_context(socket_file(wanted, listen))
        yield own_address


@contextmanager
def socket_file(wanted: UnixSocket, listen: Callable[[str, str], None]) -> Iterator[None]:
    """Have a socket file, which appears when its socket listens.

    ``listen`` has a socket listen at the first of two paths, which is renamed afterwards, and may
    use the second one meanwhile. A socket without a listener is replaced; the file is removed at
    the end, unless it is another service's by then. Raises ``InvalidSettings`` when the path is
    unusable, ``HostFailed`` when it is in use or the host refuses it.
    """
    path = wanted.path
    with _explained(path):
        gid = check_place(wanted)
        _refuse_taken(wanted)
        with _hidden(path) as (outside, inside):
            listen(outside, inside)
            if gid is not None:
                os.chown(outside, -1, gid)
            os.chmod(outside, wanted.mode)
            ours = _identity(outside)
            os.rename(outside, path)
    try:
        yield
    finally:
        with suppress(OSError):
            if _identity(path) == ours:
                os.unlink(path)


@contextmanager
def take_over_socket(
    server: grpc.Server, wanted: UnixSocket, listener: socket.socket
) -> Iterator[PeerProxy]:
    """Start ``server`` behind a listening socket, which like its file remains the caller's.

    Connections wait in it until the proxy is to accept them. Its permissions are those that it
    has. Errors are those of :func:`open_unix_socket`.
    """
    with _explained(wanted.path):
        _refuse_directory(wanted, None)
        with _hidden(wanted.path) as (_, inside):
            server.add_insecure_port(f"unix:{inside}")
            server.start()
            proxy = PeerProxy(listener.dup(), inside, CONNECTIONS_LIMIT, hands_over=True)
    try:
        yield proxy
    finally:
        proxy.close(_LAST_ANSWERS_S)


@contextmanager
def _explained(path: str) -> Iterator[None]:
    try:
        yield
    except (OSError, RuntimeError) as error:
        text = error.strerror if isinstance(error, OSError) else str(error)
        raise HostFailed(f"can't listen on {path}: {text}", path=path, error=text) from error


@contextmanager
def _hidden(path: str) -> Iterator[tuple[str, str]]:
    """Two paths for sockets that nobody finds, on the file system of ``path``."""
    with tempfile.TemporaryDirectory(prefix=".", dir=os.path.dirname(path)) as hidden:
        outside, inside = f"{hidden}/o", f"{hidden}/i"
        if len(inside.encode()) > PATH_LIMIT_BYTES:
            raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
        yield outside, inside


def check_place(wanted: UnixSocket) -> int | None:
    """The group of a socket, None for the service's own.

    Raises ``InvalidSettings`` if it does not exist, or if the directory is not safe, or closed to
    it; ``OSError`` if the directory can't be examined.
    """
    gid = _gid(wanted)
    _refuse_directory(wanted, gid)
    return gid


def _proxy(outside: str, inside: str) -> PeerProxy:
    """A proxy from one path, which it binds, to the server at another."""
    with ExitStack() as failed:
        listener = failed.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        listener.bind(outside)
        listener.listen(socket.SOMAXCONN)
        proxy = PeerProxy(listener, inside, CONNECTIONS_LIMIT)
        failed.pop_all()
    return proxy


def _gid(wanted: UnixSocket) -> int | None:
    if not wanted.group:
        return None
    if _GID.fullmatch(wanted.group):
        return int(wanted.group)
    try:
        return grp.getgrnam(wanted.group).gr_gid
    except KeyError:
        problem = f"can't have group {wanted.group!r}, which the host does not know"
        raise _unusable(wanted, problem, "UNKNOWN_GROUP", group=wanted.group) from None


def _refuse_directory(wanted: UnixSocket, gid: int | None) -> None:
    directory = os.path.dirname(wanted.path)
    problem = trust_problem(directory, sorted({0, os.geteuid()}))
    if problem:
        problem = f"is in directory {directory}, which {problem}"
        raise _unusable(wanted, problem, "SOCKET_DIRECTORY_UNSAFE", directory=directory)
    if gid is None:
        return
    found = os.stat(directory)
    if not found.st_mode & (stat.S_IXGRP if found.st_gid == gid else stat.S_IXOTH):
        problem = f"is in directory {directory}, which group {wanted.group} can't enter"
        raise _unusable(
            wanted,
            problem,
            "SOCKET_DIRECTORY_CLOSED",
            directory=directory,
            group=wanted.group,
        )


def _refuse_taken(wanted: UnixSocket) -> None:
    path = wanted.path
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            raise _unusable(wanted, "is there, but is no socket", "SOCKET_PATH_TAKEN")
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.settimeout(_CONNECT_TIMEOUT_S)
            probe.connect(path)
    except (FileNotFoundError, ConnectionRefusedError):
        return
    except OSError as error:
        # A socket that can't be probed, as with a full backlog, may well have a listener.
        problem = f"is there, and can't be probed for a listener: {error.strerror or error}"
        raise _in_use(wanted, problem) from error
    raise _in_use(wanted, "has another service listening on it")


def _in_use(wanted: UnixSocket, problem: str) -> HostFailed:
    """Not wrong settings: the other service may end."""
    message = f"{wanted.setting}: {wanted.path} {problem}"
    return HostFailed(message, reason="SOCKET_IN_USE", path=wanted.path)


def _unusable(wanted: UnixSocket, problem: str, reason: str, **metadata: object) -> InvalidSettings:
    message = f"{wanted.setting}: {wanted.path} {problem}"
    return InvalidSettings(message, reason=reason, key=wanted.setting, path=wanted.path, **metadata)


def _identity(path: str) -> tuple[int, int]:
    status = os.lstat(path)
    return status.st_dev, status.st_ino
