"""The ways in: what may be called by each of them, and what is known of who comes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple, cast
from urllib.parse import unquote

import grpc

from ocigrpc.errors import PermissionDenied, cut
from ocigrpc.rpc.methods import Method
from ocigrpc.rpc.peer_proxy import peer_at

# Most connections to each listener, so that who only connects can't take all descriptors.
CONNECTIONS_LIMIT = 1024

_PEER_LIMIT_BYTES = 256


class Listener(NamedTuple):
    """An address that the service is called at."""

    address: str
    """As in the log: ``unix:`` and the path, or ``tcp:`` and the address."""
    is_read_only: bool = False

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
        """Who calls, for the log, as far as it is certain.

        ``peer`` is ``tls:`` and the certificate's subject, or its names if it has no subject;
        ``tcp:`` and the address; or ``unix:`` and the socket. The last has besides the
        ``peer_pid`` and ``peer_uid`` of the process that connected to it; no pid if that one
        is of another pid namespace.
        """
        address = context.peer()
        if not self.address.startswith("unix:"):
            # The stubs say that each value is one; grpc gives all that there are.
            proven = cast(Mapping[str, Iterable[bytes]], context.auth_context())
            return {"peer": _certified(proven) or _tcp(address)}
        who = peer_at(address)
        known = {"peer_pid": who.pid or None, "peer_uid": who.uid} if who else {}
        return {"peer": self.address, **known}


def _certified(known: Mapping[str, Iterable[bytes]]) -> str:
    subject = _text(known.get("x509_subject", ()))
    names = _text(known.get("x509_subject_alternative_name", ()))
    if not subject and not names:
        return ""
    return cut(f"tls:{subject or f'SAN={names}'}", _PEER_LIMIT_BYTES)


def _text(values: Iterable[bytes]) -> str:
    return ",".join(value.decode(errors="replace") for value in values)


def _tcp(peer: str) -> str:
    """``tcp:[::1]:7443`` of grpc's ``ipv6:%5B::1%5D:7443``."""
    return "tcp:" + unquote(peer.partition(":")[2])
