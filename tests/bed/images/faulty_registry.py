"""A registry of images in memory whose answers go wrong as a test wants them to."""

from __future__ import annotations

import base64
import json
import re
import threading
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tests.bed.hosts.leaks import LIMIT_S
from tests.bed.images.layout import Blob, Image
from tests.bed.images.registry import PASSWORD, USER

IDENTITY_TOKEN = "an-identity-token"
_TOKEN = "a-bearer-token"
_PATH = re.compile(r"/v2/(?P<name>.+)/(?P<kind>manifests|blobs)/(?P<reference>[^/]+)")


class Answer:
    """A good answer to a request, for a fault to give in another way."""

    def __init__(self, handler: _Handler, blob: Blob) -> None:
        self._handler = handler
        asked = re.fullmatch(r"bytes=(\d+)-", handler.headers.get("Range", ""))
        self._start = int(asked[1]) if asked else 0
        self.data = blob.data[self._start :]
        self.headers = {
            "Content-Type": blob.media_type,
            "Docker-Content-Digest": blob.digest,
            "Accept-Ranges": "bytes",
        }
        if asked:
            whole = len(blob.data)
            self.headers["Content-Range"] = f"bytes {self._start}-{whole - 1}/{whole}"

    @property
    def asked_by(self) -> str:
        """What the client has sent to show who it is."""
        return self._handler.headers.get("Authorization", "")

    def begin(self) -> None:
        """Send the status and headers of the whole answer."""
        self.refuse(206 if self._start else 200, self.headers, len(self.data))

    def send(self, data: bytes) -> None:
        """Send a part of the body."""
        if self._handler.command != "HEAD":
            self._handler.wfile.write(data)

    def begin_chunks(self) -> None:
        """Send the status and headers of a body whose length nobody knows yet."""
        self._head(200, {**self.headers, "Transfer-Encoding": "chunked"})

    def send_chunk(self, data: bytes) -> None:
        """Send a part of such a body."""
        self.send(b"%x\r\n%s\r\n" % (len(data), data))

    def refuse(self, status: int, headers: Mapping[str, str], length: int = 0) -> None:
        """Send another status and these headers."""
        self._head(status, {**headers, "Content-Length": str(length)})

    def _head(self, status: int, headers: Mapping[str, str]) -> None:
        self._handler.send_response(status)
        for name, text in headers.items():
            self._handler.send_header(name, text)
        self._handler.end_headers()

    def hang_up(self) -> None:
        """Close the connection, in the middle of whatever was begun."""
        self._handler.wfile.flush()
        self._handler.close_connection = True


Fault = Callable[[Answer], None]


def whole(answer: Answer) -> None:
    """No fault."""
    answer.begin()
    answer.send(answer.data)


def status(code: int, **headers: str) -> Fault:
    """Answers with a status alone; underscores in names of headers mean dashes.

    After 429 skopeo asks again for half a minute, unless ``Retry_After`` is "0".
    """
    named = {name.replace("_", "-"): text for name, text in headers.items()}
    return lambda answer: answer.refuse(code, named)


def redirect(url: str) -> Fault:
    return status(307, Location=url)


def cut(after_bytes: int) -> Fault:
    """Closes the connection after so many bytes of a body."""

    def answer_half(answer: Answer) -> None:
        answer.begin()
        answer.send(answer.data[:after_bytes])
        answer.hang_up()

    return answer_half


def damaged(answer: Answer) -> None:
    """Changes the last byte."""
    answer.begin()
    answer.send(answer.data[:-1] + bytes([answer.data[-1] ^ 1]))


class Wait:
    """A fault that others wait for, and that waits for them."""

    def __init__(self) -> None:
        self._reached = threading.Event()
        self._goes_on = threading.Event()

    def wait(self) -> None:
        """Wait until an answer has come so far."""
        assert self._reached.wait(LIMIT_S)

    def go_on(self) -> None:
        """Send the rest, as fast as it goes, of all answers from now on."""
        self._goes_on.set()


class Stall(Wait):
    """Sends so many bytes of a body, and the rest when it is let go on."""

    def __init__(self, after_bytes: int = 0) -> None:
        super().__init__()
        self._after_bytes = after_bytes

    def __call__(self, answer: Answer) -> None:
        answer.begin()
        answer.send(answer.data[: self._after_bytes])
        self._reached.set()
        self._goes_on.wait()
        answer.send(answer.data[self._after_bytes :])


class Slow(Wait):
    """Sends a body at a rate; it is reached with the first bytes."""

    def __init__(self, bytes_per_s: int) -> None:
        super().__init__()
        self._bytes_per_s = bytes_per_s

    def __call__(self, answer: Answer) -> None:
        answer.begin()
        # Ten pieces a second, which look steady.
        piece_bytes = max(self._bytes_per_s // 10, 1)
        for at in range(0, len(answer.data), piece_bytes):
            if self._goes_on.is_set():
                answer.send(answer.data[at:])
                return
            answer.send(answer.data[at : at + piece_bytes])
            self._reached.set()
            self._goes_on.wait(piece_bytes / self._bytes_per_s)


@dataclass
class _Rule:
    pattern: re.Pattern[str]
    fault: Fault
    times: int | None


@dataclass(frozen=True)
class Asked:
    """A request as it came."""

    method: str
    path: str
    headers: Mapping[str, str]


@dataclass
class FaultyRegistry:
    """Has images by name and tag; ``asked`` are all requests since it began, in their order."""

    host: str = ""
    wants_token: bool = False
    """Whether clients need a bearer token, which they get for ``USER`` or ``IDENTITY_TOKEN``."""
    asked: list[Asked] = field(default_factory=list)
    _blobs: dict[tuple[str, str], Blob] = field(default_factory=dict)
    _rules: list[_Rule] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def push(self, image: Image, name: str, tag: str = "latest") -> str:
        """Have an image; its reference. Unlike other registries it does not mind lies."""
        for blob in (*image.blobs(), *image.manifests()):
            self._blobs[name, blob.digest] = blob
        self._blobs[name, tag] = image.manifest
        return f"{self.host}/{name}:{tag}"

    def goes_wrong(self, fault: Fault, at: str, times: int | None = None) -> None:
        """From now on answer requests in this way, whose path has the regular expression ``at``.

        After ``times`` answers it goes well again. Of two faults that fit, the first one counts.
        """
        self._rules.append(_Rule(re.compile(at), fault, times))

    def goes_well(self) -> None:
        """Let what stalls go on, and answer as it should from now on."""
        with self._lock:
            rules, self._rules = self._rules, []
        for rule in rules:
            if isinstance(rule.fault, Wait):
                rule.fault.go_on()

    def count(self, pattern: str) -> int:
        """How many requests there were for paths that have this regular expression."""
        return sum(bool(re.search(pattern, each.path)) for each in self.asked)

    def found(self, name: str, reference: str) -> Blob | None:
        return self._blobs.get((name, reference))

    def fault_at(self, path: str) -> Fault:
        with self._lock:
            for rule in self._rules:
                if rule.times != 0 and rule.pattern.search(path):
                    if rule.times is not None:
                        rule.times -= 1
                    return rule.fault
        return whole


class _Server(ThreadingHTTPServer):
    # A client that takes nothing would keep the test from ending otherwise.
    daemon_threads = True
    registry: FaultyRegistry


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_GET(self) -> None:
        registry = self.server.registry
        registry.asked.append(Asked(self.command, self.path, dict(self.headers.items())))
        with suppress(ConnectionError):
            if self.path.startswith("/token"):
                self._give_token(self.headers.get("Authorization", "") == _basic(USER, PASSWORD))
            elif registry.wants_token and not self._has_token():
                self._challenge()
            else:
                self._answer(registry)

    do_HEAD = do_GET

    def do_POST(self) -> None:
        """Give a token for an identity token, as OAuth 2 has it."""
        self.server.registry.asked.append(Asked("POST", self.path, dict(self.headers.items())))
        form = urllib.parse.parse_qs(self._body().decode())
        self._give_token(form.get("refresh_token") == [IDENTITY_TOKEN])

    def _body(self) -> bytes:
        """What the client sends, which skopeo sends in chunks."""
        if "Content-Length" in self.headers:
            return self.rfile.read(int(self.headers["Content-Length"]))
        chunks = []
        while length := int(self.rfile.readline(), 16):
            chunks.append(self.rfile.read(length))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(chunks)

    def _answer(self, registry: FaultyRegistry) -> None:
        # Before it is known whether there is something: a fault can be anywhere.
        fault = registry.fault_at(self.path)
        parts = _PATH.fullmatch(urllib.parse.urlsplit(self.path).path)
        if parts is None:
            blob: Blob | None = Blob("application/json", b"{}", "")
        else:
            blob = registry.found(parts["name"], parts["reference"])
        if blob is not None:
            fault(Answer(self, blob))
            return
        code = "MANIFEST_UNKNOWN" if parts and parts["kind"] == "manifests" else "BLOB_UNKNOWN"
        self._send_json(404, {"errors": [{"code": code, "message": "unknown"}]})

    def _has_token(self) -> bool:
        return self.headers.get("Authorization", "") == f"Bearer {_TOKEN}"

    def _challenge(self) -> None:
        realm = f"http://{self.server.registry.host}/token"
        challenge = f'Bearer realm="{realm}",service="tests"'
        errors = [{"code": "UNAUTHORIZED", "message": "authentication required"}]
        self._send_json(401, {"errors": errors}, {"WWW-Authenticate": challenge})

    def _give_token(self, may_have: bool) -> None:
        if may_have:
            self._send_json(200, {"token": _TOKEN, "access_token": _TOKEN, "expires_in": 300})
        else:
            self._send_json(401, {"errors": [{"code": "UNAUTHORIZED", "message": "who"}]})

    def _send_json(
        self, code: int, value: object, headers: Mapping[str, str] | None = None
    ) -> None:
        body = json.dumps(value).encode()
        self.send_response(code)
        named = {"Content-Type": "application/json", "Content-Length": str(len(body))}
        for name, text in {**named, **(headers or {})}.items():
            self.send_header(name, text)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: a test says what goes wrong."""


def _basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


@contextmanager
def serving_faulty_registry() -> Iterator[FaultyRegistry]:
    """A registry without TLS that runs as long as the block."""
    server = _Server(("127.0.0.1", 0), _Handler)
    server.registry = registry = FaultyRegistry(f"127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield registry
    finally:
        registry.goes_well()
        server.shutdown()
        thread.join()
        server.server_close()
