"""The ways in: what may be called by each of them, and what is known of who comes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple, cast
from urllib.parse import unquote

import grpc

from ocigrpc.errors import PermissionDenied, cut

READ_ONLY = frozenset(
    {
        "Version",
        "Status",
        "ContainerStatus",
        "ListContainers",
        "WaitContainer",
        "ContainerLogs",
        "ContainerStats",
        "ListContainerStats",
        "WatchStats",
        "WatchEvents",
    }
)
"""The RPCs that change nothing, and only look."""

_PEER_LIMIT_BYTES = 256


class Door(NamedTuple):
    """An address that the service is called at."""

    address: str
    """As in the log: ``unix:`` and the path, or ``tcp:`` and the address."""
    is_read_only: bool = False

    def check(self, rpc: str) -> None:
        """Raise ``PermissionDenied`` if the RPC of this name may not be called here."""
        if self.is_read_only and rpc not in READ_ONLY:
            raise PermissionDenied(
                f"{rpc} can't be called at {self.address}, which is read-only",
                reason="READ_ONLY",
                rpc=rpc,
                address=self.address,
            )

    def peer(self, context: grpc.ServicerContext) -> str:
        """Who calls, as far as it is certain.

        ``tls:`` and the certificate's subject, or its names if it has no subject; ``tcp:``
        and the address; or ``unix:`` and the socket: grpc keeps to itself which connection
        a call came by, so that the kernel can't be asked for its process.
        """
        if self.address.startswith("unix:"):
            return self.address
        # The stubs say that each value is one; grpc gives all that there are.
        known = cast(Mapping[str, Iterable[bytes]], context.auth_context())
        return _certified(known) or _tcp(context.peer())


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
