"""How far a copy is, from the sizes of the files that skopeo writes what it receives into.

One file for each layer, in the order in which it began with them, and of the bytes that come from
the registry. The files bear no names of layers: until one is complete, which layer is in it is a
guess. The sum is exact.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from enum import StrEnum

from msgspec import Struct

from ocigrpc.oci.images.manifest import Blob


class LayerState(StrEnum):
    """What happens to a layer; see the proto."""

    WAITING = "waiting"
    RECEIVING = "receiving"
    UNPACKING = "unpacking"
    STORED = "stored"
    PRESENT = "present"


class LayerProgress(Struct, frozen=True):
    """How far a layer is."""

    digest: str
    size_bytes: int
    received_bytes: int
    state: LayerState


def layers_progress(
    layers: Sequence[Blob],
    files_bytes: Sequence[int],
    stored: Collection[str],
    present: Collection[str],
) -> Sequence[LayerProgress]:
    """How far each layer is, lowest first.

    ``files_bytes`` are the sizes of the files in the order of their names, ``stored`` the digests
    of the layers that are unpacked, ``present`` of those that were so before the copy began.
    """
    received = _received([each for each in layers if each.digest not in present], files_bytes)
    return [_progress(each, received, stored, present) for each in layers]


def _progress(
    layer: Blob, received: Mapping[str, int], stored: Collection[str], present: Collection[str]
) -> LayerProgress:
    size_bytes = layer.size_bytes
    if layer.digest in present:
        return LayerProgress(layer.digest, size_bytes, 0, LayerState.PRESENT)
    if layer.digest in stored:
        return LayerProgress(layer.digest, size_bytes, size_bytes, LayerState.STORED)
    received_bytes = received.get(layer.digest)
    if received_bytes is None:
        return LayerProgress(layer.digest, size_bytes, 0, LayerState.WAITING)
    is_there = received_bytes == size_bytes
    state = LayerState.UNPACKING if is_there else LayerState.RECEIVING
    return LayerProgress(layer.digest, size_bytes, received_bytes, state)


def _received(layers: Sequence[Blob], files_bytes: Sequence[int]) -> Mapping[str, int]:
    """The bytes of each layer that has begun: those whose size is known first."""
    missing = {each.digest: each.size_bytes for each in layers}
    received, growing = dict[str, int](), list[int]()
    for size_bytes in files_bytes:
        whole = next((each for each, size in missing.items() if size == size_bytes), None)
        if whole is None:
            growing.append(size_bytes)
        else:
            received[whole] = missing.pop(whole)
    for digest, size_bytes in zip(list(missing), growing, strict=False):
        received[digest] = min(size_bytes, missing[digest])
    return received
