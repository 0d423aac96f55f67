"""The socket file that clients connect to."""

from __future__ import annotations

import errno
import os
import socket
import stat
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

import grpc

from ocigrpc.errors import HostFailed, InvalidSettings

PATH_LIMIT_BYTES = 107
"""Longest path of a unix socket; unix(7)."""

_CONNECT_TIMEOUT_S = 5.0


@contextmanager
def open_unix_socket(server: grpc.Server, path: str, mode: int) -> Iterator[None]:
    """Start ``server`` on a socket at ``path``, which clients see when it serves.

    A socket that nobody listens on is replaced; the file is removed at the end, unless it
    is another's by then. Raises ``InvalidSettings`` when the path can't be used or is in
    use, ``HostFailed`` when the host refuses it.
    """
    _refuse_taken(path)
    try:
        ours = _publish(server, path, mode)
    except (OSError, RuntimeError) as error:
        text = error.strerror if isinstance(error, OSError) else str(error)
        raise HostFailed(f"can't listen on {path}: {text}", path=path, error=text) from error
    try:
        yield
    finally:
        with suppress(OSError):
            if _identity(path) == ours:
                os.unlink(path)


def _publish(server: grpc.Server, path: str, mode: int) -> tuple[int, int]:
    """Bind where nobody else can go, for grpc binds by the umask; then rename into place."""
    with ExitStack() as undo:
        hidden = tempfile.mkdtemp(prefix=".", dir=os.path.dirname(path))
        undo.callback(os.rmdir, hidden)
        bound = f"{hidden}/s"
        if len(bound.encode()) > PATH_LIMIT_BYTES:
            raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
        undo.callback(_unlink, bound)
        server.add_insecure_port(f"unix:{bound}")
        os.chmod(bound, mode)
        server.start()
        os.rename(bound, path)
        return _identity(path)


def _refuse_taken(path: str) -> None:
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            raise _unusable(path, "is there, but is no socket", "SOCKET_PATH_TAKEN")
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.settimeout(_CONNECT_TIMEOUT_S)
            probe.connect(path)
    except (FileNotFoundError, ConnectionRefusedError):
        return
    except OSError as error:
        # One that can't be asked now, as with a full backlog, is alive for all we know.
        problem = f"is there, and can't be asked who listens: {error.strerror or error}"
        raise _unusable(path, problem, "SOCKET_PATH_TAKEN") from error
    raise _unusable(path, "has another service listening on it", "SOCKET_IN_USE")


def _unusable(path: str, problem: str, reason: str) -> InvalidSettings:
    return InvalidSettings(f"socket_path: {path} {problem}", reason=reason, path=path)


def _identity(path: str) -> tuple[int, int]:
    status = os.lstat(path)
    return status.st_dev, status.st_ino


def _unlink(path: str) -> None:
    with suppress(FileNotFoundError):
        os.unlink(path)
