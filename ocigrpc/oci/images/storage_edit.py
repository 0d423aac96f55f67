"""Changes of the files of containers/storage, of which everything else stays as it is."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import msgspec

from ocigrpc.oci.decoding import decoded
from ocigrpc.oci.images.storage import stored_images

_LIST = msgspec.json.Decoder(list[dict[str, object]])


def with_names(text: bytes, names: Mapping[str, Sequence[str]]) -> bytes:
    """An ``images.json`` in which these images, by their ids, have these names, each once.

    No other image has one of them afterwards. Raises ``ValueError`` for malformed files and for
    images that are not there.
    """
    images = decoded(_LIST, text) if text else []
    if missing := names.keys() - {str(each.get("id")) for each in images}:
        raise ValueError(f"image {min(missing)} is not there")
    taken = {name for given in names.values() for name in given}
    for image in images:
        mine = names.get(str(image.get("id")))
        left = _without(image, taken) if mine is None else list(dict.fromkeys(mine))
        image["names"] = left or None
    return msgspec.json.encode(images)


def with_name(text: bytes, image_id: str, name: str) -> bytes:
    """An ``images.json`` in which an image has one more name; as :func:`with_names`."""
    return with_pulled(text, image_id, "", [name])


def without_names(text: bytes, image_id: str, names: Collection[str]) -> bytes:
    """An ``images.json`` in which an image has none of these names, if it is still there."""
    if image_id not in {each.id for each in stored_images(text)}:
        return text
    left = [each for each in _names_of(text, image_id) if each not in names]
    return with_names(text, {image_id: left})


def with_pulled(text: bytes, image_id: str, temporary: str, names: Collection[str]) -> bytes:
    """An ``images.json`` in which an image has these names as well, in place of a temporary one.

    As :func:`with_names`.
    """
    kept = [each for each in _names_of(text, image_id) if each not in (temporary, *names)]
    return with_names(text, {image_id: [*kept, *names]})


def with_incomplete(text: bytes, layer_ids: Collection[str]) -> bytes:
    """A ``layers.json`` in which these layers are not whole, so that they are removed.

    Any program that opens the store removes such layers. The same text if they are so already.
    Raises ``ValueError``.
    """
    layers, is_changed = decoded(_LIST, text) if text else [], False
    for layer in layers:
        found = layer.get("flags")
        flags = found if isinstance(found, dict) else {}
        if layer.get("id") in layer_ids and flags.get("incomplete") is not True:
            layer["flags"], is_changed = {**flags, "incomplete": True}, True
    return msgspec.json.encode(layers) if is_changed else text


def _names_of(text: bytes, image_id: str) -> Sequence[str]:
    """The names of an image; none if it is not there."""
    found = (each.names for each in stored_images(text) if each.id == image_id)
    return next(found, None) or []


def _without(image: Mapping[str, object], taken: Collection[str]) -> list[str]:
    names = image.get("names")
    return [each for each in names if each not in taken] if isinstance(names, list) else []
