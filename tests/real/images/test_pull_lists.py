"""Lists with several images for one platform, of which versions of skopeo choose different ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.bed.hosts.leaks import until
from tests.bed.images.faulty_registry import FaultyRegistry, Stall
from tests.bed.images.layers import file
from tests.bed.images.layout import Image, Packing, image, image_list
from tests.bed.images.pulling import Puller

StartPulling = Callable[..., Puller]

LAYERS = ([file("lower")], [file("upper", bytes(range(256)) * 4096)])


@pytest.fixture(scope="module")
def packed() -> list[Image]:
    """One image, packed in two ways."""
    made = [image(*LAYERS, packing=packing) for packing in (Packing.GZIP, Packing.ZSTD)]
    assert made[0].image_id == made[1].image_id
    return made


@pytest.fixture
def puller(start_pulling: StartPulling, tmp_path: Path, packed: list[Image]) -> Puller:
    """A service whose skopeo copies the last image of the list, as newer ones do with zstd."""
    listed, last = image_list(*packed).digest, packed[-1].digest
    program = tmp_path / "newer-skopeo"
    program.write_text(
        f"""#!/bin/sh
        for word; do
            shift
            case "$word" in docker://*@{listed}) word="${{word%@*}}@{last}" ;; esac
            set -- "$@" "$word"
        done
        exec /usr/bin/skopeo "$@"
        """
    )
    program.chmod(0o755)
    return start_pulling(images_skopeo=program)


def test_the_image_that_is_copied_is_the_one_that_was_chosen(
    puller: Puller, faulty_registry: FaultyRegistry, packed: list[Image]
) -> None:
    made = image_list(*packed)
    name = faulty_registry.push(made, "a")
    assert puller.pull(name).image_id == packed[0].image_id
    layers = puller.client.image_status(name).layers
    assert [each.digest for each in layers] == [each.digest for each in packed[0].layers]


def is_whole(layer: Mapping[str, Any]) -> bool:
    return bool(layer.get("compressed-diff-digest")) and not layer.get("flags")


def test_of_a_list_that_is_cut_off_nothing_is_left(
    puller: Puller, faulty_registry: FaultyRegistry, packed: list[Image]
) -> None:
    stall = Stall(after_bytes=100)
    uppers = "|".join(each.layers[1].digest for each in packed)
    faulty_registry.goes_wrong(stall, uppers)
    stream = puller.client.pull_image(faulty_registry.push(image_list(*packed), "a"))
    next(stream)
    stall.wait()
    until(lambda: any(map(is_whole, puller.storage.layers())))
    stream.close()
    until(lambda: puller.leaks() == [] and puller.storage.layers() == [])


def test_an_image_of_a_list_is_found_by_the_digest_of_the_list(
    puller: Puller, faulty_registry: FaultyRegistry, packed: list[Image]
) -> None:
    made = image_list(*packed)
    name = faulty_registry.push(made, "a")
    pulled = puller.pull(name)
    by_digest = f"{name.rpartition(':')[0]}@{made.digest}"
    assert list(pulled.digests) == [by_digest]
    asked = len(faulty_registry.asked)
    for _ in range(2):
        assert puller.client.image_status(by_digest).image.image_id == pulled.image_id
        assert puller.pull(by_digest).image_id == pulled.image_id
        puller.service.end()
        puller.service.start()
    assert len(faulty_registry.asked) == asked
