"""What is said of a pull while it runs."""

from __future__ import annotations

import os
import time

from ocigrpc.v1.image_pb2 import (
    LAYER_STATE_PRESENT,
    LAYER_STATE_RECEIVING,
    LAYER_STATE_STORED,
    LAYER_STATE_UNPACKING,
    LAYER_STATE_WAITING,
    PullProgress,
)
from tests.bed.images.faulty_registry import FaultyRegistry, Slow, Stall
from tests.bed.images.layers import file
from tests.bed.images.layout import Packing, image, layer
from tests.bed.images.pulling import Puller

_MIB = 1 << 20
_STALLED_BYTES = 100_000


def test_each_layer_is_followed_until_it_is_stored(
    puller: Puller, faulty_registry: FaultyRegistry
) -> None:
    made = image([file("lower")], [file("upper", os.urandom(_MIB))], packing=Packing.NONE)
    lower, upper = made.layers
    stall = Stall(_STALLED_BYTES)
    faulty_registry.goes_wrong(stall, upper.digest)
    name = faulty_registry.push(made, "a")
    with puller.client.pull_image(name) as messages:
        first = next(messages).progress
        assert first.digest == made.digest
        assert first.total_bytes == len(lower.data) + len(upper.data)
        sizes = [(each.digest, each.size_bytes) for each in first.layers]
        assert sizes == [(each.digest, len(each.data)) for each in made.layers]
        assert {each.state for each in first.layers} == {LAYER_STATE_WAITING}
        seen = {each.digest: each for each in first.layers}
        progress = first
        while (
            seen[upper.digest].received_bytes < _STALLED_BYTES
            or seen[lower.digest].state != LAYER_STATE_STORED
        ):
            progress = next(messages).progress
            seen |= {each.digest: each for each in progress.layers}
        assert seen[upper.digest].state == LAYER_STATE_RECEIVING
        assert progress.received_bytes == len(lower.data) + _STALLED_BYTES
        faulty_registry.goes_well()
        *_, last = messages
    assert last.image.image_id == made.image_id


def test_a_layer_that_is_there_is_not_received(
    puller: Puller, faulty_registry: FaultyRegistry
) -> None:
    shared = layer([file("shared", os.urandom(_MIB))])
    puller.pull(faulty_registry.push(image(shared), "old"))
    made = image(shared, [file("more")])
    first, *_ = puller.responses(faulty_registry.push(made, "new"))
    present, more = first.progress.layers
    assert (present.state, present.received_bytes) == (LAYER_STATE_PRESENT, 0)
    assert more.state == LAYER_STATE_WAITING
    assert first.progress.total_bytes == len(made.layers[1].data)
    assert faulty_registry.count(shared.digest) == 1


def test_messages_have_what_has_changed_and_are_few(
    puller: Puller, faulty_registry: FaultyRegistry
) -> None:
    made = image([file("lower")], [file("upper", os.urandom(_MIB))], packing=Packing.NONE)
    upper = made.layers[1]
    faulty_registry.goes_wrong(Slow(_MIB // 2), upper.digest)
    began_s = time.monotonic()
    *messages, last = puller.responses(faulty_registry.push(made, "a"))
    took_s = time.monotonic() - began_s
    assert last.HasField("image")
    progress = [each.progress for each in messages]
    assert 3 < len(progress) <= 5 * took_s + 2
    received = [each.received_bytes for each in progress]
    assert received == sorted(received)
    assert max(received) <= progress[0].total_bytes
    assert any(_is_about(each, upper.digest) for each in progress[1:])
    states = [
        layer.state for each in progress for layer in each.layers if layer.digest == upper.digest
    ]
    assert states == sorted(states)
    assert set(states) <= {
        LAYER_STATE_WAITING,
        LAYER_STATE_RECEIVING,
        LAYER_STATE_UNPACKING,
        LAYER_STATE_STORED,
    }


def _is_about(progress: PullProgress, digest: str) -> bool:
    """Whether it is about this layer alone."""
    return [each.digest for each in progress.layers] == [digest]
