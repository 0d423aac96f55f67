"""Many pulls and removals at once, of images that share layers."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor

from tests.bed.hosts.leaks import until
from tests.bed.images.layers import file
from tests.bed.images.layout import image
from tests.bed.images.pulling import Puller
from tests.bed.images.registry import Registry

BYTES = bytes(range(256)) * 4096


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
    assert (puller.storage.images(), puller.storage.layers()) == ([], [])
