"""Command lines, errors and progress of skopeo."""

from __future__ import annotations

import base64
import json

import pytest

from ocigrpc.oci.images.manifest import Blob
from ocigrpc.oci.images.platform import Platform
from ocigrpc.oci.images.progress import LayerState, layers_progress
from ocigrpc.oci.images.skopeo import Credentials, Skopeo, auth_file, without_secrets
from ocigrpc.oci.images.skopeo_errors import is_removed, meaning_of, message_of

SKOPEO = Skopeo("/usr/bin/skopeo", "/root/images", "/run/images", policy="/p.json")
APART = ["unshare", "--mount", "--propagation", "slave", "--"]
GLOBAL = ["/usr/bin/skopeo", "--tmpdir", "/s", "--policy", "/p.json"]
STORE = "containers-storage:[overlay@/root/images+/run/images]"
LAYERS = [Blob("d1", 100), Blob("d2", 200), Blob("d3", 300)]


def test_command_lines_name_the_store_and_no_secret() -> None:
    source = "docker://r.io/a@sha256:1"
    assert list(SKOPEO.inspect_raw(source, "/s", "/s/auth.json")) == [
        *GLOBAL,
        *("inspect", "--raw", "--authfile", "/s/auth.json", source),
    ]
    platform = Platform("linux", "arm", "v7")
    assert list(SKOPEO.copy_in(source, "n:1", "/s", "/s/auth.json", platform)) == [
        *APART,
        *GLOBAL,
        *("--override-os", "linux", "--override-arch", "arm", "--override-variant", "v7"),
        *("copy", "-q", "--src-authfile", "/s/auth.json", source, f"{STORE}n:1"),
    ]
    assert list(SKOPEO.delete("abc", "/s")) == [*APART, *GLOBAL, "delete", f"{STORE}@abc"]
    copy = ["copy", "-q", f"{STORE}@abc", "docker-archive:/dev/stdout:n:1"]
    assert list(SKOPEO.copy_out("abc", "docker-archive:/dev/stdout:n:1", "/s")) == [
        *APART,
        *(GLOBAL[0], "--tmpdir", "/s", "--insecure-policy"),
        *copy,
    ]


def test_credentials_are_for_one_registry_and_are_not_shown() -> None:
    def of(credentials: Credentials) -> object:
        return json.loads(auth_file("r.io", credentials))

    user = base64.b64encode(b"me:secret").decode()
    assert of(Credentials("me", "secret")) == {"auths": {"r.io": {"auth": user}}}
    token = base64.b64encode(b"<token>:").decode()
    assert of(Credentials(identity_token="t")) == {
        "auths": {"r.io": {"auth": token, "identitytoken": "t"}}
    }
    assert of(Credentials(auth_json='{"auths": {}}')) == {"auths": {}}
    assert auth_file("r.io", None) == b"{}"
    assert "secret" not in repr(Credentials("me", "secret"))


def test_what_is_secret_is_left_out_of_a_text() -> None:
    for credentials in (
        Credentials("me", "secret"),
        Credentials(identity_token="secret"),
        Credentials(auth_json='{"auths": {"r.io": {"auth": "bWU6c2VjcmV0"}, "s.io": {}}}'),
        Credentials(auth_json='{"auths": {"r.io": {"auth": "secret, and no base64"}}}'),
    ):
        auth = auth_file("r.io", credentials)
        (entry, *_) = json.loads(auth)["auths"].values()
        said = without_secrets(f"Basic {entry['auth']}, secret, and no base64: me", auth)
        assert "secret" not in said
        assert entry["auth"] not in said
        assert said.endswith(": me")
    assert without_secrets("a text", b"{}") == without_secrets("a text", b"{") == "a text"


def fatal(message: str) -> str:
    return f'time="2026" level=info msg="x"\ntime="2026" level=fatal msg="{message}"\n'


@pytest.mark.parametrize(
    ("message", "meaning"),
    [
        ("writing blob: storing: write /x: no space left on device", ("STORAGE_FULL", "")),
        ("open /x/images/storage.lock: read-only file system", ("HOST_FAILED", "")),
        ("Source image rejected: A signature was required", ("IMAGE_DENIED_BY_POLICY", "")),
        ("no image found in image index for architecture x", ("IMAGE_PLATFORM_MISSING", "")),
        ("reading manifest: unauthorized: authentication required", ("REGISTRY_UNAUTHORIZED", "")),
        ("reading manifest 1 in r.io/a: manifest unknown", ("IMAGE_NOT_FOUND", "")),
        (r"Digest did not match, expected sha256:1, got \"2\"", ("IMAGE_DAMAGED", "")),
        (
            "pinging container registry r.io: Get: x509: unknown authority",
            ("REGISTRY_UNREACHABLE", "tls"),
        ),
        (
            "pinging container registry r.io: dial tcp: connection refused",
            ("REGISTRY_UNREACHABLE", "connect"),
        ),
        ("StatusCode: 429, slow down", ("REGISTRY_UNREACHABLE", "rate")),
        ("something new", ("IMAGE_PROGRAM_FAILED", "")),
        ("reading manifest 1 in r.io/unauthorized: manifest unknown", ("IMAGE_NOT_FOUND", "")),
        (
            r"reading localhost/tls: docker://r.io/x/x509:1: odd",
            ("IMAGE_PROGRAM_FAILED", ""),
        ),
        ("invalid username/password: no", ("REGISTRY_UNAUTHORIZED", "")),
        (
            r"\"https://cdn.io\": lookup cdn.io: no such host",
            ("REGISTRY_UNREACHABLE", "connect"),
        ),
        (
            "reading blob: dial tcp: connection refused",
            ("REGISTRY_UNREACHABLE", "connect"),
        ),
        ("Get r.io/b: dial tcp: no route to host", ("REGISTRY_UNREACHABLE", "connect")),
        ("Get /v2/: stopped after 10 redirects", ("REGISTRY_UNREACHABLE", "server")),
        ("exceeded maximum allowed size of 4194304 bytes", ("IMAGE_DAMAGED", "")),
        ("writing blob: blob size mismatch", ("IMAGE_DAMAGED", "")),
        ("parsing image configuration: json: cannot unmarshal", ("IMAGE_DAMAGED", "")),
        (
            r"storing blob to file \"/x/1\": happened during read: unexpected EOF",
            ("REGISTRY_UNREACHABLE", "cut"),
        ),
        (r"storing blob to file \"/x/1\": unexpected EOF", ("IMAGE_DAMAGED", "")),
        (r"storing blob to file \"/x/1\": gzip: invalid checksum", ("IMAGE_DAMAGED", "")),
        ("adding layer: processing tar file(unexpected EOF): exit 1", ("IMAGE_DAMAGED", "")),
        ("unpacking failed (error: x; output: not a directory)", ("IMAGE_DAMAGED", "")),
        ("unsupported docker v2s2 media type: 1", ("IMAGE_DAMAGED", "")),
        ("reading blob sha256:1: open /x: no such file or directory", ("SOURCE_UNREADABLE", "")),
    ],
)
def test_an_error_is_known_by_its_words(message: str, meaning: tuple[str, str]) -> None:
    assert meaning_of(fatal(message)) == meaning


def test_a_copy_whose_image_another_program_has_removed_is_known() -> None:
    for words in ("layer not known", "image not known", "identifier is not a layer, image, or"):
        assert is_removed(fatal(f"committing the finished image: x: {words}"))
    assert not is_removed(fatal("manifest unknown"))


def test_the_message_is_the_last_fatal_line() -> None:
    assert message_of(fatal(r"a \"b\"")) == 'a "b"'
    assert message_of("panic: oops\n") == "panic: oops"


def test_bytes_of_files_are_those_of_layers_and_sum_up() -> None:
    found = layers_progress(LAYERS, [200, 7], stored=["d2"], present=[])
    assert [(each.received_bytes, each.state) for each in found] == [
        (7, LayerState.RECEIVING),
        (200, LayerState.STORED),
        (0, LayerState.WAITING),
    ]
    found = layers_progress(LAYERS, [100, 300], stored=[], present=["d2"])
    assert [(each.received_bytes, each.state) for each in found] == [
        (100, LayerState.UNPACKING),
        (0, LayerState.PRESENT),
        (300, LayerState.UNPACKING),
    ]


def test_no_layer_has_more_than_its_size() -> None:
    (first, *_) = layers_progress(LAYERS, [150], stored=[], present=[])
    assert first.received_bytes == 100
    assert layers_progress(LAYERS, [1, 2, 3, 4], stored=[], present=[])[2].received_bytes == 3
