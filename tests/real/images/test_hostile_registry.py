"""Registries that mean harm: what they send is typed, bounded, and harms no other image."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from ocigrpc.errors import InvalidArgument, OcigrpcError
from ocigrpc.image_errors import ImageUnusable, RegistryUnreachable
from ocigrpc.v1.image_pb2 import ImageSummary
from tests.bed.images.faulty_registry import Fault, FaultyRegistry, redirect
from tests.bed.images.floods import Drip, Flood, instead
from tests.bed.images.layers import file
from tests.bed.images.layout import Blob, Image, digest_of, image
from tests.bed.images.pulling import Puller

StartPulling = Callable[..., Puller]

MIB = 1 << 20
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
DIGEST = "sha256:" + "0a" * 32
# What Go's decoder takes, and others find too deep.
NESTED = "[" * 5000 + "]" * 5000


@pytest.fixture
def whole_image(puller: Puller, faulty_registry: FaultyRegistry) -> ImageSummary:
    """An image that is there before, and must stay so."""
    return puller.pull(faulty_registry.push(image([file("whole")]), "whole"))


def refused(puller: Puller, name: str, kept: ImageSummary) -> OcigrpcError:
    """The error of a pull that leaves nothing, and after which all other images are shown."""
    with pytest.raises(OcigrpcError) as raised:
        puller.pull(name)
    assert list(puller.client.list_images()) == [kept]
    assert puller.client.image_status(kept.image_id).image == kept
    assert puller.leaks() == []
    assert sum(len(text) for text in raised.value.metadata.values()) < 8192
    return raised.value


def with_config(made: Image, text: bytes, **descriptor: object) -> Image:
    """The same image with another config, of which the manifest may lie."""
    assert made.config is not None
    config = Blob(made.config.media_type, text, digest_of(text))
    fields = json.loads(made.manifest.data)
    fields["config"] = {**config.descriptor(), **descriptor}
    manifest = json.dumps(fields).encode()
    blob = Blob(made.manifest.media_type, manifest, digest_of(manifest))
    return Image(blob, config, made.layers)


def config_with(made: Image, **fields: object) -> bytes:
    assert made.config is not None
    return json.dumps({**json.loads(made.config.data), **fields}).encode()


@pytest.mark.parametrize("what", ["nested", "large", "large and lying", "mistyped"])
def test_a_config_that_can_not_be_read_is_damaged(
    puller: Puller, faulty_registry: FaultyRegistry, whole_image: ImageSummary, what: str
) -> None:
    made = image([file("a")])
    text = config_with(made, comment="x" * (2 * MIB))
    descriptor: dict[str, object] = {}
    if what == "nested":
        text = config_with(made, more=0).replace(b'"more": 0', b'"more": ' + NESTED.encode())
    elif what == "large and lying":
        descriptor = {"size": 1000}
    elif what == "mistyped":
        text = config_with(made, author=[])
    name = faulty_registry.push(with_config(made, text, **descriptor), "a")
    assert refused(puller, name, whole_image).reason == "IMAGE_DAMAGED"


@pytest.mark.parametrize("year", ["0001", "9999"])
def test_an_image_of_any_year_is_an_image(
    puller: Puller, faulty_registry: FaultyRegistry, whole_image: ImageSummary, year: str
) -> None:
    made = image([file("a")])
    text = config_with(made, created=f"{year}-01-01T00:00:00Z")
    pulled = puller.pull(faulty_registry.push(with_config(made, text), "a"))
    assert pulled.created_at.ToJsonString().startswith(year)
    assert {each.image_id for each in puller.client.list_images()} == {
        pulled.image_id,
        whole_image.image_id,
    }


def test_a_layer_of_an_impossible_size_is_damaged(
    puller: Puller, faulty_registry: FaultyRegistry, whole_image: ImageSummary
) -> None:
    made = image([file("a")])
    for size in ((1 << 63) - 1, 1 << 64, 10**30):
        fields = json.loads(made.manifest.data)
        fields["layers"][0]["size"] = size
        text = json.dumps(fields).encode()
        lying = Image(Blob(MANIFEST, text, digest_of(text)), made.config, made.layers)
        name = faulty_registry.push(lying, "a", f"{size}")
        assert refused(puller, name, whole_image).reason == "IMAGE_DAMAGED"


def list_of(count: int, architecture: str) -> bytes:
    platform = {"os": "linux", "architecture": architecture}
    entries = [{"digest": DIGEST, "size": 1, "platform": platform}] * count
    return json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}).encode()


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (instead(b"<!DOCTYPE html><html>", Content_Type="text/html"), "IMAGE_DAMAGED"),
        (instead(b"{}" + b" " * (300 * MIB)), "IMAGE_DAMAGED"),
        (instead(gzip.compress(bytes(300 * MIB), 1), Content_Encoding="gzip"), "IMAGE_DAMAGED"),
        (instead(gzip.compress(bytes(300 * MIB), 1)), "IMAGE_DAMAGED"),
        (instead(f'{{"schemaVersion": 2, "x": {NESTED}}}'.encode()), "IMAGE_DAMAGED"),
        (instead(list_of(100_000, "amd64"), Content_Type=INDEX), "IMAGE_DAMAGED"),
        (instead(list_of(1, "x" * MIB), Content_Type=INDEX), "IMAGE_PLATFORM_MISSING"),
        (Flood(), "IMAGE_DAMAGED"),
        (redirect("/v2/a/manifests/latest"), "REGISTRY_UNREACHABLE"),
    ],
    ids=["html", "large", "bomb", "gzip", "nested", "many", "words", "endless", "circle"],
)
def test_what_is_no_manifest_is_damaged(
    puller: Puller,
    faulty_registry: FaultyRegistry,
    whole_image: ImageSummary,
    fault: Fault,
    reason: str,
) -> None:
    faulty_registry.goes_wrong(fault, "/a/manifests/")
    name = faulty_registry.push(image([file("a")]), "a")
    assert refused(puller, name, whole_image).reason == reason


def test_a_layer_that_is_more_than_its_manifest_says_takes_no_disk(
    puller: Puller, faulty_registry: FaultyRegistry, whole_image: ImageSummary
) -> None:
    made = image([file("lower")], [file("a")])
    faulty_registry.goes_wrong(Flood(), made.layers[1].digest)
    error = refused(puller, faulty_registry.push(made, "a"), whole_image)
    assert isinstance(error, ImageUnusable)
    assert error.reason == "IMAGE_DAMAGED"


def test_a_registry_that_answers_without_an_end_is_too_slow(
    start_pulling: StartPulling, faulty_registry: FaultyRegistry
) -> None:
    puller = start_pulling(images_resolve_timeout_s=2, images_parallel_pulls=1)
    made = image([file("a")])
    name = faulty_registry.push(made, "a")
    faulty_registry.goes_wrong(Drip(), "/a/manifests/")
    with ThreadPoolExecutor(8) as pool:
        # More than there are places for at once.
        for pulled in [pool.submit(puller.pull, name) for _ in range(8)]:
            with pytest.raises(RegistryUnreachable) as raised:
                pulled.result()
            assert raised.value.metadata["cause"] == "slow"
    faulty_registry.goes_well()
    assert puller.pull(name).image_id == made.image_id


@contextmanager
def bounded_memory(puller: Puller) -> Iterator[None]:
    """The service's memory never grows by more than this in the block."""
    status, refs = (Path(f"/proc/{puller.service.pid}/{name}") for name in ("status", "clear_refs"))

    def peak_bytes() -> int:
        (line,) = (each for each in status.read_text().splitlines() if each.startswith("VmHWM:"))
        return int(line.split()[1]) << 10

    refs.write_text("5")
    before_bytes = peak_bytes()
    yield
    assert peak_bytes() - before_bytes < 64 * MIB


FLOOD = "head -c 300000000 /dev/zero"


@pytest.mark.parametrize("script", [FLOOD, f"{FLOOD} >&2; exit 1", f"{FLOOD} | tr '\\0' '[' >&2"])
def test_a_program_that_floods_takes_no_memory(
    start_pulling: StartPulling, tmp_path: Path, small: str, script: str
) -> None:
    flooding = tmp_path / "flooding-skopeo"
    flooding.write_text(f"#!/bin/sh\n{script}\n")
    flooding.chmod(0o755)
    puller = start_pulling(images_skopeo=flooding)
    with bounded_memory(puller), pytest.raises(OcigrpcError) as raised:
        puller.pull(small)
    assert raised.value.reason in ("IMAGE_DAMAGED", "IMAGE_PROGRAM_FAILED")


def test_a_layer_of_very_many_files_takes_no_memory_and_holds_up_nobody(
    puller: Puller, faulty_registry: FaultyRegistry
) -> None:
    made = image([file(f"{number:06}") for number in range(20_000)])
    name = faulty_registry.push(made, "many")
    with bounded_memory(puller), ThreadPoolExecutor(1) as pool:
        pulled = pool.submit(puller.pull, name)
        while not pulled.done():
            # It is whole, or not there.
            assert {each.image_id for each in puller.client.list_images()} <= {made.image_id}
        assert pulled.result().image_id == made.image_id


def test_a_history_without_an_end_is_shown_to_its_bound(
    puller: Puller, faulty_registry: FaultyRegistry
) -> None:
    steps = [{"created_by": "x" * 50, "empty_layer": True} for _ in range(10_000)]
    made = image([file("a")], history=[{"created_by": "a"}, *steps])
    puller.pull(faulty_registry.push(made, "a"))
    assert len(puller.client.image_status(made.image_id).history) == 1000


@pytest.mark.parametrize("name", ["a" * 4096, "r.io/" + "a/" * 2000 + "a", "a:" + "t" * 4096])
def test_a_name_of_any_length_is_no_name(puller: Puller, name: str) -> None:
    with pytest.raises(InvalidArgument) as raised:
        puller.pull(name)
    assert raised.value.reason == "INVALID_IMAGE_NAME"
