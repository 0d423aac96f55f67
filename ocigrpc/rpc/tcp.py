"""The TCP address that clients connect to."""

from __future__ import annotations

import grpc

from ocigrpc.errors import HostFailed
from ocigrpc.log import get_logger
from ocigrpc.rpc.tls import Certificates
from ocigrpc.settings.rules import TcpAddress
from ocigrpc.settings.values import Settings

log = get_logger()


def start_on_tcp(server: grpc.Server, settings: Settings) -> TcpAddress:
    """Start ``server`` on the TCP address of ``settings``; the address with the actual port.

    With mutual TLS, unless the settings allow otherwise. Raises ``InvalidSettings`` for unusable
    certificates, ``HostFailed`` when the host refuses the address.
    """
    wanted = TcpAddress.parse(settings.tcp.address)
    insecure = settings.tcp.insecure_loopback
    credentials = None if insecure else Certificates(settings.tls).credentials()
    try:
        port = (
            server.add_secure_port(str(wanted), credentials)
            if credentials
            else server.add_insecure_port(str(wanted))
        )
    except RuntimeError as error:
        text = str(error)
        raise HostFailed(
            f"can't listen on {wanted}: {text}",
            reason="ADDRESS_UNUSABLE",
            address=wanted,
            error=text,
        ) from error
    server.start()
    bound = wanted._replace(port=port)
    if credentials is None:
        log.warning("tcp.insecure", address=str(bound))
    return bound
