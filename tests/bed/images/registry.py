"""Debian's docker-registry on loopback, and a client that fills it with images."""

from __future__ import annotations

import base64
import http.client
import json
import socket
import ssl
import subprocess
import urllib.parse
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.bed.clients.certificates import Authority
from tests.bed.hosts.leaks import LIMIT_S, until
from tests.bed.images.layout import Blob, Image

USER, PASSWORD = "alice", "secret"

# That password, with the least work that bcrypt allows.
_HTPASSWD = f"{USER}:$2y$04$abcdefghijklmnopqrstuu2r9OfJnfCsdneAXAGHnS4UpFFP8WIrW\n"


@dataclass(frozen=True)
class Registry:
    """A registry that runs."""

    host: str
    """Its name in references, an address and a port."""
    authority: Path | None = None
    """The certificate of the authority that vouches for it, if it has TLS."""

    def reference(self, name: str, tag: str = "latest") -> str:
        return f"{self.host}/{name}:{tag}"

    def push(self, image: Image, name: str, tag: str = "latest") -> str:
        """Store an image; its reference."""
        with closing(self._connection()) as connection:
            for blob in image.blobs():
                self._upload(connection, name, blob)
            for manifest in image.manifests():
                reference = tag if manifest is image.manifest else manifest.digest
                headers = {"Content-Type": manifest.media_type}
                path = f"/v2/{name}/manifests/{reference}"
                self._request(connection, "PUT", path, manifest.data, headers, expected=201)
        return self.reference(name, tag)

    def answers(self) -> bool:
        """Whether it takes connections yet."""
        try:
            with closing(self._connection()) as connection:
                connection.request("GET", "/v2/")
                return connection.getresponse().status in (200, 401)
        except ConnectionError:
            return False

    def _upload(self, connection: http.client.HTTPConnection, name: str, blob: Blob) -> None:
        started = f"/v2/{name}/blobs/uploads/"
        location = self._request(connection, "POST", started, b"", {}, expected=202)
        url = urllib.parse.urlsplit(location)
        query = f"{url.query}&digest={urllib.parse.quote(blob.digest)}"
        headers = {"Content-Type": "application/octet-stream"}
        self._request(connection, "PUT", f"{url.path}?{query}", blob.data, headers, expected=201)

    def _request(
        self,
        connection: http.client.HTTPConnection,
        method: str,
        path: str,
        body: bytes,
        headers: Mapping[str, str],
        *,
        expected: int,
    ) -> str:
        """Where what was made is to be found."""
        credentials = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        authorization = {"Authorization": f"Basic {credentials}"} if self.authority else {}
        connection.request(method, path, body, {**headers, **authorization})
        response = connection.getresponse()
        answer = response.read()
        assert response.status == expected, (method, path, response.status, answer)
        return response.headers.get("Location", "")

    def _connection(self) -> http.client.HTTPConnection:
        if self.authority is None:
            return http.client.HTTPConnection(self.host, timeout=LIMIT_S)
        trusted = ssl.create_default_context(cafile=self.authority)
        return http.client.HTTPSConnection(self.host, timeout=LIMIT_S, context=trusted)


@contextmanager
def serving_registry(directory: Path, *, guarded: bool = False) -> Iterator[Registry]:
    """A registry whose files are below ``directory``.

    One that is ``guarded`` has TLS, by an authority that nobody knows, and lets in only ``USER``
    with ``PASSWORD``.
    """
    registry = Registry(f"127.0.0.1:{free_port()}")
    authentication: dict[str, object] = {}
    http_settings: dict[str, object] = {"addr": registry.host}
    if guarded:
        authority = Authority(directory / "authority")
        certificate, key = authority.vouch("registry")
        registry = Registry(registry.host, authority.cert)
        http_settings["tls"] = {"certificate": str(certificate), "key": str(key)}
        users = directory / "htpasswd"
        users.write_text(_HTPASSWD)
        authentication = {"auth": {"htpasswd": {"realm": "tests", "path": str(users)}}}
    settings = {
        "version": 0.1,
        "log": {"level": "warn", "accesslog": {"disabled": True}},
        "storage": {"filesystem": {"rootdirectory": str(directory / "files")}},
        "http": http_settings,
        **authentication,
    }
    # JSON is YAML as well.
    (directory / "config.yml").write_text(json.dumps(settings))
    with _running(directory) as process:
        until(lambda: process.poll() is not None or registry.answers())
        assert process.poll() is None, (directory / "log").read_text()
        yield registry


@contextmanager
def _running(directory: Path) -> Iterator[subprocess.Popen[bytes]]:
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(
            ["docker-registry", "serve", str(directory / "config.yml")],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            # Newer ones would send traces otherwise.
            env={"PATH": "/usr/bin:/bin", "OTEL_TRACES_EXPORTER": "none"},
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def free_port() -> int:
    """A port of loopback at which nobody listens, since docker-registry can't choose one."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port
