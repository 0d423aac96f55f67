"""Settings of the addresses where the service is called, and the base of all tables."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct


class FileMode(int):
    """Permission bits, written as octal text such as ``"0660"``."""


class Table(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A table of the settings file."""


class SocketSettings(Table, frozen=True):
    """The unix socket."""

    path: Annotated[
        str, Meta(description="Unix socket that clients connect to; at most 107 bytes.")
    ] = "/run/ocigrpc/ocigrpc.sock"
    mode: Annotated[FileMode, Meta(description="Permissions of the socket, in octal.")] = FileMode(
        0o660
    )
    group: Annotated[
        str, Meta(description="Group of the socket, a name or a number. Empty: the service's own.")
    ] = ""
    identify_peers: Annotated[
        bool, Meta(description="Log which process and user call; adds about 0.1 ms to a call.")
    ] = True


class ReadonlySocketSettings(SocketSettings, frozen=True):
    """The unix socket at which nothing can be changed."""

    path: Annotated[
        str, Meta(description="A second socket, for calls that change nothing. Empty: none.")
    ] = ""


class TcpSettings(Table, frozen=True):
    """The TCP port."""

    address: Annotated[
        str,
        Meta(
            description="IP address and port, such as 127.0.0.1:7443 or [::1]:7443, to serve with"
            " mutual TLS 1.3. Empty: none."
        ),
    ] = ""
    insecure_loopback: Annotated[
        bool,
        Meta(description="Serve a loopback address without TLS, to every user of the host."),
    ] = False


class MetricsSettings(Table, frozen=True):
    """Where Prometheus reads metrics."""

    address: Annotated[
        str,
        Meta(
            description="IP address and port, such as 127.0.0.1:9477, or unix socket, such as"
            " unix:///run/ocigrpc/metrics.sock, to serve metrics at by HTTP, to everybody who can"
            " connect. Empty: none."
        ),
    ] = ""
    mode: Annotated[FileMode, Meta(description="Permissions of that socket, in octal.")] = FileMode(
        0o660
    )
    group: Annotated[
        str, Meta(description="Group of that socket, a name or a number. Empty: the service's own.")
    ] = ""

    @property
    def socket_path(self) -> str:
        """The path of the unix socket; empty for another address."""
        scheme, _, path = self.address.partition(":")
        return path.removeprefix("//") if scheme == "unix" else ""


class TracesSettings(Table, frozen=True):
    """Where spans are sent."""

    endpoint: Annotated[
        str,
        Meta(
            description="Collector of OpenTelemetry, such as http://127.0.0.1:4318, to send traces"
            " to by OTLP over HTTP. Empty: that of OTEL_EXPORTER_OTLP_ENDPOINT, or none."
        ),
    ] = ""


class TlsSettings(Table, frozen=True):
    """What mutual TLS needs, all of it."""

    cert_path: Annotated[
        str, Meta(description="Certificate of the service, in PEM, with its intermediate ones.")
    ] = ""
    key_path: Annotated[str, Meta(description="Its private key, in PEM.")] = ""
    client_ca_path: Annotated[
        str, Meta(description="Certificates of the authorities of clients, in PEM.")
    ] = ""
