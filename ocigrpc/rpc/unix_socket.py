"""The socket file that clients connect to."""

from __future__ import annotations

import errno
import grp
import os
import re
import socket
import stat
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import NamedTuple

import grpc

from ocigrpc.errors import HostFailed, InvalidSettings
from ocigrpc.host.files.directory import trust_problem
from ocigrpc.rpc.listener import CONNECTIONS_LIMIT
from ocigrpc.rpc.peer_proxy import PeerProxy

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


@contextmanager
def open_unix_socket(server: grpc.Server, wanted: UnixSocket) -> Iterator[None]:
    """Start ``server`` behind a socket file, which appears when it serves.

    A socket without a listener is replaced; the file is removed at the end, unless it is another
    service's by then. Raises ``InvalidSettings`` when the path is unusable or in use,
    ``HostFailed`` when the host refuses it.
    """
    path = wanted.path
    try:
        gid = _gid(wanted)
        _refuse_directory(wanted, gid)
        _refuse_taken(wanted)
        proxy, ours = _publish(server, wanted, gid)
    except (OSError, RuntimeError) as error:
        text = error.strerror if isinstance(error, OSError) else str(error)
        raise HostFailed(f"can't listen on {path}: {text}", path=path, error=text) from error
    try:
        yield
    finally:
        with suppress(OSError):
            if _identity(path) == ours:
                os.unlink(path)
        if proxy:
            proxy.close(_LAST_ANSWERS_S)


def _publish(
    server: grpc.Server, wanted: UnixSocket, gid: int | None
) -> tuple[PeerProxy | None, tuple[int, int]]:
    """Bind in a private directory, and rename the socket to its place when it is served."""
    directory = os.path.dirname(wanted.path)
    with tempfile.TemporaryDirectory(prefix=".", dir=directory) as hidden, ExitStack() as failed:
        outside, inside = f"{hidden}/o", f"{hidden}/i"
        if len(inside.encode()) > PATH_LIMIT_BYTES:
            raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
        server.add_insecure_port(f"unix:{inside if wanted.identify_peers else outside}")
        server.start()
        proxy = _proxy(outside, inside) if wanted.identify_peers else None
        if proxy:
            failed.callback(proxy.close, 0)
        if gid is not None:
            os.chown(outside, -1, gid)
        os.chmod(outside, wanted.mode)
        ours = _identity(outside)
        os.rename(outside, wanted.path)
        failed.pop_all()
    return proxy, ours


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
        raise _unusable(wanted, problem, "SOCKET_PATH_TAKEN") from error
    raise _unusable(wanted, "has another service listening on it", "SOCKET_IN_USE")


def _unusable(wanted: UnixSocket, problem: str, reason: str, **metadata: object) -> InvalidSettings:
    message = f"{wanted.setting}: {wanted.path} {problem}"
    return InvalidSettings(message, reason=reason, key=wanted.setting, path=wanted.path, **metadata)


def _identity(path: str) -> tuple[int, int]:
    status = os.lstat(path)
    return status.st_dev, status.st_ino
