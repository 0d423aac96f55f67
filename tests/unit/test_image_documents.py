"""Manifests and configs of images."""

from __future__ import annotations

import json

import pytest

from ocigrpc.oci.images.config import CONFIG_LIMIT_BYTES, ImageConfig, image_file, time_ns_of
from ocigrpc.oci.images.manifest import Blob, Index, Manifest, digest_of, parse_manifest
from ocigrpc.oci.images.platform import Platform

DIGESTS = [f"sha256:{number:064x}" for number in range(10)]


def manifest(**fields: object) -> bytes:
    return json.dumps({"schemaVersion": 2, **fields}).encode()


def entry(number: int, architecture: str, variant: str = "") -> dict[str, object]:
    platform = {"os": "linux", "architecture": architecture, "variant": variant}
    return {"digest": DIGESTS[number], "size": 1, "platform": platform}


def index(*entries: dict[str, object]) -> Index:
    found = parse_manifest(manifest(manifests=list(entries)))
    assert isinstance(found, Index)
    return found


def test_a_manifest_has_a_config_and_layers() -> None:
    blobs = [{"digest": digest, "size": size} for size, digest in enumerate(DIGESTS[:3])]
    found = parse_manifest(manifest(config=blobs[0], layers=blobs[1:], mediaType="ignored"))
    assert found == Manifest(Blob(DIGESTS[0], 0), (Blob(DIGESTS[1], 1), Blob(DIGESTS[2], 2)))


@pytest.mark.parametrize(
    "text",
    [
        *(b"", b"[]", b"{}", b'{"schemaVersion": 1, "fsLayers": []}', manifest(layers=[])),
        manifest(config={"digest": "sha256:1"}, layers=[]),
        manifest(config={"digest": DIGESTS[0], "size": -1}, layers=[]),
        manifest(config={"digest": "md5:" + "0" * 64}, layers=[]),
        manifest(config={"digest": DIGESTS[0]}, layers=[{}]),
        manifest(config={"digest": DIGESTS[0], "size": 1 << 63}, layers=[]),
        manifest(config={"digest": DIGESTS[0], "size": 10**30}, layers=[]),
        b'{"schemaVersion": 2, "x": ' + b"[" * 5000 + b"]" * 5000 + b"}",
        b" " * (4 << 20) + b"{}",
    ],
)
def test_what_is_no_manifest_is_refused(text: bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse_manifest(text)


def test_of_a_list_the_image_for_the_platform_is_chosen() -> None:
    found = index(
        entry(1, "arm", "v6"), entry(2, "arm64", "v8"), entry(3, "amd64"), entry(4, "arm")
    )

    def chosen(architecture: str, variant: str = "") -> str:
        choice = found.choose(Platform("linux", architecture, variant))
        return choice.digest if choice else ""

    assert chosen("amd64") == DIGESTS[3]
    assert chosen("amd64", "v1") == DIGESTS[3]
    assert chosen("arm64") == DIGESTS[2]
    assert chosen("arm", "v6") == DIGESTS[1]
    assert chosen("arm", "v7") == DIGESTS[4]
    assert chosen("s390x") == chosen("amd64", "v3") == ""


def test_a_digest_is_that_of_the_bytes() -> None:
    assert digest_of(b"") == (
        "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    )


def test_a_config_is_read_in_either_form() -> None:
    text = json.dumps(
        {
            "os": "linux",
            "architecture": "arm64",
            "created": "2026-01-02T03:04:05.678901234Z",
            "author": "somebody",
            "config": {
                "Entrypoint": ["/bin/app"],
                "Cmd": ["--serve"],
                "Env": ["PATH=/bin"],
                "WorkingDir": "/srv",
                "User": "web:web",
                "StopSignal": "SIGQUIT",
                "Volumes": {"/data": {}},
                "ExposedPorts": {"80/tcp": {}, "443/tcp": {}},
                "Labels": {"tier": "front"},
            },
            "rootfs": {"type": "layers", "diff_ids": DIGESTS[:1]},
            "history": [{"created_by": "ADD file", "empty_layer": True}],
            "docker_version": "ignored",
        }
    )
    found = image_file(text.encode())
    assert found.config == ImageConfig(
        entrypoint=("/bin/app",),
        cmd=("--serve",),
        env=("PATH=/bin",),
        working_dir="/srv",
        user="web:web",
        stop_signal="SIGQUIT",
        volumes=("/data",),
        exposed_ports=("443/tcp", "80/tcp"),
        labels={"tier": "front"},
    )
    assert found.platform == Platform("linux", "arm64")
    assert found.created_ns == 1767323045678901000
    assert (found.author, found.diff_ids) == ("somebody", (DIGESTS[0],))
    assert [(each.created_by, each.empty_layer) for each in found.history] == [("ADD file", True)]


def test_what_a_config_lacks_may_be_null() -> None:
    nulls = dict.fromkeys(("Entrypoint", "Cmd", "Env", "Volumes", "ExposedPorts", "Labels", "User"))
    text = {"config": nulls, "rootfs": None, "history": None, "created": None, "author": None}
    assert image_file(json.dumps(text).encode()).config == ImageConfig()
    assert image_file(b"{}").created_ns == 0
    assert image_file(b'{"created": "yesterday"}').created_ns == 0


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1970-01-01T00:00:01Z", 1),
        ("1970-01-01T00:00:01", 1),
        ("0001-01-01T00:00:00", -62_135_596_800),
        ("9999-12-31T23:59:59Z", 253_402_300_799),
        # Other years than these have no timestamp.
        ("0001-01-01T00:00:00+23:59", 0),
        ("9999-12-31T23:59:59-23:59", 0),
        ("0000-01-01T00:00:00Z", 0),
    ],
)
def test_a_time_is_in_utc_and_in_a_year_that_there_is(text: str, seconds: int) -> None:
    assert time_ns_of(text) == seconds * 1_000_000_000


@pytest.mark.parametrize(
    "text",
    [
        *(b"", b"[]", b'{"config": {"Env": "PATH=/bin"}}', b"{}" + b" " * CONFIG_LIMIT_BYTES),
        b'{"more": ' + b"[" * 5000 + b"]" * 5000 + b"}",
    ],
)
def test_what_is_no_config_is_refused(text: bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        image_file(text)
