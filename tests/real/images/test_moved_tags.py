"""A tag that moves while it is copied leaves no layer of the image that nobody has asked for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ocigrpc.errors import OcigrpcError
from tests.bed.hosts.leaks import until
from tests.bed.images.faulty_registry import Answer, FaultyRegistry, Stall, status, whole
from tests.bed.images.layers import file
from tests.bed.images.layout import image
from tests.real.images.conftest import StartPulling


@pytest.fixture
def by_tag(tmp_path: Path) -> Path:
    """A policy that wants signatures, of others, so that images are pulled by their tags."""
    signed = {"type": "signedBy", "keyType": "GPGKeys", "keyPath": "/nonexistent"}
    path = tmp_path / "by-tag.json"
    transports = {"docker": {"signed.example": [signed]}}
    default = [{"type": "insecureAcceptAnything"}]
    path.write_text(json.dumps({"default": default, "transports": transports}))
    return path


def test_a_tag_that_moves_leaves_no_layer_of_the_other_image(
    faulty_registry: FaultyRegistry, start_pulling: StartPulling, by_tag: Path
) -> None:
    made = image([file("made", b"made" * 1000)])
    other = image([file("low", b"low" * 1000)], [file("top", b"top" * 1000)])
    name, times, stall = faulty_registry.push(made, "it"), 0, Stall()

    def move(answer: Answer) -> None:
        nonlocal times
        times += 1
        faulty_registry.push(other, "it")
        (whole if times <= 2 else status(404))(answer)

    faulty_registry.goes_wrong(move, "manifests/latest")
    faulty_registry.goes_wrong(stall, other.layers[1].digest)
    puller = start_pulling(images_policy=by_tag, images_stall_timeout_s=5)
    with pytest.raises(OcigrpcError):
        puller.pull(name)
    # It was noticed, and resolved again.
    assert times == 3
    until(lambda: puller.leaks() == [])
    assert puller.storage.layers() == []
