"""Listeners: the methods that may be called at each, and what is known about callers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple, cast
from urllib.parse import unquote

import grpc

from ocigrpc.errors import PermissionDenied, cut
from ocigrpc.rpc.methods import Method
from ocigrpc.rpc.peer_proxy import peer_at

# Most connections to each listener, so that idle ones can't use up all descriptors.
CONNECTIONS_LIMIT = 1024

_PEER_LIMIT_BYTES = 256


class Listener(NamedTuple):
    """An address where the service is called."""

    address: str
    """As in the log: ``unix:`` and the path, or ``tcp:`` and the address."""
    is_read_only: bool = False
    identifies_peers: bool = False
    """Whether all calls come from a proxy, which names the process; others name themselves."""

    def check(self, method: Method) -> None:
        """Raise ``PermissionDenied`` if a method may not be called here."""
        if self.is_read_only and not method.is_read_only:
            raise PermissionDenied(
                f"{method.name} can't be called at {self.address}, which is read-only",
                reason="READ_ONLY",
                rpc=method.name,
                address=self.address,
            )

    def caller(self, context: grpc.ServicerContext) -> Mapping[str, object]:
        """The caller, for the log, as far as it is proven.

        ``peer`` is ``tls:`` and the certificate's subject, or its names if it has no subject;
        ``tcp:`` and the address; or ``unix:`` and the socket. For a unix socket, ``peer_pid``
        and ``peer_uid`` are those of the process that connected, if a proxy identifies it;
        ``peer_pid`` is None if the process is in another pid namespace.
        """
        address = context.peer()
        if not self.address.startswith("unix:"):
            # The stubs declare one value per key, but grpc gives all of them.
            proven = cast(Mapping[str, Iterable[bytes]], context.auth_context())
            # grpc writes ipv6:%5B::1%5D:7443.
            return {"peer": _certified(proven) or "tcp:" + unquote(address.partition(":")[2])}
        peer = peer_at(address) if self.identifies_peers else None
        process = {"peer_pid": peer.pid or None, "peer_uid": peer.uid} if peer else {}
        return {"peer": self.address, **process}


def _certified(proven: Mapping[str, Iterable[bytes]]) -> str:
    subject = _text(proven.get("x509_subject", ()))
    names = _text(proven.get("x509_subject_alternative_name", ()))
    if not subject and not names:
        return ""
    return cut(f"tls:{subject or f'SAN={names}'}", _PEER_LIMIT_BYTES)


def _text(values: Iterable[bytes]) -> str:
    return ",".join(value.decode(errors="replace") for value in values)
