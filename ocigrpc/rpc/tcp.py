"""The TCP address that clients connect to, by mutual TLS with certificates that may change."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import cast

import grpc

from ocigrpc.errors import HostFailed, InvalidSettings
from ocigrpc.host.files.regular import read_regular_file
from ocigrpc.log import get_logger
from ocigrpc.settings.access import TlsSettings
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


class Certificates:
    """The service's certificate, and the authorities of its clients.

    They are read again when their files change.
    """

    def __init__(self, files: TlsSettings) -> None:
        """Raises ``InvalidSettings``, which names the setting of an unusable file."""
        self._cert, self._key = files.cert_path, files.key_path
        self._client_ca = files.client_ca_path
        self._lock = threading.Lock()
        self._stamp = self._files_stamp()
        self._first = self._read()

    def credentials(self) -> grpc.ServerCredentials:
        """Credentials that require a certificate of every client, and check the files each time."""
        # The stubs don't know of the None, which is documented.
        changed = cast(Callable[[], grpc.ServerCertificateConfiguration], self._changed)
        return grpc.dynamic_ssl_server_credentials(
            self._first, changed, require_client_authentication=True
        )

    def _changed(self) -> grpc.ServerCertificateConfiguration | None:
        """New certificates for a handshake, or None to keep those in use."""
        with self._lock:
            stamp = self._files_stamp()
            if stamp == self._stamp:
                return None
            # Set for wrong files too: they are logged once, and read again when they change.
            self._stamp = stamp
            try:
                configuration = self._read()
            except InvalidSettings as error:
                log.error("tls.reload_failed", reason=error.reason, **error.metadata)
                return None
        log.info("tls.reloaded", cert=self._cert, key=self._key, client_ca=self._client_ca)
        return configuration

    def _files_stamp(self) -> tuple[object, ...]:
        """A value that changes when one of the files does."""
        return tuple(map(_stamp, (self._cert, self._key, self._client_ca)))

    def _read(self) -> grpc.ServerCertificateConfiguration:
        # Imported here, since most services have no TLS, and it takes a megabyte.
        import ssl

        client_ca = _content("tls.client_ca_path", self._client_ca)
        key = _content("tls.key_path", self._key)
        cert = _content("tls.cert_path", self._cert)
        # grpc itself accepts any content, and then fails each handshake.
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        try:
            context.load_verify_locations(cadata=client_ca.decode("ascii", "ignore"))
        except (ssl.SSLError, ValueError) as error:
            raise _wrong("tls.client_ca_path", self._client_ca, error) from error
        try:
            # Without a password, OpenSSL would ask for one on the terminal.
            context.load_cert_chain(self._cert, self._key, password="")
        except ssl.SSLError as error:
            if error.reason == "KEY_VALUES_MISMATCH":
                raise _wrong("tls.key_path", self._key, error) from error
            raise _wrong("tls.cert_path", self._cert, error) from error
        except (OSError, ValueError) as error:
            raise _wrong("tls.cert_path", self._cert, error) from error
        return grpc.ssl_server_certificate_configuration([(key, cert)], client_ca)


def _stamp(path: str) -> object:
    try:
        found = os.stat(path)
    except OSError as error:
        return error.errno
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def _content(setting: str, path: str) -> bytes:
    try:
        # Of at most 1 MiB, which is enough for the certificates of many authorities.
        content = read_regular_file(path)
    except (OSError, ValueError) as error:
        raise _wrong(setting, path, error) from error
    if not content:
        raise _wrong(setting, path, ValueError("is empty"))
    return content


def _wrong(setting: str, path: str, error: Exception) -> InvalidSettings:
    detail = getattr(error, "strerror", None) or str(error)
    return InvalidSettings(
        f"{setting}: {path}: {detail}",
        reason="CERTIFICATE_UNUSABLE",
        key=setting,
        path=path,
        detail=detail,
    )
