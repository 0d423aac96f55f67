"""What went wrong with a call, as the exceptions that the service raised."""

from __future__ import annotations

import errno
import grp
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import grpc

from ocigrpc.client.channel import host_and_port, socket_path
from ocigrpc.errors import Cancelled, LimitReached, OcigrpcError, Timeout

# How long an address may take to accept a connection.
_CONNECT_LIMIT_S = 5.0


class Unreachable(OcigrpcError):
    """No service answers at the address; the metadata has it as ``address``.

    ``reason`` is NOT_RUNNING, SOCKET_DENIED (with the ``group`` that may connect, if there is
    one) or, for what else keeps a connection from being made, UNREACHABLE.
    """

    reason = "UNREACHABLE"
    more_reasons = "NOT_RUNNING SOCKET_DENIED"


@contextmanager
def translated(address: str) -> Iterator[None]:
    """Raise the failure of a call in the block as an ``OcigrpcError``."""
    try:
        yield
    except grpc.RpcError as error:
        raise failure_of(error, address) from None


def require_reachable(address: str, limit_s: float = _CONNECT_LIMIT_S) -> None:
    """Raise ``Unreachable`` unless somebody listens there, ``ValueError`` if it is no address.

    Nobody is waited for longer than a limit of the client's own.
    """
    limit_s = min(limit_s, _CONNECT_LIMIT_S)
    path = socket_path(address)
    try:
        if path:
            with socket.socket(socket.AF_UNIX) as attempt:
                attempt.settimeout(limit_s)
                attempt.connect(path)
        else:
            socket.create_connection(host_and_port(address), limit_s).close()
    except OSError as error:
        raise _unreachable(path or address, error) from None


def _unreachable(path: str, error: OSError) -> Unreachable:
    if error.errno in (errno.ENOENT, errno.ECONNREFUSED):
        return Unreachable(
            f"the service is not running: nothing listens at {path}",
            reason="NOT_RUNNING",
            address=path,
        )
    if error.errno in (errno.EACCES, errno.EPERM):
        group = _group(path)
        missing = f": you are not in group {group}" if group else ""
        return Unreachable(
            f"permission denied at {path}{missing}",
            reason="SOCKET_DENIED",
            address=path,
            **({"group": group} if group else {}),
        )
    return Unreachable(f"can't connect to {path}: {error.strerror or error}", address=path)


def _group(path: str) -> str:
    """The group that a user should be in to connect; empty if that can't be known or helped."""
    try:
        found = os.stat(path)
    except OSError:
        return ""
    if found.st_gid in (os.getegid(), *os.getgroups()):
        return ""
    try:
        return grp.getgrgid(found.st_gid).gr_name
    except KeyError:
        return str(found.st_gid)


def failure_of(error: grpc.RpcError, address: str) -> OcigrpcError:
    """The failure of a call, as the service raised it, or what stands for that."""
    # Imported when a call fails, since most commands have none that does.
    from grpc_status import rpc_status

    from ocigrpc.rpc.errors import error_of

    # What gRPC raises is the call as well.
    assert isinstance(error, grpc.Call)
    try:
        status = rpc_status.from_call(error)
    except ValueError:
        # The call was given up while its answer was on the way: the code is gRPC's, the details
        # are of the answer.
        status = None
    known = error_of(status) if status is not None else None
    if known is not None:
        return known
    # Made by gRPC itself, on either side: it knows no reasons.
    code, details = error.code(), error.details() or "no details"
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return Timeout("the deadline has passed")
    if code is grpc.StatusCode.CANCELLED:
        return Cancelled("the call was cancelled")
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
        return LimitReached(details)
    if code is grpc.StatusCode.UNAVAILABLE:
        try:
            require_reachable(address)
        except Unreachable as unreachable:
            return unreachable
        return Unreachable(f"the connection failed: {details}", address=address)
    return OcigrpcError(f"{code.name}: {details}", code=code.name)
