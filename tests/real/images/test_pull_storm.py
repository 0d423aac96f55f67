"""Many pulls and removals at once, of images that share layers; also while all is killed."""

from __future__ import annotations

import os
import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.bed.hosts.leaks import until
from tests.bed.images.faulty_registry import FaultyRegistry
from tests.bed.images.layers import file
from tests.bed.images.layout import image
from tests.bed.images.pulling import Puller
from tests.bed.images.registry import Registry
from tests.bed.images.storages import Skopeo
from tests.bed.loads.image_storm import ImageStorm, made_images

BYTES = bytes(range(256)) * 4096
KILLS = 8


def test_pulls_and_removals_of_images_that_share_layers(puller: Puller, registry: Registry) -> None:
    lower = image([file("shared", BYTES)], [file("more", BYTES)]).layers
    made = [image(*lower, [file(str(number))]) for number in range(5)]
    names = [registry.push(each, f"storm-{number}") for number, each in enumerate(made)]

    def work(seed: int) -> None:
        for name in random.Random(seed).sample(names, len(names)):
            assert puller.pull(name).image_id
            puller.client.remove_image(name)

    with ThreadPoolExecutor(20) as pool:
        for done in [pool.submit(work, seed) for seed in range(20)]:
            done.result()
    until(lambda: puller.leaks() == [])
    for name in names:
        puller.client.remove_image(name)
    # A pull that has just answered may still have them for a moment.
    until(lambda: (puller.storage.images(), puller.storage.layers()) == ([], []))


@pytest.mark.timeout(600)
def test_images_are_whole_or_gone_whenever_all_is_killed(
    puller: Puller,
    faulty_registry: FaultyRegistry,
    skopeo: Skopeo,
    rootfs: Path,
    tmp_path: Path,
) -> None:
    seed = int.from_bytes(os.urandom(4))
    print("seed", seed)
    storm = ImageStorm(puller, faulty_registry, made_images(rootfs, 4), seed)
    storm.rage(KILLS)
    print(storm.toll)
    storm.expect_readable(skopeo, tmp_path)
    storm.clear()
