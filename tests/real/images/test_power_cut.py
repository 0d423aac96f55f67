"""What the loss of power leaves of pulls: images that are whole, and nothing of others.

It is simulated: everything that runs is killed at some moment, and all files are truncated that are
not of an image which has its name, since the disk need not have them.
"""

from __future__ import annotations

import os

import pytest

from tests.bed.hosts.leaks import until
from tests.bed.images.faulty_registry import FaultyRegistry, Slow, Stall
from tests.bed.images.layers import file
from tests.bed.images.layout import Image, image
from tests.bed.images.power import end_programs, lose_files
from tests.bed.images.pulling import Puller

LAYERS = 5
# No compression makes less of them.
BYTES = os.urandom(100_000)


@pytest.fixture
def made() -> Image:
    return image(*([file(f"{each}/{name}", BYTES) for name in "abc"] for each in range(LAYERS)))


def cut_power(puller: Puller) -> None:
    puller.service.die()
    end_programs(puller)
    lose_files(puller.storage)


def expect_whole(puller: Puller, image_id: str) -> None:
    """All files of an image are as they were made."""
    files = [
        each
        for diff in puller.storage.diffs(image_id)
        for each in diff.rglob("*")
        if each.is_file()
    ]
    assert len(files) == LAYERS * 3
    for each in files:
        assert each.read_bytes() == BYTES, each


@pytest.mark.parametrize("stored", range(LAYERS))
def test_layers_that_were_stored_are_not_used_again(
    puller: Puller, faulty_registry: FaultyRegistry, made: Image, stored: int
) -> None:
    stall = Stall(1000)
    faulty_registry.goes_wrong(stall, made.layers[stored].digest)
    name = faulty_registry.push(made, "a")
    stream = puller.client.pull_image(name)
    next(stream)
    stall.wait()
    until(lambda: _whole(puller) >= stored)
    cut_power(puller)
    faulty_registry.goes_well()
    puller.service.start()
    until(lambda: puller.leaks() == [] and puller.storage.layers() == [])
    assert puller.pull(name).image_id == made.image_id
    expect_whole(puller, made.image_id)
    stream.close()


def _whole(puller: Puller) -> int:
    return sum(not each.get("flags") for each in puller.storage.layers())


@pytest.mark.parametrize("bytes_per_s", [300_000, 1_000_000])
def test_at_any_moment_an_image_is_whole_or_not_there(
    puller: Puller, faulty_registry: FaultyRegistry, made: Image, bytes_per_s: int
) -> None:
    other = image(*([file(f"{each}/{name}", BYTES) for name in "xyz"] for each in range(LAYERS)))
    kept = puller.pull(faulty_registry.push(other, "other"))
    name = faulty_registry.push(made, "a")
    for moment in range(LAYERS):
        faulty_registry.goes_wrong(Slow(bytes_per_s), made.layers[moment].digest, times=1)
        stream = puller.client.pull_image(name)
        for _ in range(moment + 1):
            # It may be faster.
            next(stream, None)
        cut_power(puller)
        faulty_registry.goes_well()
        stream.close()
        puller.service.start()
        until(lambda: puller.leaks() == [])
        for each in puller.client.list_images():
            expect_whole(puller, each.image_id)
    assert puller.pull(name).image_id == made.image_id
    assert {each.image_id for each in puller.client.list_images()} == {
        kept.image_id,
        made.image_id,
    }
    expect_whole(puller, kept.image_id)
    expect_whole(puller, made.image_id)


def test_a_name_stays_with_the_old_image_until_the_new_one_is_whole(
    puller: Puller, faulty_registry: FaultyRegistry, made: Image
) -> None:
    old = image([file("old")])
    name = faulty_registry.push(old, "a")
    puller.pull(name)
    faulty_registry.push(made, "a")
    stall = Stall(1000)
    faulty_registry.goes_wrong(stall, made.layers[2].digest)
    stream = puller.client.pull_image(name)
    next(stream)
    stall.wait()
    assert puller.client.image_status(name).image.image_id == old.image_id
    cut_power(puller)
    faulty_registry.goes_well()
    puller.service.start()
    assert puller.client.image_status(name).image.image_id == old.image_id
    until(lambda: puller.leaks() == [])
    assert [diff.joinpath("old").exists() for diff in puller.storage.diffs(old.image_id)] == [True]
    stream.close()
