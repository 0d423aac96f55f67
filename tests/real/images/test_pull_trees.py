"""Whatever layers have, and however they are packed, a pull stores it as it is."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from itertools import product
from pathlib import Path

import pytest

from ocigrpc.image_errors import ImageUnusable
from tests.bed.images.faulty_registry import FaultyRegistry, redirect
from tests.bed.images.layers import (
    Entry,
    character_device,
    directory,
    fifo,
    file,
    file_capabilities,
    hard_link,
    opaque,
    sparse,
    symlink,
    whiteout,
)
from tests.bed.images.layout import Form, Packing, image
from tests.bed.images.pulling import Puller
from tests.bed.images.registry import Registry

_CAP_NET_RAW = 13
_GIB = 1 << 30
_LAYERS = 127

_LOWER = [
    directory("gone"),
    file("gone/file"),
    directory("full"),
    file("full/old"),
    file("removed"),
    file("set-user-ID", b"program", 0o4755, owner=(0, 1002)),
    file("able", b"program", 0o755, xattrs=file_capabilities(_CAP_NET_RAW)),
    file("named", xattrs={"user.bytes": b"\x00\xff"}),
    hard_link("also-named", "named"),
    character_device("null", 1, 3),
    fifo("fifo"),
    symlink("out", "/../../etc/passwd"),
]
_UPPER = [whiteout("removed"), whiteout("gone"), *opaque("full"), file("full/new")]


@pytest.mark.parametrize(
    ("form", "packing"),
    # Docker's media types have no zstd.
    [each for each in product(Form, Packing) if each != (Form.DOCKER, Packing.ZSTD)],
)
def test_layers_are_stored_as_they_are_however_they_are_packed(
    puller: Puller, registry: Registry, form: Form, packing: Packing
) -> None:
    made = image(_LOWER, _UPPER, form=form, packing=packing)
    name = registry.push(made, f"trees-{form.name.lower()}-{packing.name.lower()}")
    assert puller.pull(name).image_id == made.image_id
    lower, upper = puller.storage.diffs(made.image_id)
    program = (lower / "set-user-ID").stat()
    assert (program.st_mode & 0o7777, program.st_uid, program.st_gid) == (0o4755, 0, 1002)
    capabilities = file_capabilities(_CAP_NET_RAW)["security.capability"]
    assert os.getxattr(lower / "able", "security.capability") == capabilities
    assert os.getxattr(lower / "named", "user.bytes") == b"\x00\xff"
    assert (lower / "also-named").samefile(lower / "named")
    assert (lower / "null").stat().st_rdev == os.makedev(1, 3)
    assert (lower / "fifo").is_fifo()
    assert (lower / "out").readlink() == Path("/../../etc/passwd")
    for hidden in ((upper / each).lstat() for each in ("removed", "gone")):
        assert (stat.S_ISCHR(hidden.st_mode), hidden.st_rdev) == (True, 0)
    assert os.getxattr(upper / "full", "trusted.overlay.opaque") == b"y"
    assert [each.name for each in (upper / "full").iterdir()] == ["new"]


@pytest.mark.parametrize(
    "entries",
    [
        [file("../../../../../../../../../../../../ocigrpc-outside")],
        [file("/ocigrpc-outside")],
        [symlink("up", "/"), file("up/ocigrpc-outside")],
        [symlink("up", "/var/tmp"), hard_link("up/ocigrpc-outside", "up")],
    ],
    ids=["dots", "absolute", "through a link", "hard link through a link"],
)
def test_names_that_lead_out_of_the_root_lead_to_nothing_outside(
    puller: Puller, registry: Registry, entries: list[Entry]
) -> None:
    made = image(entries)
    # A link to nothing is damage.
    with suppress(ImageUnusable):
        puller.pull(registry.push(made, "names"))
    assert not any(Path(each, "ocigrpc-outside").exists() for each in ("/", "/var/tmp"))
    inside = {puller.storage.root / "overlay" / each["id"] for each in puller.storage.layers()}
    for path in puller.service.directory.rglob("ocigrpc-outside"):
        assert inside & set(path.parents)


def test_a_layer_of_a_form_that_there_is_not_is_damage(puller: Puller, registry: Registry) -> None:
    made = image([file("a")], form=Form.DOCKER, packing=Packing.ZSTD)
    with pytest.raises(ImageUnusable) as caught:
        puller.pull(registry.push(made, "no-form"))
    assert caught.value.reason == "IMAGE_DAMAGED"


def test_127_layers_are_pulled(puller: Puller, registry: Registry) -> None:
    layers = ([file(f"layer-{number}")] for number in range(_LAYERS))
    made = image(*layers, packing=Packing.NONE)
    assert puller.pull(registry.push(made, "deep")).image_id == made.image_id
    names = [os.listdir(each) for each in puller.storage.diffs(made.image_id)]
    assert names == [[f"layer-{number}"] for number in range(_LAYERS)]


def test_a_sparse_file_of_a_gigabyte_is_pulled_whole(puller: Puller, registry: Registry) -> None:
    made = image([sparse("sparse", _GIB, (0, b"begin"), (_GIB - 3, b"end"))])
    puller.pull(registry.push(made, "sparse"))
    [lower] = puller.storage.diffs(made.image_id)
    with (lower / "sparse").open("rb") as content:
        assert content.read(6) == b"begin\0"
        assert content.seek(-4, os.SEEK_END) == _GIB - 4
        assert content.read() == b"\0end"


def test_redirects_are_followed(puller: Puller, faulty_registry: FaultyRegistry) -> None:
    made = image([file("a")])
    name = faulty_registry.push(made, "a")
    faulty_registry.push(made, "elsewhere")
    layer = made.layers[0].digest
    elsewhere = f"http://{faulty_registry.host}/v2/elsewhere/blobs/{layer}"
    faulty_registry.goes_wrong(redirect(elsewhere), f"/a/blobs/{layer}")
    assert puller.pull(name).image_id == made.image_id
    assert faulty_registry.count("/elsewhere/") == 1
