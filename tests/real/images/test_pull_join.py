"""Pulls of one image at once, and those that are given up or cut off."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from ocigrpc.errors import Timeout
from ocigrpc.image_errors import RegistryUnauthorized
from ocigrpc.v1.image_pb2 import PullImageResponse
from tests.bed.hosts.leaks import until
from tests.bed.images.faulty_registry import FaultyRegistry, Slow, Stall, status
from tests.bed.images.layers import file
from tests.bed.images.layout import Image, image
from tests.bed.images.pulling import Puller
from tests.bed.images.registry import Registry

StartPulling = Callable[..., Puller]

BYTES = bytes(range(256)) * 4096


@pytest.fixture
def made() -> Image:
    return image([file("lower")], [file("upper", BYTES)])


@pytest.fixture
def stall(faulty_registry: FaultyRegistry, made: Image) -> Stall:
    """The upper layer comes to a halt, when the lower one is in the storage or about to be."""
    stall = Stall(after_bytes=1000)
    faulty_registry.goes_wrong(stall, made.layers[1].digest)
    return stall


class Pulling:
    """A pull whose answers nobody has waited for yet."""

    def __init__(self, puller: Puller, name: str) -> None:
        self._stream = puller.client.pull_image(name)
        self.first = next(self._stream)

    def rest(self) -> Sequence[PullImageResponse]:
        return list(self._stream)

    def leave(self) -> None:
        self._stream.close()


def test_calls_for_one_image_are_one_pull(
    puller: Puller, faulty_registry: FaultyRegistry, made: Image, stall: Stall
) -> None:
    names = [faulty_registry.push(made, "a", tag) for tag in ("1", "1", "2")]
    pulls = [Pulling(puller, name) for name in names]
    stall.wait()
    faulty_registry.goes_well()
    for pulling in pulls:
        *_, last = pulling.rest()
        assert last.image.image_id == made.image_id
    assert faulty_registry.count(f"blobs/{made.layers[1].digest}") == 1
    assert puller.storage.names() == dict.fromkeys(names, made.image_id)


@pytest.mark.parametrize("first", [True, False])
def test_a_pull_goes_on_while_somebody_wants_it(
    puller: Puller, faulty_registry: FaultyRegistry, made: Image, stall: Stall, first: bool
) -> None:
    names = [faulty_registry.push(made, "a", tag) for tag in ("1", "2")]
    pulls = [Pulling(puller, name) for name in names]
    stall.wait()
    pulls.pop(0 if first else 1).leave()
    (left,) = pulls
    # The call of who has left ends before the names are given.
    until(lambda: _calls(puller) == 1)
    faulty_registry.goes_well()
    *_, last = left.rest()
    assert list(last.image.names) == [names[1 if first else 0]]
    assert faulty_registry.count(f"blobs/{made.layers[1].digest}") == 1


def _calls(puller: Puller) -> int:
    return puller.client.status().streams.get("PullImage", 0)


def test_the_last_to_leave_ends_the_pull_and_nothing_is_left(
    puller: Puller, faulty_registry: FaultyRegistry, made: Image, stall: Stall
) -> None:
    name = faulty_registry.push(made, "a")
    pulls = [Pulling(puller, name) for _ in range(2)]
    stall.wait()
    until(lambda: any(not each.get("flags") for each in puller.storage.layers()))
    for pulling in pulls:
        pulling.leave()
    until(lambda: puller.leaks() == [] and puller.storage.layers() == [])
    faulty_registry.goes_well()
    assert puller.pull(name).image_id == made.image_id


def test_a_pull_that_takes_longer_than_its_client_waits_is_given_up(
    puller: Puller, faulty_registry: FaultyRegistry, made: Image, stall: Stall
) -> None:
    name = faulty_registry.push(made, "a")
    with pytest.raises(Timeout):
        list(puller.client.pull_image(name, timeout_s=1))
    until(lambda: puller.leaks() == [] and puller.storage.layers() == [])


def test_who_may_not_have_an_image_does_not_join(
    puller: Puller, faulty_registry: FaultyRegistry, made: Image, stall: Stall
) -> None:
    name = faulty_registry.push(made, "a")
    first = Pulling(puller, name)
    stall.wait()
    # Only what the name means is refused: the first pull may still ask for its other blobs.
    faulty_registry.goes_wrong(status(403), "/manifests/latest")
    with pytest.raises(RegistryUnauthorized):
        puller.pull(name)
    faulty_registry.goes_well()
    assert first.rest()[-1].image.image_id == made.image_id


def test_what_others_use_of_a_pull_that_fails_stays(
    puller: Puller, faulty_registry: FaultyRegistry
) -> None:
    lower = image([file("shared", BYTES)]).layers[0]
    names, stalls = list[str](), list[Stall]()
    for tag in ("first", "second"):
        made = image(lower, [file(tag, BYTES)])
        names.append(faulty_registry.push(made, "a", tag))
        stalls.append(Stall(after_bytes=1000))
        faulty_registry.goes_wrong(stalls[-1], made.layers[1].digest)
    first, second = (Pulling(puller, name) for name in names)
    for stall in stalls:
        stall.wait()
    until(lambda: lower.digest in _whole_layers(puller))
    first.leave()
    faulty_registry.goes_well()
    assert second.rest()[-1].image.names == [names[1]]
    until(lambda: puller.leaks() == [])


def _whole_layers(puller: Puller) -> set[str]:
    layers = puller.storage.layers()
    return {each["compressed-diff-digest"] for each in layers if not each.get("flags")}


def test_no_more_are_pulled_at_once_than_the_settings_allow(
    start_pulling: StartPulling, faulty_registry: FaultyRegistry
) -> None:
    puller = start_pulling(images_parallel_pulls=1)
    made = [image([file(str(number), BYTES)]) for number in range(2)]
    slow = Slow(1000)
    faulty_registry.goes_wrong(slow, made[0].layers[0].digest)
    names = [faulty_registry.push(each, str(number)) for number, each in enumerate(made)]
    first = Pulling(puller, names[0])
    slow.wait()
    with ThreadPoolExecutor() as pool:
        second = pool.submit(puller.pull, names[1])
        until(lambda: faulty_registry.count("/v2/1/manifests") > 0)
        faulty_registry.goes_well()
        assert first.rest()[-1].image.image_id == made[0].image_id
        assert second.result().image_id == made[1].image_id


def test_many_pulls_of_images_that_share_layers_are_all_whole(
    puller: Puller, registry: Registry
) -> None:
    lower = image([file("shared", BYTES)]).layers[0]
    made = [image(lower, [file(str(number))]) for number in range(6)]
    names = [registry.push(each, f"many-{number}") for number, each in enumerate(made)]
    with ThreadPoolExecutor(24) as pool:
        pulled = list(pool.map(puller.pull, names * 4))
    assert [each.image_id for each in pulled] == [each.image_id for each in made] * 4
    assert len(puller.storage.layers()) == 7


def test_the_end_of_the_service_undoes_pulls(
    puller: Puller, faulty_registry: FaultyRegistry, made: Image, stall: Stall
) -> None:
    pulling = Pulling(puller, faulty_registry.push(made, "a"))
    stall.wait()
    puller.service.end()
    assert puller.leaks() == []
    assert puller.storage.layers() == []
    pulling.leave()


def test_what_was_cut_off_with_the_service_is_undone_by_the_next(
    puller: Puller, faulty_registry: FaultyRegistry, made: Image, stall: Stall
) -> None:
    name = faulty_registry.push(made, "a")
    pulling = Pulling(puller, name)
    stall.wait()
    until(lambda: made.layers[0].digest in _whole_layers(puller))
    puller.service.die()
    assert puller.storage.layers() != []
    puller.service.start()
    until(lambda: puller.leaks() == [] and puller.storage.layers() == [])
    faulty_registry.goes_well()
    assert puller.pull(name).image_id == made.image_id
    pulling.leave()
