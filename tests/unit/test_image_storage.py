"""The files of containers/storage."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from ocigrpc.oci.images.lists import edit_list
from ocigrpc.oci.images.storage import (
    LAYERS_LIMIT,
    StoredContainer,
    StoredLayer,
    big_data_path,
    chain_of,
    on_lasting_layers,
    stored_containers,
    stored_images,
    stored_layers,
)
from ocigrpc.oci.images.storage_edit import with_incomplete, with_names
from ocigrpc.waiting import Deadline

IMAGES = [
    {"id": "a", "names": ["r.io/a:1", "r.io/a:2"], "layer": "l2", "unknown": {"kept": [1]}},
    {"id": "b", "names": None, "layer": "l1"},
]
LAYERS = [
    {"id": "l1", "diff-size": 5, "compressed-diff-digest": "sha256:1"},
    {"id": "l2", "parent": "l1", "diff-size": 7, "flags": {"other": 1}},
]


def names_of(text: bytes) -> dict[str, list[str] | None]:
    return {each.id: each.names for each in stored_images(text)}


def test_what_there_is_is_read() -> None:
    assert names_of(json.dumps(IMAGES).encode()) == {"a": ["r.io/a:1", "r.io/a:2"], "b": None}
    layers = stored_layers(json.dumps(LAYERS).encode())
    assert [(each.id, each.diff_size) for each in chain_of("l2", layers)] == [("l2", 7), ("l1", 5)]
    assert chain_of("", layers) == []
    (container,) = stored_containers(b'[{"id": "c", "image": "a", "layer": "l9", "names": null}]')
    assert (container.image, container.layer) == ("a", "l9")
    assert [stored_images(b""), stored_layers(b""), stored_containers(b"")] == [[], {}, []]


def test_a_container_rests_on_the_topmost_layer_that_lasts() -> None:
    volatile = {each: StoredLayer(each, parent) for each, parent in [("v2", "v1"), ("v1", "l2")]}
    containers = [StoredContainer(each, "a", each) for each in ("v2", "l1", "")]
    found = on_lasting_layers(containers, volatile)
    assert [each.layer for each in found] == ["l2", "l1", ""]
    endless = {"v1": StoredLayer("v1", "v2"), "v2": StoredLayer("v2", "v1")}
    assert len(list(on_lasting_layers(containers, endless))) == 3


@pytest.mark.parametrize(
    "text",
    [
        *(b"{", b"{}", b'[{"names": []}]', b'[{"id": 7}]'),
        b'[{"id": "a", "more": ' + b"[" * 5000 + b"]" * 5000 + b"}]",
    ],
)
def test_a_damaged_file_is_refused(text: bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        stored_images(text)


def test_a_chain_is_whole_or_refused() -> None:
    long = {str(each): StoredLayer(str(each), str(each + 1)) for each in range(LAYERS_LIMIT)}
    for top, layers, problem in [
        ("x", {}, "missing"),
        ("x", {"x": StoredLayer("x", flags={"incomplete": True})}, "not whole"),
        ("x", {"x": StoredLayer("x", "y")}, "missing"),
        ("x", {"x": StoredLayer("x", "x")}, "more than"),
        ("0", long, "missing"),
        ("0", {**long, str(LAYERS_LIMIT): StoredLayer(str(LAYERS_LIMIT))}, "more than"),
    ]:
        with pytest.raises(ValueError, match=problem):
            chain_of(top, layers)


def test_keys_that_are_no_file_names_are_encoded() -> None:
    assert big_data_path("a", "manifest") == "overlay-images/a/manifest"
    assert big_data_path("a", "sha256:1") == "overlay-images/a/=c2hhMjU2OjE="


def test_names_are_changed_and_nothing_else() -> None:
    changed = with_names(json.dumps(IMAGES).encode(), {"b": ["r.io/a:2", "r.io/b:1"]})
    assert names_of(changed) == {"a": ["r.io/a:1"], "b": ["r.io/a:2", "r.io/b:1"]}
    assert json.loads(changed)[0]["unknown"] == {"kept": [1]}
    assert names_of(with_names(changed, {"a": [], "b": ["r.io/a:1"]})) == {
        "a": None,
        "b": ["r.io/a:1"],
    }
    with pytest.raises(ValueError, match="c is not there"):
        with_names(changed, {"c": ["r.io/c:1"]})


def test_a_layer_is_marked_and_nothing_else() -> None:
    changed = with_incomplete(json.dumps(LAYERS).encode(), {"l2", "gone"})
    first, second = json.loads(changed)
    assert first == LAYERS[0]
    assert second == {**LAYERS[1], "flags": {"other": 1, "incomplete": True}}
    assert not stored_layers(changed)["l2"].is_whole


def test_a_list_that_stays_as_it_is_is_not_written(tmp_path: Path) -> None:
    path, marked = tmp_path / "layers.json", with_incomplete(json.dumps(LAYERS).encode(), {"l2"})
    path.write_bytes(marked)
    before = path.stat()
    edit_list(path, tmp_path / "lock", lambda text: with_incomplete(text, {"l2"}), Deadline(5))
    assert path.read_bytes() == marked
    assert os.path.samestat(path.stat(), before)
